"""``guyline agent upgrade``."""

from argparse import Namespace

from guyline.cli.dial import agent_of
from guyline.cli.say import say, say_json
from guyline.cli.text import to_json


async def run(options: Namespace) -> int:
    """Has a running agent's code replaced."""
    async with agent_of(options) as agent:
        upgrade = await agent.upgrade(interpreter=options.python or "")
    if options.json:
        say_json(to_json(upgrade))
    else:
        say(f"{upgrade.from_version} makes way for {upgrade.to_version}; processes go on")
    return 0
