"""The command line: which commands there are, and what they take."""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from guyline.cli.keys import DETACH_KEYS, to_keys

_USAGE_FAILURE = 2
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

_EXIT_CODES = """\
exit codes: the command's own; 128+n if signal n ended it; 127 if it was not found, 126 if it could not be executed;
125 if guyline itself failed."""


class _Parser(argparse.ArgumentParser):
    """Fails with a code of its own: of `exec`, every small code could be the command's."""

    usage_failure = _USAGE_FAILURE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_failure, f"{self.prog}: {message}\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as a namespace; ``module`` is the module below ``guyline.cli`` whose ``run`` takes it.

    Exits by itself on ``--help``, and with 2 (``exec``: 125) on wrong usage.
    """
    options, unknown = build().parse_known_args(argv)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")  # the command's own parser
    for name, otherwise in (("address", None), ("json", False), ("chat", None)):
        if not hasattr(options, name):
            setattr(options, name, otherwise)
    for name in ("token_file", "ca_file"):
        setattr(options, name, getattr(options, name, None))
    options.insecure = getattr(options, "insecure", False)
    return options


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    everywhere = _everywhere()
    parser = _Parser(
        prog="guyline",
        description="Runs commands in a workspace, and keeps them when everything around them breaks.",
        parents=[everywhere],
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, summary, module, fill in _COMMANDS:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            parents=[everywhere],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(module=module, parser=command)
        fill(command)
    return parser


class _Version(argparse.Action):
    """Asks the installed distribution, which only this needs."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        parser.exit(0, f"guyline {version('guyline')}\n")


