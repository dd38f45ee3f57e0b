"""``guyline ps``."""

import asyncio
from argparse import Namespace
from contextlib import aclosing

from guyline.cli.dial import agent_of
from guyline.cli.say import say_json
from guyline.cli.sink import STDOUT, write, write_json
from guyline.cli.table import is_drawn, show
from guyline.cli.text import COLUMNS, SHORT, shortened, to_json, to_row
from guyline.client.agent import AsyncAgent
from guyline.client.values import Put, Removed, Reset, Synced, WatchEvent


async def run(options: Namespace) -> int:
    """Lists processes, once or as they change."""
    async with agent_of(options) as agent:
        if options.watch:
            await _watch(agent, as_json=options.json)
            return 0
        listing = await agent.list(max_ended=options.ended)
    if options.json:
        say_json(to_json(listing))
        return 0
    rows = [to_row(process) for process in listing.processes]
    if is_drawn():
        rows = shortened(rows)
    await asyncio.to_thread(show, COLUMNS, rows, wraps=False)
    return 0


async def _watch(agent: AsyncAgent, *, as_json: bool) -> None:
    async with aclosing(agent.watch()) as events:
        async for event in events:
            if as_json:
                await write_json(_to_json(event))
            elif line := _to_line(event):
                await write(STDOUT, line.encode() + b"\n")


def _to_json(event: WatchEvent) -> dict[str, object]:
    match event:
        case Put(process):
            return {"put": to_json(process)}
        case Removed(process_id):
            return {"removed": process_id}
        case Reset():
            return {"reset": {}}
        case Synced():
            return {"synced": {}}


def _to_line(event: WatchEvent) -> str:
    """An event as a line; what only a program has to know is none."""
    match event:
        case Put(process):
            row = to_row(process)
            return "  ".join(shortened([row])[0] if is_drawn() else row)
        case Removed(process_id):
            return f"{process_id[:SHORT] if is_drawn() else process_id}  removed"
        case _:
            return ""
