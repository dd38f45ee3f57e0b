"""What the commands take that are about processes."""

import signal
from argparse import SUPPRESS, Action, ArgumentParser, Namespace

from guyline.cli.arguments_start import EXIT_CODES, Labels, add_detach_keys
from guyline.cli.value import (
    to_condition,
    to_count,
    to_cursor,
    to_duration,
    to_optional_duration,
    to_process,
    to_signal,
    to_since,
    to_small_bytes,
    to_tail,
    to_wanted_label,
)

SORT_KEYS = ("age", "command", "cpu", "id", "memory", "output", "state")


def add_ps(parser: ArgumentParser) -> None:
    """`guyline ps`."""
    order = parser.add_mutually_exclusive_group()  # changes come in an order of their own
    order.add_argument("-w", "--watch", action="store_true", help="go on, and show changes as they come")
    ended = parser.add_mutually_exclusive_group()
    ended.add_argument("-n", "--ended", metavar="N", type=to_count, default=10, help="so many ended ones (default: 10)")
    ended.add_argument("-a", "--all", action="store_true", help="all that have ended")
    _labels(parser)
    order.add_argument("--sort", metavar="KEY", choices=SORT_KEYS, help=f"one of {', '.join(SORT_KEYS)}; largest first")
    parser.add_argument("--labels", action="store_true", help="show labels (default if the terminal is wide)")


def add_top(parser: ArgumentParser) -> None:
    """`guyline top`."""
    parser.epilog = "Ends with Ctrl-C. Without a terminal it shows what is, once."
    parser.add_argument("--once", action="store_true", help="show what is, and end")
    parser.add_argument(
        "--interval", metavar="TIME", type=to_duration, default=1.0, help="how often to look (default: 1s)"
    )
    _labels(parser)


def add_attach(parser: ArgumentParser) -> None:
    """`guyline attach`."""
    parser.epilog = "Signals and exit code are those of `guyline exec`: this takes its place.\n\n" + EXIT_CODES
    _process(parser)
    parser.add_argument(
        "-i", "--interactive", action="store_true", help="pass standard input on; a terminal gets it in any case"
    )
    add_detach_keys(parser)
    _where(parser)


def add_logs(parser: ArgumentParser) -> None:
    """`guyline logs`."""
    _process(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
    parser.add_argument("-t", "--timestamps", action="store_true", help="say when each line was printed")
    _where(parser)


def add_view(parser: ArgumentParser) -> None:
    """`guyline view`."""
    parser.epilog = (
        "The beginning, a note of what is left out, the end; long lines cut, terminal codes gone, of progress bars\n"
        "the last state, and no value of a variable that the start named with --redact."
    )
    _process(parser)
    parser.add_argument("--raw", action="store_true", help="as it was printed, terminal codes and all")
    parser.add_argument(
        "--since-cursor", metavar="CURSOR", type=to_cursor, default=b"", help="only what is new since an earlier view"
    )
    parser.add_argument("--wait", metavar="TIME", type=to_duration, help="until it has ended, but no longer than that")
    parser.add_argument("--new", action="store_true", help="with --wait: or until it has printed something new")
    parser.add_argument(
        "--max", metavar="SIZE", type=to_small_bytes, default=0, help="how long the view may be (default: 32k)"
    )


def add_wait(parser: ArgumentParser) -> None:
    """`guyline wait`."""
    parser.epilog = (
        "Says which one it was. A PATTERN is a regular expression (RE2), searched for from the beginning; a port is\n"
        "one of the agent's machine; a relative PATH begins at the process's directory.\n\n"
        "exit codes: 0 if one of them holds; 124 if the time is over; 1 if only output was waited for, and there will\n"
        "be no more; 125 if guyline itself failed."
    )
    _process(parser)
    parser.add_argument(
        "--for", dest="conditions", metavar="WHAT", type=to_condition, action="append", default=[],
        help="exit, /PATTERN/, port:NUMBER or file:PATH; several: the first that holds (default: exit)",
    )  # fmt: skip
    parser.add_argument("--timeout", metavar="TIME", type=to_duration, help="give up after so long: 500ms, 5s, 2m")


def add_kill(parser: ArgumentParser) -> None:
    """`guyline kill`."""
    _processes(parser)
    parser.add_argument(
        "-s", "--signal", action=_Signal, type=to_signal,
        help="name or number (default: TERM); -9 is short for -s 9",
    )  # fmt: skip
    # argparse takes -9 for a number, and so for a process, unless there is an option of that name.
    numbers = (f"-{number}" for number in range(1, signal.NSIG))
    parser.add_argument(*numbers, dest="signal", action=_Signal, nargs=0, help=SUPPRESS)
    parser.add_argument(
        "--all", action="store_true", help="also what has left its group: a shell's jobs; with a cgroup, daemons"
    )
    parser.add_argument(
        "--grace", metavar="TIME", type=to_duration, help="then INT, TERM, KILL, each after so long: 500ms, 5s, 2m"
    )
    parser.add_argument(
        "--wait", metavar="TIME", nargs="?", const=30.0, type=to_optional_duration,
        help="until everybody is gone (default: 30s at most); exits with 1 if somebody is not",
    )  # fmt: skip


class _Signal(Action):
    """One signal, given by an option or as one; argparse reads -99 as -9 -9."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: object, option: str | None = None) -> None:
        if namespace.signal is not None:
            parser.error("give one signal, by its name or of 1 to 64")
        namespace.signal = values or int(str(option)[1:])


def add_rm(parser: ArgumentParser) -> None:
    """`guyline rm`."""
    parser.epilog = "One that runs is not forgotten: end it first, with `guyline kill`."
    _processes(parser)


def add_prune(parser: ArgumentParser) -> None:
    """`guyline prune`."""
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        type=to_duration,
        default=0.0,
        help="only those that ended so long ago: 10m, 2h, 7d",
    )
    _labels(parser)


def _process(parser: ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESS", type=to_process, help="an id of `guyline ps`, or how it begins")


def _processes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "processes", metavar="PROCESS", nargs="+", type=to_process, help="an id of `guyline ps`, or how it begins"
    )


def _labels(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--label", metavar="K[=V]", type=to_wanted_label, action=Labels, default={},
        help="only those with this label; K alone: whatever its value; several: with all of them",
    )  # fmt: skip


def _where(parser: ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--since", metavar="WHEN", type=to_since,
        help="begin with what was printed so long ago (90s, 10m, 2h) or at a time (2026-11-21T10:00:00, local unless "
        "it says otherwise), or behind so many bytes of output (a plain number)",
    )  # fmt: skip
    where.add_argument(
        "--tail", metavar="N", type=to_tail, help="begin with the last N lines; with a unit (64k, 1m, 100b) bytes"
    )
