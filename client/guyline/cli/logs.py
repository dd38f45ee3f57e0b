"""``guyline logs``."""

from argparse import Namespace
from contextlib import aclosing

from guyline.cli.dial import agent_of, process_of
from guyline.cli.say import complain
from guyline.cli.sink import Descriptors, JsonLines, Sink, Stamped
from guyline.cli.tail import beginning


async def run(options: Namespace) -> int:
    """Shows what a process printed. Looks only: no signal is passed on, and a closed output is nobody's loss."""
    if options.timestamps and not options.follow:
        complain("guyline logs: -t needs -f: only what arrives now has a time of arrival")
        return 2
    sink: Sink = JsonLines() if options.json else Descriptors()
    if options.timestamps:
        sink = Stamped(sink)
    async with agent_of(options) as agent:
        process = await process_of(agent, options.process)
        start = await beginning(process, since=options.since, tail=options.tail)
        async with aclosing(process.output(from_offset=start, snapshot=not options.follow)) as chunks:
            async for chunk in chunks:
                await sink.take(chunk)
    return 0
