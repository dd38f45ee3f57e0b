"""The ``guyline`` command: reads its arguments, runs one command, and turns whatever happens into an exit code.

Each command is imported only when it runs: start-up time is a feature, and gRPC alone takes 80 ms.
"""

import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from importlib import import_module
from typing import NoReturn

from guyline.cli import standard_streams
from guyline.cli.leave import BROKEN_PIPE, UNWRITABLE, leave
from guyline.cli.quiet import quieten_grpc
from guyline.cli.say import complain


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point. Never returns: the process exits with the command's code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nobody wants to read which import Ctrl-C has interrupted
    standard_streams.complete()
    standard_streams.show_everything()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as why:  # of a help text, say, that cannot be written
        complain(f"guyline: {why.strerror or why}")
        code = UNWRITABLE
    except SystemExit as end:
        code = _said(end.code)
    leave(code)


def _said(code: object) -> int:
    """As the interpreter takes what ``sys.exit`` is given."""
    if code is None or isinstance(code, int):
        return code or 0
    complain(str(code))
    return 1


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["agent"] and arguments[1:2] != ["upgrade"]:
        return _become_agent(arguments[1:])
    from guyline.cli.arguments import parse

    options = parse(arguments)
    quieten_grpc()
    command = import_module(f"guyline.cli.{options.module}")
    # Only now, so that `--help` does without.
    from guyline.cli.failure import report, to_error
    from guyline.client.errors import Defect, GuylineError

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _finished(command.run(options))
    except GuylineError as error:
        return report(error, as_json=options.json)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as why:  # what Guyline asks of this machine: mostly to write an answer
        return report(to_error(why), as_json=options.json)
    except Exception as defect:  # the last stop: a traceback is only for those who ask for it
        if os.environ.get("GUYLINE_TRACEBACK"):
            raise
        advice = "GUYLINE_TRACEBACK=1 shows where; please report it"
        return report(Defect(f"a defect in guyline itself: {defect!r}; {advice}"), as_json=options.json)


def _finished(result: int | Coroutine[object, object, int]) -> int:
    if isinstance(result, int):
        return result
    import asyncio

    return asyncio.run(result)


def _become_agent(arguments: list[str]) -> NoReturn:
    try:
        from guyline.agentd.launch import main as launch

        launch(arguments)
    except ModuleNotFoundError as why:
        sys.exit(f"guyline: the agent needs {why.name}, which is not installed; run: pip install 'guyline[agent]'")


if __name__ == "__main__":
    main()
