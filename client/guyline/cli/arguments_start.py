"""What the commands take that start something: an agent, or a process."""

from argparse import REMAINDER, SUPPRESS, Action, ArgumentError, ArgumentParser, Namespace

from guyline.cli.keys import DETACH_KEYS
from guyline.cli.value import (
    ULIMITS,
    to_bytes,
    to_count,
    to_cpus,
    to_duration,
    to_keys,
    to_label,
    to_nice,
    to_oom_score,
    to_text,
    to_ulimit,
    to_umask,
    to_unicode,
    to_variable,
)

EXIT_CODES = """\
exit codes: the command's own; 128+n if signal n ended it; 124 if a limit of time did, or it was left running; 127 if it
was not found, 126 if it could not be executed; 125 if guyline itself failed."""


class Labels(Action):
    """Collects labels. Of one name there is one: which of several was meant, nobody could say."""

    def __call__(self, _parser: ArgumentParser, namespace: Namespace, values: object, *_: object) -> None:
        assert isinstance(values, tuple), "as the type of the option gives it"
        name, value = values
        labels = getattr(namespace, self.dest)
        if labels.get(name, value) != value:
            raise ArgumentError(self, f"{name!r} is given twice, with different values; give one")
        setattr(namespace, self.dest, {**labels, name: value})


def add_up(parser: ArgumentParser) -> None:
    """`guyline up`."""
    parser.epilog = "Ends with Ctrl-C, and all that was started with it. For a service, use `guyline agent`."


def add_agent(parser: ArgumentParser, *, everywhere: ArgumentParser) -> None:
    """`guyline agent`; ``everywhere`` has what every command takes."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.epilog = "`guyline agent --help` lists the settings of the agent itself."
    upgrade = commands.add_parser(
        "upgrade", help="replace a running agent's code; its processes go on", parents=[everywhere]
    )
    upgrade.set_defaults(module="upgrade", parser=upgrade)
    upgrade.add_argument("--python", metavar="PATH", type=to_text, help="the interpreter that has the new code")


def add_detach_keys(parser: ArgumentParser) -> None:
    """What leaves a terminal."""
    parser.add_argument(
        "--detach-keys", metavar="KEYS", type=to_keys, default=DETACH_KEYS,
        help="typed in a terminal, these leave the process to itself (default: ctrl-p,ctrl-q; none: no keys do)",
    )  # fmt: skip


def add_exec(parser: ArgumentParser) -> None:
    """`guyline exec`."""
    parser.usage = "guyline exec [options] [--] PROGRAM [ARGUMENT ...]\n       guyline exec [options] -c LINE"
    parser.epilog = (
        "Ctrl-C interrupts the command; a second one kills it. SIGTERM, SIGQUIT and SIGHUP are passed on. When the\n"
        "output is closed (`| head`), the command gets SIGPIPE, as in any pipeline.\n\n" + EXIT_CODES
    )
    parser.add_argument(
        "-c", dest="line", metavar="LINE", type=to_unicode, help="a line for `sh -c`, in place of a program"
    )
    parser.add_argument("-d", "--detach", action="store_true", help="start it, print its id, and leave it")
    parser.add_argument("-i", "--interactive", action="store_true", help="it reads this command's standard input")
    parser.add_argument(
        "-t", "--tty", action="store_true", help="it has a terminal: this one, if there is one (implies -i)"
    )
    add_detach_keys(parser)
    parser.add_argument(
        "--detach-after", metavar="TIME", type=to_duration, help="leave it after so long, if it still runs; say its id"
    )
    parser.add_argument(
        "--cwd",
        metavar="DIR",
        type=to_text,
        help="where to start it (default: here, of a remote agent its own directory)",
    )
    parser.add_argument(
        "--env",
        metavar="K=V",
        type=to_variable,
        action="append",
        default=[],
        help="a variable; K alone passes yours on",
    )
    parser.add_argument(
        "--redact",
        metavar="K",
        type=to_text,
        action="append",
        default=[],
        help="never show the value of this variable in views",
    )
    parser.add_argument(
        "--label", metavar="K=V", type=to_label, action=Labels, default={}, help="to find it by, in `guyline ps`"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--separate", dest="separate", action="store_true", default=None,
        help="tell stdout and stderr apart (default if they are different files)",
    )  # fmt: skip
    output.add_argument("--merged", dest="separate", action="store_false", help="one stream, in the order written")
    _add_limits(parser)
    parser.add_argument("argv", metavar="PROGRAM", nargs=REMAINDER, type=to_unicode, help=SUPPRESS)


def _add_limits(parser: ArgumentParser) -> None:
    time = parser.add_argument_group(
        "limits of time (500ms, 5s, 2m, 1h), kept by the agent whatever becomes of guyline"
    )
    time.add_argument("--timeout", metavar="TIME", type=to_duration, help="end it after so long")
    time.add_argument(
        "--idle-timeout", metavar="TIME", type=to_duration, help="end it once it prints nothing for so long"
    )
    time.add_argument("--grace", metavar="TIME", type=to_duration, help="from TERM to KILL then (default: 5s)")
    rest = parser.add_argument_group("other limits, where the agent can set them (`guyline info` says)")
    rest.add_argument("--user", metavar="NAME", type=to_text, help="run it as this user")
    rest.add_argument("--group", metavar="NAME", type=to_text, help="in place of the user's own group")
    rest.add_argument("--umask", metavar="MASK", type=to_umask, help="which rights its files do not get: 027")
    rest.add_argument("--nice", metavar="N", type=to_nice, help="its niceness, -20 to 19")
    rest.add_argument(
        "--oom-score", metavar="N", type=to_oom_score,
        help="how ready the kernel is to kill it when memory runs out, -1000 to 1000",
    )  # fmt: skip
    rest.add_argument(
        "--ulimit", metavar="R=SOFT[:HARD]", type=to_ulimit, action="append", default=[],
        help=f"a limit of setrlimit(2): nofile=1024:4096, core=unlimited; of {', '.join(ULIMITS)}",
    )  # fmt: skip
    rest.add_argument("--memory", metavar="SIZE", type=to_bytes, default=0, help="for all that comes of it: 512m, 2g")
    rest.add_argument("--cpus", metavar="N", type=to_cpus, default=0.0, help="CPUs' worth of time, for all of it: 1.5")
    rest.add_argument("--pids", metavar="N", type=to_count, default=0, help="processes and threads, for all of it")
