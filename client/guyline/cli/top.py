"""``guyline top``."""

import asyncio
import signal
from argparse import Namespace
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from guyline.cli.dial import agent_of
from guyline.cli.inherited import heeded
from guyline.cli.leave import abandon
from guyline.cli.say import say_json
from guyline.cli.stop import stop
from guyline.cli.table import Screen, is_drawn, show
from guyline.cli.text import shortened, to_age, to_command, to_json, to_length, to_size
from guyline.client.agent import AsyncAgent
from guyline.client.beside import beside
from guyline.client.enums import ProcessState
from guyline.client.values import ProcessInfo

_COLUMNS = ("ID", "PID", "AGE", "CPU%", "CPU", "MEMORY", "PROCS", "COMMAND")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_GIVING_BACK = 1.0
"""Seconds for the terminal to take what makes it as it was."""


@dataclass(frozen=True)
class Busy:
    """How busy a running process is. ``share`` is of one CPU: since the look before, at first since its start."""

    process: ProcessInfo
    share: float


@dataclass(frozen=True)
class Look:
    """What ran at a moment, the busiest first; ``at`` is on the loop's clock."""

    at: float
    busy: tuple[Busy, ...]


async def run(options: Namespace) -> int:
    """Shows what runs, the busiest first, once or again and again until it is told to stop."""
    async with agent_of(options) as agent:
        if is_drawn() and not (options.once or options.json):
            return await _until_told_to_stop(_go_on(agent, options))
        look = await _look(agent, options, None)
    if options.json:
        said = [{"cpu_share": busy.share, "process": to_json(busy.process)} for busy in look.busy]
        say_json({"processes": said})
    else:
        rows = [_to_row(busy) for busy in look.busy]
        await asyncio.to_thread(show, _COLUMNS, shortened(rows, _COLUMNS) if is_drawn() else rows, wraps=False)
    return 0


async def _until_told_to_stop(work: Coroutine[object, object, None]) -> NoReturn:
    """Does the work until a signal ends it; Ctrl-C is how everybody leaves it, so that is no failure.

    Then exits on the spot: what draws may be stuck, and nobody waits for it.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()
    stops = heeded(_STOPS)
    for number in stops:
        loop.add_signal_handler(number, _tell, told, number)
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})
        for number in stops:
            loop.remove_signal_handler(number)
    abandon(0 if told.result() == signal.SIGINT else 128 + told.result())


def _tell(told: asyncio.Future[int], number: int) -> None:
    if not told.done():
        told.set_result(number)


async def _go_on(agent: AsyncAgent, options: Namespace) -> None:
    look = await _look(agent, options, None)
    screen, drawing = Screen(), asyncio.Lock()
    try:
        await asyncio.to_thread(screen.take)
        async with beside(_stop_when_told(screen, drawing)):
            while True:
                rows = shortened([_to_row(busy) for busy in look.busy], _COLUMNS)
                async with drawing:
                    await asyncio.to_thread(screen.draw, _summary(look.busy), _COLUMNS, rows)
                await asyncio.sleep(options.interval)
                look = await _look(agent, options, look)
    finally:
        with suppress(TimeoutError):  # it was stopped, and nobody is there to have it go on
            async with asyncio.timeout(_GIVING_BACK):
                await asyncio.to_thread(screen.give_back)


async def _stop_when_told(screen: Screen, drawing: asyncio.Lock) -> None:
    """Lets Ctrl-Z stop this command. The terminal is as it was for as long as that lasts."""
    if not heeded((signal.SIGTSTP,)):
        return
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTSTP, told.set)
    try:
        while True:
            await told.wait()
            async with drawing:
                await asyncio.to_thread(screen.give_back)
                stop(told.set)
                told.clear()
                await asyncio.to_thread(screen.take)
    finally:
        loop.remove_signal_handler(signal.SIGTSTP)


async def _look(agent: AsyncAgent, options: Namespace, before: Look | None) -> Look:
    listing = await agent.list(labels=options.label, states=[ProcessState.RUNNING], usage=True, max_ended=0)
    at = asyncio.get_running_loop().time()
    used = {busy.process.process_id: _cpu(busy.process) for busy in before.busy} if before else {}
    running = [process for process in listing.processes if process.state is ProcessState.RUNNING]
    busy = [Busy(process, _share(process, used, at - before.at if before else 0.0)) for process in running]
    return Look(at, tuple(sorted(busy, key=lambda each: -each.share)))


def _share(process: ProcessInfo, used: dict[str, float], seconds: float) -> float:
    if process.process_id in used and seconds > 0:
        return max(0.0, _cpu(process) - used[process.process_id]) / seconds  # it falls when a descendant ends
    age = (datetime.now(UTC) - process.started_at).total_seconds()
    return _cpu(process) / age if age > 0 else 0.0


def _cpu(process: ProcessInfo) -> float:
    return process.usage.cpu if process.usage is not None else 0.0


def _to_row(busy: Busy) -> tuple[str, ...]:
    process, usage = busy.process, busy.process.usage
    return (
        process.process_id,
        str(process.pid or "-"),
        to_age(process.started_at),
        f"{busy.share:.1%}".removesuffix("%"),
        to_length(usage.cpu) if usage else "-",
        to_size(usage.memory_bytes) if usage else "-",
        str(usage.processes) if usage else "-",
        to_command(process),
    )


def _summary(busy: Sequence[Busy]) -> str:
    memory = sum(each.process.usage.memory_bytes for each in busy if each.process.usage)
    return f"{len(busy)} running  {sum(each.share for each in busy):.0%} CPU  {to_size(memory)}  (Ctrl-C ends this)"
