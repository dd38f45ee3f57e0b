"""``guyline attach``."""

from argparse import Namespace

from guyline.cli.dial import agent_of, process_of
from guyline.cli.relay import Signals, follow_to_the_end
from guyline.cli.sink import Descriptors, JsonLines, write_json
from guyline.cli.tail import beginning
from guyline.cli.text import to_result
from guyline.client.enums import WhenFull


async def run(options: Namespace) -> int:
    """Stands in for a process that runs already, until it has ended."""
    async with Signals() as signals:
        return await signals.unless_given_up(_attached(options, signals))


async def _attached(options: Namespace, signals: Signals) -> int:
    async with agent_of(options) as agent:
        process = await process_of(agent, options.process)
        if process.info.when_full is WhenFull.PAUSE:
            process = await agent.attach(process.id, paces=True)
        start = await beginning(process, since=options.since, tail=options.tail)
        sink = JsonLines() if options.json else Descriptors()
        ended, code = await follow_to_the_end(process, sink, signals, start=start)
        if options.json:
            await write_json(to_result(process.id, ended))
    return code
