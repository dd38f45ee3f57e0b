"""``guyline exec``."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from guyline.cli import console
from guyline.cli.dial import agent_of
from guyline.cli.failure import report, to_error
from guyline.cli.interactive import stand_in
from guyline.cli.relay import Signals
from guyline.cli.say import complain, say, say_json
from guyline.cli.sink import STDERR, STDOUT
from guyline.cli.value import is_unicode
from guyline.client.agent import AsyncAgent
from guyline.client.enums import InputMode, OutputMode
from guyline.client.errors import GuylineError, InvalidInput, Violation
from guyline.client.options import GroupLimits, Privileges, StartOptions, Terminal

_WRONG_USAGE = 125
_USUAL_SIZE = 80, 24


async def run(options: Namespace) -> int:
    """Starts a command, and stands in for it until it has ended."""
    command = _command(options)
    if not command:
        complain("guyline exec: give a program, or -c LINE, and not both; `guyline exec --help` says how")
        return _WRONG_USAGE
    if options.detach:
        return await _detached(options, command)
    async with Signals() as signals:
        return await signals.unless_given_up(_attached(options, command, signals))


async def _attached(options: Namespace, command: str | Sequence[str], signals: Signals) -> int:
    async with agent_of(options) as agent:
        process = await agent.open(
            command,
            detach_after=options.detach_after,
            **_start_options(agent, options, _output_mode(options)),
        )
        return await stand_in(process, options, signals, reads=options.interactive or options.tty)


async def _detached(options: Namespace, command: str | Sequence[str]) -> int:
    async with agent_of(options) as agent:
        process = await _started(agent, options, command)
    try:
        if options.json:
            say_json({"process_id": process})
        else:
            say(process)
    except OSError as why:  # nobody else knows what was started
        said = f"it runs, but its id could not be written ({why.strerror}): {process}"
        facts = to_error(why).facts | {"process_id": process}
        return report(GuylineError(said, facts=facts), as_json=options.json)
    return 0


async def _started(agent: AsyncAgent, options: Namespace, command: str | Sequence[str]) -> str:
    process = await agent.start(
        command,
        **_start_options(agent, options, OutputMode.SEPARATE if options.separate else OutputMode.MERGED),
    )
    return process.id


def _start_options(agent: AsyncAgent, options: Namespace, output: OutputMode) -> StartOptions:
    start = StartOptions(
        output=output,
        background=options.detach,
        directory=_directory(agent, options.cwd or ""),
        env=dict(options.env),
        redact=options.redact,
        labels=options.label,
        timeout=options.timeout,
        idle_timeout=options.idle_timeout,
        grace=options.grace,
        privileges=_privileges(options),
    )
    if options.tty:
        columns, rows = console.size() or _USUAL_SIZE
        start["terminal"] = Terminal(columns, rows, term=os.environ.get("TERM", ""))
    elif options.interactive:
        start["stdin"] = InputMode.PIPE
    return start


def _privileges(options: Namespace) -> Privileges | None:
    limits = GroupLimits(memory_bytes=options.memory, cpus=options.cpus, pids=options.pids)
    asked = Privileges(
        user=options.user or "",
        group=options.group or "",
        umask=options.umask,
        nice=options.nice,
        oom_score=options.oom_score,
        resource_limits=tuple(options.ulimit),
        group_limits=limits if limits != GroupLimits() else None,
    )
    return asked if asked != Privileges() else None


def _directory(agent: AsyncAgent, asked: str) -> str:
    """Beside a local agent a command starts where the caller stands, as in any shell.

    Raises:
        InvalidInput: Nobody can say where that is.
    """
    if not agent.is_local or asked.startswith(("~", "/")):
        return asked
    try:
        directory = str(Path.cwd() / asked)
    except FileNotFoundError:
        raise _unusable("the current directory does not exist any more; --cwd names another one, from / on") from None
    if not is_unicode(directory):
        raise _unusable(f"{os.fsencode(directory)!r} is not UTF-8; --cwd names another one")
    return directory


def _unusable(description: str) -> InvalidInput:
    return InvalidInput(f"directory: {description}", violations=(Violation("directory", description),))


def _command(options: Namespace) -> str | list[str]:
    """The line or the argv; empty if there is neither, or both."""
    argv: list[str] = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if options.line is not None:
        return "" if argv else str(options.line)
    return argv


def _output_mode(options: Namespace) -> OutputMode:
    """Separate only where it makes a difference: one stream keeps the order in which things were written."""
    separate: bool | None = options.separate
    if options.tty:
        return OutputMode.MERGED
    if separate is None:
        separate = not _is_same_file(STDOUT, STDERR)
    return OutputMode.SEPARATE if separate else OutputMode.MERGED


def _is_same_file(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:  # one of them is closed
        return False
