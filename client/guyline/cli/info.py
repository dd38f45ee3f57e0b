"""``guyline info``."""

import asyncio
from argparse import Namespace

from guyline.cli.dial import agent_of
from guyline.cli.say import say_json
from guyline.cli.table import show
from guyline.cli.text import to_facts, to_json


async def run(options: Namespace) -> int:
    """Shows who the agent is."""
    async with agent_of(options) as agent:
        info = await agent.info()
    if options.json:
        say_json(to_json(info))
    else:
        await asyncio.to_thread(show, ("WHAT", "VALUE"), to_facts(info), wraps=True)
    return 0
