"""``guyline logs``."""

from argparse import Namespace
from contextlib import aclosing

from guyline.cli.dial import agent_of, process_of
from guyline.cli.look import left_by_ctrl_c
from guyline.cli.sink import Descriptors, JsonLines, Sink, Stamped
from guyline.cli.tail import beginning


async def run(options: Namespace) -> int:
    """Shows what a process printed. Looks only: no signal is passed on, and a closed output is nobody's loss."""
    sink = _sink(json=options.json, timestamps=options.timestamps)
    with left_by_ctrl_c():
        await _show(options, sink)
    return 0


async def _show(options: Namespace, sink: Sink) -> None:
    async with agent_of(options) as agent:
        process = await process_of(agent, options.process)
        start = await beginning(process, since=options.since, tail=options.tail)
        output = process.output(
            from_offset=start.from_offset,
            since=start.since,
            snapshot=not options.follow,
            times=options.timestamps,
        )
        async with aclosing(output) as chunks:
            async for chunk in chunks:
                await sink.take(chunk)


def _sink(*, json: bool, timestamps: bool) -> Sink:
    if json:
        return JsonLines()  # has a field for the time
    return Stamped(Descriptors()) if timestamps else Descriptors()
