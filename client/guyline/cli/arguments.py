"""The command line: which commands there are, and what they take."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from guyline.cli.arguments_process import (
    add_attach,
    add_kill,
    add_logs,
    add_prune,
    add_ps,
    add_rm,
    add_top,
    add_view,
    add_wait,
)
from guyline.cli.arguments_start import add_agent, add_exec, add_up
from guyline.cli.value import to_given, to_text

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_USAGE_FAILURE = 2
_USAGE_FAILURES = {"exec": 125}  # every small code could be the command's


class _Parser(argparse.ArgumentParser):
    """Fails with a code of its own: of `exec`, every small code could be the command's."""

    usage_failure = _USAGE_FAILURE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_failure, f"{self.prog}: {message}\n")

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """As documented, but raises OSError if nobody can read it: some releases of Python keep that to themselves."""
        (file or sys.stdout).write(self.format_help())


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as a namespace; ``module`` is the module below ``guyline.cli`` whose ``run`` takes it.

    Exits by itself on ``--help``, and with 2 (``exec``: 125) on wrong usage.
    """
    options, unknown = build().parse_known_args(argv)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")  # the command's own parser
    if not options.module:
        options.parser.error("give its settings behind `agent`; `guyline agent --help` lists them")
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
        command.usage_failure = _USAGE_FAILURES.get(name, _USAGE_FAILURE)
        fill(command)
    return parser


class _Version(argparse.Action):
    """Asks the installed distribution, which only this needs."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        sys.stdout.write(f"guyline {version('guyline')}\n")
        parser.exit()


def _everywhere() -> _Parser:
    """What stands before or after the command. SUPPRESS: one left out after it must not undo one given before it."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("which agent, and how to answer")
    group.add_argument(
        "--address", type=to_text, help="unix:PATH or tcp://HOST:PORT; otherwise $GUYLINE_AGENT_ADDRESS, or yours"
    )
    group.add_argument(
        "--chat", metavar="ID", type=to_text, help="act for this chat: see and start only what is its own"
    )
    group.add_argument("--json", action="store_true", help="answer in JSON; streams give a line for each event")
    group.add_argument("--token-file", metavar="FILE", type=to_given, help="holds the token that an agent on tcp wants")
    group.add_argument("--ca-file", metavar="FILE", type=to_given, help="certificates that vouch for an agent on tcp")
    group.add_argument("--insecure", action="store_true", help="no TLS, to an agent on tcp on this machine")
    return parser


def _nothing(parser: argparse.ArgumentParser) -> None:
    """Some commands take nothing."""


def _agent(parser: argparse.ArgumentParser) -> None:
    add_agent(parser, everywhere=_everywhere())


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.epilog = 'for example: eval "$(guyline completion bash)"'


_COMMANDS = (
    ("up", "Start an agent of your own, here in the foreground.", "up", add_up),
    ("agent", "Run the agent itself, or upgrade a running one.", "", _agent),
    ("exec", "Run a command in the workspace and stream its output.", "execute", add_exec),
    ("ps", "List processes.", "ps", add_ps),
    ("top", "Show what runs, with CPU and memory, as it changes.", "top", add_top),
    ("attach", "Take a running command up again, as if `exec` had started it.", "attach", add_attach),
    ("logs", "Show what a process printed.", "logs", add_logs),
    ("view", "Show what a process printed as a model would see it.", "view", add_view),
    ("wait", "Wait until a process has ended, printed something, opened a port or made a file.", "wait", add_wait),
    ("kill", "Send a signal to processes.", "kill", add_kill),
    ("rm", "Forget processes that have ended, and what they printed.", "rm", add_rm),
    ("prune", "Forget all processes that have ended, and what they printed.", "prune", add_prune),
    ("info", "Show who the agent is, what it can do and what it holds.", "info", _nothing),
    ("completion", "Print a completion script for a shell.", "completion", _completion),
)
