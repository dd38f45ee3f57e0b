"""The agent that the command line means."""

import asyncio
import sys
from argparse import Namespace
from pathlib import Path

from guyline.cli.say import complain
from guyline.client.agent import AsyncAgent
from guyline.client.errors import InvalidInput, ProcessNotFound, Violation
from guyline.client.process import AsyncProcess

_PATIENCE = 60.0  # seconds
_SHORTEST_PREFIX = 4
_WHOLE_ID = 36


def agent_of(options: Namespace) -> AsyncAgent:
    """The agent, not yet met."""
    return AsyncAgent(
        options.address,
        chat_id=options.chat,
        token_file=Path(options.token_file) if options.token_file else None,
        ca_file=Path(options.ca_file) if options.ca_file else None,
        insecure=options.insecure,
        patience=_PATIENCE,
        on_absence=_tell_of_absence if sys.stderr.isatty() else None,
    )


def _tell_of_absence(is_away: bool) -> None:
    """Says why nothing happens, in a thread: a terminal that was stopped must not keep signals away."""
    text = (
        f"guyline: the agent does not answer; commands go on, and this waits up to {_PATIENCE:g} s for it to come back"
        if is_away
        else "guyline: the agent is back"
    )
    asyncio.get_running_loop().run_in_executor(None, complain, text)


async def process_of(agent: AsyncAgent, name: str, *, paces: bool = False) -> AsyncProcess:
    """The process with this id, or the only one whose id begins so.

    Raises:
        ProcessNotFound: There is none.
        InvalidInput: There are several, or could easily be.
    """
    return await agent.attach(await whole_id(agent, name), paces=paces)


async def whole_id(agent: AsyncAgent, name: str) -> str:
    """The id that begins so, if there is only one. Errors as above."""
    if len(name) >= _WHOLE_ID:
        return name
    if len(name) < _SHORTEST_PREFIX:
        raise _invalid(f"{name!r} is too short; give at least the first {_SHORTEST_PREFIX} characters of an id")
    known = (await agent.list(id_prefix=name, max_ended=None)).processes
    found = [process.process_id for process in known if process.process_id.startswith(name)]
    if not found:
        raise ProcessNotFound(f"no process whose id begins with {name!r}")
    if len(found) > 1:
        raise _invalid(f"{len(found)} processes have ids that begin with {name!r}; give more of it")
    return found[0]


def _invalid(description: str) -> InvalidInput:
    return InvalidInput(description, violations=(Violation("process", description),))
