"""A process at this command's keyboard and screen, or at its standard input."""

import asyncio
import contextlib
import os
from argparse import Namespace
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

from guyline.cli.console import STDIN, Console, Screen, size
from guyline.cli.keys import DetachKeys
from guyline.cli.leave import leave
from guyline.cli.relay import LEFT_RUNNING, Signals, follow_to_the_end
from guyline.cli.say import complain
from guyline.cli.sink import STDOUT, Descriptors, JsonLines, Sink, write, write_json
from guyline.cli.standard_input import standard_input
from guyline.cli.tail import FROM_THE_START, Beginning
from guyline.cli.text import SHORT, to_result
from guyline.client.beside import beside
from guyline.client.enums import InputMode
from guyline.client.errors import GuylineError, InputClosed, NoTerminal, ProcessNotFound
from guyline.client.process import AsyncProcess
from guyline.client.values import Chunk, Exit

_LAST_KEYS = 1.0
"""Seconds for what was typed before the keys to detach."""
_LAST_WORDS = 1.0
"""Seconds for each thing that is written at the end."""
_END_OF_FILE = b"\x04"
"""What a terminal's line discipline takes for the end of input, unless a program has changed that."""


@dataclass(frozen=True)
class Outcome:
    """How it ended, None if it goes on; this command's exit code; whether somebody left it by the keys for that."""

    exit: Exit | None
    code: int
    left: bool = False


class Session:
    """One process, for as long as it is followed here.

    Args:
        process: Which.
        sink: Where its output goes.
        signals: What this command gets.
        detach_keys: Those that leave it, where somebody types.
        draws: Whether what it does to its terminal is done to this one, and to be undone.
    """

    def __init__(
        self, process: AsyncProcess, sink: Sink, signals: Signals, *, detach_keys: bytes, draws: bool = False
    ) -> None:
        self._process = process
        self._screen = Screen()
        self._sink = _Shown(sink, self._screen) if draws else sink
        self._signals = signals
        self._has_terminal = process.info.input.mode is InputMode.TERMINAL
        self._left = asyncio.Event()
        is_typed = self._has_terminal and os.isatty(STDIN)  # in data, any bytes may come one after the other
        self._keys = DetachKeys(detach_keys if is_typed else b"", pressed=self._left.set)
        self._resized = asyncio.Event()

    async def run(self, *, start: Beginning = FROM_THE_START, redraws: bool = False) -> Outcome:
        """Follows it to its end, or until somebody types the keys to detach.

        Args:
            start: Where in its output to begin.
            redraws: Have it draw its screen anew, since what it has drawn so far is not shown.
        """
        if not self._has_terminal:
            return await self._attended(start)
        try:
            with Console(changed=self._resized.set) as console:
                self._signals.before_leaving = console.restore
                async with beside(self._resize(redraws=redraws)):
                    return await self._attended(start)
        finally:  # the keyboard is given back by now, whatever becomes of the screen
            with contextlib.suppress(OSError):  # a terminal that is gone changes no exit code
                await _for_a_moment(write(STDOUT, self._screen.undone()))

    async def _attended(self, start: Beginning) -> Outcome:
        output = asyncio.create_task(self._show(start))
        typing = asyncio.create_task(self._type())
        leaving = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({output, typing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if self._keys.found:  # what was typed before gets a moment: the agent may be away, or the process stuck
                await asyncio.wait({output, typing}, timeout=_LAST_KEYS, return_when=asyncio.FIRST_COMPLETED)
                return await output if output.done() else Outcome(None, LEFT_RUNNING, left=True)
            if typing.done():  # there is no more to read
                await typing
            return await output
        finally:
            for task in (leaving, typing, output):
                task.cancel()
            await asyncio.gather(leaving, typing, output, return_exceptions=True)

    async def _show(self, start: Beginning) -> Outcome:
        return Outcome(*await follow_to_the_end(self._process, self._sink, self._signals, start=start))

    async def _type(self) -> None:
        """Passes on what is read, until there is no more, the process reads no more, or somebody detaches."""
        last = b""
        try:
            async with aclosing(standard_input(self._keys)) as pieces:
                async for last in pieces:
                    await self._process.write(last, shared=self._has_terminal)
            if not self._keys.found:
                await self._end_input(last)
        except (InputClosed, ProcessNotFound):
            return  # its exit is on the way

    async def _end_input(self, last: bytes) -> None:
        if not self._has_terminal:
            await self._process.close_input()
        elif last.endswith((b"\n", b"\r")) or not last:
            await self._process.write(_END_OF_FILE, shared=True)
        else:  # the first one only ends the line that was begun
            await self._process.write(_END_OF_FILE * 2, shared=True)

    async def _resize(self, *, redraws: bool) -> None:
        """Gives the process's terminal the size of this one, now and whenever that changes."""
        self._resized.set()
        while True:
            await self._resized.wait()
            self._resized.clear()
            if (window := size()) is None:
                continue
            columns, rows = window
            try:
                if redraws:  # a size that stays is no news to a program
                    await self._process.resize(columns, rows + 1)
                await self._process.resize(columns, rows)
            except (NoTerminal, ProcessNotFound):
                return
            except GuylineError:
                continue  # the agent is away; what is shown comes back with it, and says so
            redraws = False


class _Shown(Sink):
    """Remembers what the process has done to the screen."""

    def __init__(self, sink: Sink, screen: Screen) -> None:
        self._sink = sink
        self._screen = screen

    async def take(self, chunk: Chunk) -> None:
        """As above."""
        self._screen.show(chunk.data)
        await self._sink.take(chunk)


async def stand_in(
    process: AsyncProcess,
    options: Namespace,
    signals: Signals,
    *,
    reads: bool,
    start: Beginning = FROM_THE_START,
    redraws: bool = False,
) -> int:
    """What ``exec`` and ``attach`` share once the process is known; returns the exit code.

    Args:
        process: Which.
        options: Those of the command: ``json``, ``detach_keys``.
        signals: What this command gets.
        reads: Whether it gets this command's standard input.
        start: Where in its output to begin.
        redraws: See ``Session.run``.
    """
    sink = JsonLines() if options.json else Descriptors()
    if reads:
        draws = not options.json and os.isatty(STDOUT)
        session = Session(process, sink, signals, detach_keys=options.detach_keys, draws=draws)
        outcome = await session.run(start=start, redraws=redraws)
    else:
        outcome = Outcome(*await follow_to_the_end(process, sink, signals, start=start))
    if outcome.left:
        await _take_leave(process, options)
    if options.json:
        await _say_in_json(process, outcome.exit)
    return outcome.code


async def _take_leave(process: AsyncProcess, options: Namespace) -> NoReturn:
    """Exits on the spot: a write of output may be stuck, and nobody waits for it."""
    said = f"guyline: left; `guyline attach {process.id[:SHORT]}` comes back to it"
    await _for_a_moment(asyncio.to_thread(complain, said))
    if options.json:
        await _for_a_moment(_say_in_json(process, None))
    leave(LEFT_RUNNING)


async def _say_in_json(process: AsyncProcess, exit_: Exit | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # the code is the command's own, as without --json
        await write_json(to_result(process.id, exit_))


async def _for_a_moment(work: Coroutine[object, object, None]) -> None:
    """Waits for last words, but not for somebody to read them: a terminal may be stopped, a pipe full."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            await work
