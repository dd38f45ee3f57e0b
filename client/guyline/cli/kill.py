"""``guyline kill``."""

import asyncio
import signal
from argparse import Namespace

from guyline.cli.dial import agent_of, process_of
from guyline.cli.failure import report
from guyline.cli.say import complain, say, say_json
from guyline.cli.text import to_json, to_state
from guyline.client.agent import AsyncAgent
from guyline.client.enums import SignalScope
from guyline.client.errors import GuylineError
from guyline.client.values import Signalled

_SURVIVED = 1


async def run(options: Namespace) -> int:
    """Signals processes side by side: each with a wait of its own. The exit code is that of the worst."""
    async with agent_of(options) as agent:
        return max(await asyncio.gather(*(_kill(agent, options, name) for name in options.processes)))


async def _kill(agent: AsyncAgent, options: Namespace, name: str) -> int:
    try:
        process = await process_of(agent, name)
        signalled = await process.signal(
            options.signal or signal.SIGTERM,
            scope=SignalScope.ALL if options.all else SignalScope.GROUP,
            grace=options.grace,
            wait=options.wait,
        )
    except GuylineError as error:
        return report(error, as_json=options.json)
    if options.json:
        say_json(to_json(signalled))
    elif options.wait is not None:
        _show(signalled)
    return _SURVIVED if signalled.survivors else 0


def _show(signalled: Signalled) -> None:
    say(f"{signalled.process.process_id}  {to_state(signalled.process)}")
    for survivor in signalled.survivors:
        complain(f"guyline: still alive: {survivor.pid} ({survivor.name})")
