"""``guyline rm``."""

import asyncio
from argparse import Namespace

from guyline.cli.dial import agent_of, whole_id
from guyline.cli.failure import report
from guyline.cli.removal import remove
from guyline.cli.say import say_json
from guyline.client.agent import AsyncAgent
from guyline.client.errors import GuylineError


async def run(options: Namespace) -> int:
    """Has processes forgotten, side by side. The exit code is that of the worst."""
    async with agent_of(options) as agent:
        return max(await asyncio.gather(*(_remove(agent, options, name) for name in options.processes)))


async def _remove(agent: AsyncAgent, options: Namespace, name: str) -> int:
    try:
        process_id = await whole_id(agent, name)
        await remove(agent, process_id)
    except GuylineError as error:
        return report(error, as_json=options.json)
    if options.json:
        say_json({"removed": process_id})
    return 0
