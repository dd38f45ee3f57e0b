"""``guyline up``."""

import asyncio
import signal
import sys
from argparse import Namespace
from asyncio.subprocess import Process as Child

from guyline.cli.agent_log import AgentLog
from guyline.cli.dial import agent_of
from guyline.cli.failure import in_json
from guyline.cli.inherited import heeded
from guyline.cli.quiet import environment_to_pass_on
from guyline.cli.say import say, say_json
from guyline.cli.text import to_json
from guyline.client.address import TcpAddress, default_address, to_address
from guyline.client.beside import beside
from guyline.client.errors import AgentUnreachable, GuylineError, InvalidInput, Violation
from guyline.client.values import AgentInfo

_START_SECONDS = 30.0
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

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
    # In a session of its own: Ctrl-C at the terminal reaches this command alone, which then asks once.
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "guyline.cli.main", "agent", "--listen", address,
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE if options.json else None,
        start_new_session=True,
        env={"GUYLINE_AGENT_LOG_LEVEL": "warning", **environment_to_pass_on()},  # a line a call would bury the hint
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    passed_on = heeded(_PASSED_ON)
    for number in passed_on:
        # An agent has nothing to reload; a terminal that hangs up ends what was started in it.
        loop.add_signal_handler(number, _send, child, signal.SIGTERM if number == signal.SIGHUP else number)
    log = AgentLog(child.stderr)
    try:
        async with beside(log.pass_on()), beside(_greet(options, address, log)):
            code = _to_shell_code(await child.wait())
            await log.over()
        log.finish(_why_it_failed(log.kept, address, code) if code and log.kept and not log.is_let_go else None)
    finally:
        for number in passed_on:
            loop.remove_signal_handler(number)
    return code


def _why_it_failed(said: str, address: str, code: int) -> str:
    return in_json(GuylineError(said, facts={"address": address, "exit_code": str(code)}))


async def _greet(options: Namespace, address: str, log: AgentLog) -> None:
    """Says that the agent is up, once it is."""
    loop = asyncio.get_running_loop()
    latest = loop.time() + _START_SECONDS
    while loop.time() < latest:
        if info := await _met(options):
            _tell(options, address, info, started=True)
            break
    log.let_go()


async def _met(options: Namespace) -> AgentInfo | None:
    """Who answers at the address, if anybody does within a moment."""
    try:
        async with agent_of(options) as agent:
            return await agent.info()
    except AgentUnreachable:
        return None


def _send(child: Child, number: int) -> None:
    if child.returncode is None:
        child.send_signal(number)


def _to_shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code
