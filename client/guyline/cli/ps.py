"""``guyline ps``."""

import asyncio
import shutil
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from guyline.cli.dial import agent_of
from guyline.cli.look import left_by_ctrl_c
from guyline.cli.say import say_json
from guyline.cli.sink import STDOUT, write, write_json
from guyline.cli.table import is_drawn, show
from guyline.cli.text import COLUMNS, SHORT, shortened, to_command, to_json, to_labels, to_row, to_state, usage_row
from guyline.client.agent import AsyncAgent
from guyline.client.values import Ended, ProcessInfo, Put, Removed, Reset, Synced, WatchEvent

_WIDE = 160
"""Characters on a line that leave room for labels."""

_USAGE_KEYS = {"cpu", "memory"}

# Numbers from the largest on, texts by the alphabet.
_SORT: Mapping[str, Callable[[ProcessInfo], float | str]] = {
    "age": lambda process: process.sequence,
    "command": to_command,
    "cpu": lambda process: -process.usage.cpu if process.usage else 0.0,
    "id": lambda process: process.process_id,
    "memory": lambda process: -process.usage.memory_bytes if process.usage else 0.0,
    "output": lambda process: -process.output_bytes,
    "state": to_state,
}


async def run(options: Namespace) -> int:
    """Lists processes, once or as they change."""
    async with agent_of(options) as agent:
        if options.watch:
            with left_by_ctrl_c():
                await _watch(agent, options)
            return 0
        listing = await agent.list(
            labels=options.label,
            usage=options.sort in _USAGE_KEYS,
            max_ended=None if options.all else options.ended,
        )
    processes = _sorted(listing.processes, options.sort)
    if options.json:
        said = to_json(listing)
        assert isinstance(said, dict), "a dataclass"
        say_json(said | {"processes": [to_json(process) for process in processes]})
        return 0
    await asyncio.to_thread(_show, processes, options)
    return 0


def _show(processes: Sequence[ProcessInfo], options: Namespace) -> None:
    rows: list[tuple[str, ...]] = [to_row(process) for process in processes]
    if is_drawn():
        rows = shortened(rows)
    columns: tuple[str, ...] = COLUMNS
    if options.sort in _USAGE_KEYS:
        columns, rows = _with(("CPU", "MEMORY"), columns, rows, [usage_row(process) for process in processes])
    if options.labels or (
        is_drawn() and shutil.get_terminal_size().columns >= _WIDE and any(p.labels for p in processes)
    ):
        columns, rows = _with(("LABELS",), columns, rows, [(to_labels(process) or "-",) for process in processes])
    show(columns, rows, wraps=False)


def _with(
    more: tuple[str, ...], columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], cells: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """More columns, before the last one, which makes room for all."""
    return (
        (*columns[:-1], *more, columns[-1]),
        [(*row[:-1], *added, row[-1]) for row, added in zip(rows, cells, strict=True)],
    )


def _sorted(processes: Sequence[ProcessInfo], key: str | None) -> list[ProcessInfo]:
    """What is alike stays as the agent has it."""
    return sorted(processes, key=_SORT[key]) if key is not None else list(processes)


async def _watch(agent: AsyncAgent, options: Namespace) -> None:
    most_ended = None if options.all else options.ended
    coming: list[WatchEvent] | None = []  # everything comes, up to the next Synced; None: only changes do
    async with aclosing(agent.watch(labels=options.label)) as events:
        async for event in events:
            if isinstance(event, Reset):
                coming = []
            if coming is None:
                await _tell(event, options)
                continue
            coming.append(event)
            if isinstance(event, Synced):
                for each in _without_old_ended(coming, most_ended):
                    await _tell(each, options)
                coming = None


def _without_old_ended(events: Sequence[WatchEvent], most: int | None) -> list[WatchEvent]:
    """Of those that had ended before, the newest. That one has ended since is news."""
    had_ended = {
        id(event): event.process.sequence
        for event in events
        if isinstance(event, Put) and not isinstance(event, Ended) and event.process.exit is not None
    }
    oldest_first = sorted(had_ended, key=lambda each: had_ended[each])
    hidden = set() if most is None else set(oldest_first[: max(0, len(oldest_first) - most)])
    return [event for event in events if id(event) not in hidden]


async def _tell(event: WatchEvent, options: Namespace) -> None:
    if options.json:
        await write_json(_to_json(event))
    elif line := _to_line(event, labels=options.labels):
        await write(STDOUT, line.encode() + b"\n")


def _to_json(event: WatchEvent) -> dict[str, object]:
    match event:
        case Ended(process):
            return {"put": to_json(process), "ended": True}
        case Put(process):
            return {"put": to_json(process)}
        case Removed(process_id):
            return {"removed": process_id}
        case Reset():
            return {"reset": {}}
        case Synced():
            return {"synced": {}}


def _to_line(event: WatchEvent, *, labels: bool) -> str:
    """An event as a line; what only a program has to know is none."""
    match event:
        case Put(process):
            row = to_row(process)
            *cells, command = shortened([row])[0] if is_drawn() else row
            return "  ".join((*cells, *([to_labels(process) or "-"] if labels else ()), command))
        case Removed(process_id):
            return f"{process_id[:SHORT] if is_drawn() else process_id}  removed"
        case _:
            return ""