def _everywhere() -> _Parser:
    """What stands before or after the command. SUPPRESS: one left out after it must not undo one given before it."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("which agent, and how to answer")
    group.add_argument("--address", help="unix:PATH or tcp://HOST:PORT; otherwise $GUYLINE_AGENT_ADDRESS, or yours")
    group.add_argument("--chat", metavar="ID", help="act for this chat: see and start only what is its own")
    group.add_argument("--json", action="store_true", help="answer in JSON; streams give a line for each event")
    group.add_argument("--token-file", metavar="FILE", help="holds the token that an agent on tcp wants")
    group.add_argument("--ca-file", metavar="FILE", help="certificates that vouch for an agent on tcp")
    group.add_argument("--insecure", action="store_true", help="no TLS, to an agent on tcp on this machine")
    return parser


def _up(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Ends with Ctrl-C, and all that was started with it. For a service, use `guyline agent`."


def _agent(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.epilog = "`guyline agent --help` lists the settings of the agent itself."
    upgrade = commands.add_parser("upgrade", help="replace a running agent's code; its processes go on")
    upgrade.add_argument("--python", metavar="PATH", default="", help="the interpreter that has the new code")


def _exec(parser: argparse.ArgumentParser) -> None:
    assert isinstance(parser, _Parser), "argparse is told to make these"
    parser.usage_failure = 125
    parser.usage = "guyline exec [options] [--] PROGRAM [ARGUMENT ...]\n       guyline exec [options] -c LINE"
    parser.epilog = (
        "Ctrl-C interrupts the command; a second one kills it. SIGTERM, SIGQUIT and SIGHUP are passed on. When the\n"
        "output is closed (`| head`), the command gets SIGPIPE, as in any pipeline.\n\n" + _EXIT_CODES
    )
    parser.add_argument("-c", dest="line", metavar="LINE", help="a line for `sh -c`, in place of a program")
    parser.add_argument("-d", "--detach", action="store_true", help="start it, print its id, and leave it")
    parser.add_argument("-i", "--interactive", action="store_true", help="it reads this command's standard input")
    parser.add_argument(
        "-t", "--tty", action="store_true", help="it has a terminal: this one, if there is one (implies -i)"
    )
    _detach_keys(parser)
    parser.add_argument(
        "--cwd",
        metavar="DIR",
        default="",
        help="where to start it (default: here, of a remote agent its own directory)",
    )
    parser.add_argument(
        "--env", metavar="K=V", type=_variable, action="append", default=[], help="a variable; K alone passes yours on"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--separate", dest="separate", action="store_true", default=None,
        help="tell stdout and stderr apart (default if they are different files)",
    )  # fmt: skip
    output.add_argument("--merged", dest="separate", action="store_false", help="one stream, in the order written")
    parser.add_argument("argv", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _ps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-w", "--watch", action="store_true", help="go on, and show changes as they come")
    parser.add_argument("-n", "--ended", metavar="N", type=_count, default=10, help="so many ended ones (default: 10)")


def _attach(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Signals and exit code are those of `guyline exec`: this takes its place.\n\n" + _EXIT_CODES
    _process(parser)
    parser.add_argument(
        "-i", "--interactive", action="store_true", help="pass standard input on; a terminal gets it in any case"
    )
    _detach_keys(parser)
    _where(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    _process(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
    parser.add_argument("-t", "--timestamps", action="store_true", help="say when each line was printed")
    _where(parser)


def _kill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("processes", metavar="PROCESS", nargs="+", help="an id of `guyline ps`, or how it begins")
    parser.add_argument("-s", "--signal", type=_signal, default=15, help="name or number (default: TERM)")
    parser.add_argument(
        "--all", action="store_true", help="also what has left its group: a shell's jobs; with a cgroup, daemons"
    )
    parser.add_argument(
        "--grace", metavar="TIME", type=_duration, help="then INT, TERM, KILL, each after so long: 500ms, 5s, 2m"
    )
    parser.add_argument(
        "--wait", metavar="TIME", nargs="?", const=30.0, type=_optional_duration,
        help="until everybody is gone (default: 30s at most); exits with 1 if somebody is not",
    )  # fmt: skip


def _nothing(parser: argparse.ArgumentParser) -> None:
    """Some commands take nothing."""


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.epilog = 'for example: eval "$(guyline completion bash)"'


def _process(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESS", help="an id of `guyline ps`, or how it begins")


def _detach_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detach-keys", metavar="KEYS", type=_keys, default=DETACH_KEYS,
        help="typed in a terminal, these leave the process to itself (default: ctrl-p,ctrl-q; none: no keys do)",
    )  # fmt: skip


def _where(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--since", metavar="WHEN", type=_since,
        help="begin with what was printed so long ago (90s, 10m, 2h) or at a time (2026-11-21T10:00:00, local unless "
        "it says otherwise), or behind so many bytes of output (a plain number)",
    )  # fmt: skip
    where.add_argument(
        "--tail", metavar="N", type=_tail, help="begin with the last N lines; with a unit (64k, 1m, 100b) bytes"
    )


_COMMANDS = (
    ("up", "Start an agent of your own, here in the foreground.", "up", _up),
    ("agent", "Run the agent itself, or upgrade a running one.", "upgrade", _agent),
    ("exec", "Run a command in the workspace and stream its output.", "execute", _exec),
    ("ps", "List processes.", "ps", _ps),
    ("attach", "Take a running command up again, as if `exec` had started it.", "attach", _attach),
    ("logs", "Show what a process printed.", "logs", _logs),
    ("kill", "Send a signal to processes.", "kill", _kill),
    ("info", "Show who the agent is, what it can do and what it holds.", "info", _nothing),
    ("completion", "Print a completion script for a shell.", "completion", _completion),
)


def _variable(text: str) -> tuple[str, str]:
    import os

    name, equals, value = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} has no name; give K=V, or K to pass your own K on")
    if not equals and name not in os.environ:
        raise argparse.ArgumentTypeError(f"{name} is not set here; give {name}=VALUE")
    return name, value if equals else os.environ[name]


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _since(text: str) -> int | datetime:
    """An offset, or a time."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        if text[:1].isdecimal() and text[-1:] in _UNITS:
            return datetime.now(UTC) - timedelta(seconds=_duration(text))
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; give 90s, 10m, 2h, or 2026-11-21T10:00:00, or a number of bytes"
        ) from None


def _tail(text: str) -> tuple[int, bool]:
    """A number, and whether it counts lines."""
    match = re.fullmatch(r"([0-9]+)([bkmg]?)", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of lines nor a size such as 64k")
    return int(match[1]) * _SIZES[match[2]], not match[2]


def _keys(text: str) -> bytes:
    try:
        return to_keys(text)
    except ValueError as why:
        raise argparse.ArgumentTypeError(str(why)) from why


def _optional_duration(text: str) -> float:
    try:
        return _duration(text)
    except argparse.ArgumentTypeError as why:  # most likely it was not meant as one
        raise argparse.ArgumentTypeError(f"{why}; without one it goes last") from why


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; give 500ms, 5s, 2m")
    return float(match[1]) * _UNITS[match[2]]


def _signal(text: str) -> int:
    import signal

    if text.isascii() and text.isdecimal() and 1 <= int(text) <= signal.NSIG - 1:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if f"SIG{name}" in signal.Signals.__members__:
        return signal.Signals[f"SIG{name}"]
    raise argparse.ArgumentTypeError(f"{text!r} is no signal; `kill -l` lists them")
