"""``guyline up``."""

import asyncio
import signal
import sys
from argparse import Namespace
from asyncio.subprocess import Process as Child
from typing import Self

from guyline.cli.agent_log import AgentLog
from guyline.cli.dial import agent_of
from guyline.cli.failure import in_json, report, to_error
from guyline.cli.inherited import heeded
from guyline.cli.leave import BROKEN_PIPE
from guyline.cli.quiet import environment_to_pass_on
from guyline.cli.say import say, say_json
from guyline.cli.text import to_json
from guyline.client.address import TcpAddress, default_address, to_address
from guyline.client.beside import beside
from guyline.client.errors import AgentUnreachable, GuylineError, InvalidInput, Violation
from guyline.client.values import AgentInfo

_START_SECONDS = 30.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_HINT = """\
An agent is up at {address} (pid {pid}). Try, in another terminal:

  guyline{option} exec -- sh -c 'for i in 1 2 3; do echo $i; sleep 1; done'
  guyline{option} ps
  guyline{option} info
"""


async def run(options: Namespace) -> int:
    """Runs an agent until it is told to end, and says what to try. If one is up already, says that.

    With --json it is given who the agent is. What the agent says before it is up is kept until then: it may be why that
    failed, which is then JSON as well.
    """
    address = options.address or default_address()
    if isinstance(to_address(address), TcpAddress):
        description = "is tcp, which wants more said than `up` can know; use `guyline agent`"
        raise InvalidInput(f"address: {address} {description}", violations=(Violation("address", description),))
    if present := await _met(options):
        _tell(options, address, present, started=False)
        return 0
    return await _run_agent(options, address)


def _tell(options: Namespace, address: str, info: AgentInfo, *, started: bool) -> None:
    if options.json:
        said = to_json(info)
        assert isinstance(said, dict), "a dataclass"
        say_json({"address": address, "started": started} | said)
    else:
        option = f" --address {options.address}" if options.address else ""
        say(_HINT.format(address=address, pid=info.keeper_pid, option=option))


async def _run_agent(options: Namespace, address: str) -> int:
    with _Told() as told:
        # In a session of its own: Ctrl-C at the terminal reaches this command alone, which then asks once.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "guyline.cli.main", "agent", "--listen", address,
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE if options.json else None,
            start_new_session=True,
            env={"GUYLINE_AGENT_LOG_LEVEL": "warning", **environment_to_pass_on()},  # a line a call buries the hint
        )  # fmt: skip
        told.pass_on_to(child)
        log = AgentLog(child.stderr)
        greeting = asyncio.create_task(_greet(options, address, log))
        try:
            async with beside(log.pass_on()):
                code = told.to_shell_code(await child.wait())
                await log.over()
        finally:
            greeting.cancel()
            await asyncio.wait({greeting})
        log.finish(_why_it_failed(log.kept, address, code) if code and log.kept and not log.is_let_go else None)
    return code or (0 if greeting.cancelled() else greeting.result())


class _Told:
    """What ends the agent, for the length of a ``with`` block: what comes before it is known is kept for it.

    It gets SIGTERM for each: an agent has nothing to reload, a terminal that hangs up ends what was started in it, and
    Python makes a traceback of a SIGINT that comes before its program can say what it is to do.
    """

    def __init__(self) -> None:
        self._child: Child | None = None
        self._first: int | None = None
        self._heeded = heeded(_ENDING)

    def __enter__(self) -> Self:
        for number in self._heeded:
            asyncio.get_running_loop().add_signal_handler(number, self._got, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._heeded:
            asyncio.get_running_loop().remove_signal_handler(number)

    def pass_on_to(self, child: Child) -> None:
        """From now on, and what has come by now."""
        self._child = child
        if self._first is not None:
            self._send()

    def to_shell_code(self, code: int) -> int:
        """What a shell would say. Of an agent that did not get as far as to end in order: what ended this command."""
        if code == -signal.SIGTERM and self._first is not None:
            return 128 + self._first
        return code if code >= 0 else 128 - code

    def _got(self, number: int) -> None:
        self._first = self._first or number
        self._send()

    def _send(self) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(signal.SIGTERM)


def _why_it_failed(said: str, address: str, code: int) -> str:
    return in_json(GuylineError(said, facts={"address": address, "exit_code": str(code)}))


async def _greet(options: Namespace, address: str, log: AgentLog) -> int:
    """Says that the agent is up, once it is. Returns the exit code for that: an answer that nobody gets is none."""
    loop = asyncio.get_running_loop()
    latest = loop.time() + _START_SECONDS
    code = 0
    while loop.time() < latest:
        if info := await _met(options):
            try:
                _tell(options, address, info, started=True)
            except BrokenPipeError:
                code = BROKEN_PIPE
            except OSError as why:
                code = report(to_error(why), as_json=options.json)
            break
    log.let_go()
    return code


async def _met(options: Namespace) -> AgentInfo | None:
    """Who answers at the address, if anybody does within a moment."""
    try:
        async with agent_of(options) as agent:
            return await agent.info()
    except AgentUnreachable:
        return None
