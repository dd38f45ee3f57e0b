"""``guyline attach``."""

from argparse import Namespace

from guyline.cli.dial import agent_of, process_of
from guyline.cli.interactive import stand_in
from guyline.cli.relay import Signals
from guyline.cli.tail import beginning
from guyline.client.enums import InputMode, WhenFull

_LAST_SCREEN_BYTES = 16 * 1024
"""So much of what a terminal has shown is shown again; full-screen programs then draw everything anew."""


async def run(options: Namespace) -> int:
    """Stands in for a process that runs already, until it has ended."""
    async with Signals() as signals:
        return await signals.unless_given_up(_attached(options, signals))


async def _attached(options: Namespace, signals: Signals) -> int:
    async with agent_of(options) as agent:
        process = await process_of(agent, options.process)
        if process.info.when_full is WhenFull.PAUSE:
            process = await agent.attach(process.id, paces=True)
        has_terminal = process.info.input.mode is InputMode.TERMINAL
        begins_late = has_terminal and options.since is None and options.tail is None
        tail = (_LAST_SCREEN_BYTES, False) if begins_late else options.tail
        start = await beginning(process, since=options.since, tail=tail)
        reads = has_terminal or options.interactive
        return await stand_in(process, options, signals, reads=reads, start=start, redraws=begins_late)
