"""Stands in for a process: passes its output on, and to it the signals that this command gets."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Self

from guyline.cli.inherited import heeded
from guyline.cli.leave import leave
from guyline.cli.say import complain
from guyline.cli.sink import Sink
from guyline.cli.tail import FROM_THE_START, Beginning
from guyline.client.completed import in_words
from guyline.client.enums import EndedBy
from guyline.client.errors import AgentUnreachable, GuylineError, NotFound, Outcome, WrongState
from guyline.client.process import AsyncProcess
from guyline.client.values import Chunk, Exit

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_OWN_FAILURE = 125
_TIME_OVER = 124  # as timeout(1) has it
LEFT_RUNNING = _TIME_OVER
"""The exit code for a process that goes on."""

_TRIES = 3
"""How often a signal is sent whose answer is lost. Before each but the first the agent has answered again."""


class Signals:
    """What to do with the signals that this command gets, from before the process is known until it has ended.

    SIGINT goes to the process group, one after that kills it, the third gives up on it; SIGTERM, SIGQUIT and SIGHUP are
    passed on as they are. A SIGINT that did not arrive does not count. What comes before the process is known is kept
    for it; two that come before then give up, whatever they are. A terminal that is closed says so more than once: only
    the first SIGHUP counts. A signal that was ignored before stays ignored.

    Leaving the ``async with`` block restores Python's own handling.
    """

    def __init__(self) -> None:
        self._interrupts = 0
        self._early = 0  # before the process was known
        self._hung_up = False
        self._was_interrupted = False  # the process, by a SIGINT of ours
        self._passing: int | None = None  # what is not known to have arrived yet
        self._waiting: asyncio.Queue[int] = asyncio.Queue(maxsize=16)
        self._gave_up: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._is_known = False
        self._heeded = heeded(_PASSED_ON)
        self.before_leaving: Callable[[], None] = lambda: None
        """Done before this command exits on the spot."""

    async def __aenter__(self) -> Self:
        for number in self._heeded:
            asyncio.get_running_loop().add_signal_handler(number, self._got, number)
        return self

    async def __aexit__(self, *_: object) -> None:
        for number in self._heeded:
            asyncio.get_running_loop().remove_signal_handler(number)

    async def unless_given_up(self, work: Coroutine[object, object, int]) -> int:
        """Does the work to its end. If the user gives up before, exits on the spot. Cancelling cancels the work."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._gave_up}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.before_leaving()
                leave(128 + self._gave_up.result())  # a write to a full pipe may be stuck; nobody waits for it
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    @asynccontextmanager
    async def passed_on_to(self, process: AsyncProcess) -> AsyncIterator[None]:
        """Passes signals on for the length of the block. One that is left over when the block fails is told."""
        self._is_known = True
        passing = asyncio.create_task(self._pass_on(process))
        try:
            yield
        except GuylineError:
            if self._passing is not None:
                await _say(f"guyline: signal {self._passing} was perhaps not passed on")
            raise
        finally:
            passing.cancel()
            await asyncio.wait({passing})

    def _got(self, number: int) -> None:
        if number == signal.SIGHUP and self._hung_up:
            return
        self._hung_up |= number == signal.SIGHUP
        self._interrupts += number == signal.SIGINT
        self._early += not self._is_known
        gives_up = self._interrupts > 2 or (self._early > 1 and not self._is_known) or self._waiting.full()
        if gives_up and not self._gave_up.done():
            self._gave_up.set_result(number)
        if not self._waiting.full():
            self._waiting.put_nowait(number)

    async def _pass_on(self, process: AsyncProcess) -> None:
        while True:
            number = await self._waiting.get()
            self._passing = signal.SIGKILL if number == signal.SIGINT and self._was_interrupted else number
            has_arrived = await send(process, self._passing)
            self._passing = None
            if number == signal.SIGINT:
                self._was_interrupted |= has_arrived
                self._interrupts -= not has_arrived
            if number == signal.SIGHUP and not self._gave_up.done():
                self._gave_up.set_result(number)  # the terminal is gone: nobody reads on


async def send(process: AsyncProcess, number: int) -> bool:
    """Signals the process group, if there still is one. Waits for an agent that is away, and says so if it does not
    come back. Returns False if the signal may not have arrived.

    One whose answer is lost is sent again, since an agent that dies has mostly not got to it. Not SIGINT: of two, the
    second means something else.
    """
    tries = 1 if number == signal.SIGINT else _TRIES
    while True:
        tries -= 1
        try:
            await process.signal(number)
        except (WrongState, NotFound):
            return True  # it has ended, and its exit is on the way
        except GuylineError as error:
            was_lost = isinstance(error, AgentUnreachable) and error.outcome is Outcome.MAY_HAVE_RUN
            if was_lost and tries:
                continue
            perhaps = "" if error.outcome is Outcome.NOT_STARTED else "perhaps "
            await _say(f"guyline: signal {number} was {perhaps}not passed on: {error}")
            return False
        return True


async def follow_to_the_end(
    process: AsyncProcess, sink: Sink, signals: Signals, *, start: Beginning = FROM_THE_START
) -> tuple[Exit | None, int]:
    """What ``exec`` and ``attach`` share, once the process is known: its output, its signals, its exit.

    Returns the exit, None if it was left running, and the exit code for it.
    """
    output = process.output(from_offset=start.from_offset, since=start.since)
    async with signals.passed_on_to(process), aclosing(output) as chunks:
        trouble = await _relay(process, chunks, sink)
    if process.detached:
        is_fed = process.info.input.is_open and not process.info.terminal
        said, option = ("; its input is still open", "-i ") if is_fed else ("", "")
        await _say(
            f"guyline: still running, id {process.id}{said}; `guyline attach {option}{process.id}` goes on with it"
        )
        return None, LEFT_RUNNING
    ended = await process.wait()
    if ended.unknown is not None:
        await _say(f"guyline: nobody knows how process {process.id} ended: {ended.unknown.label.replace('_', ' ')}")
    if trouble is not None and not isinstance(trouble, BrokenPipeError):
        await _say(f"guyline: the output could not be written: {trouble.strerror}")
        return ended, _OWN_FAILURE
    if ended.ended_by is EndedBy.TIME_LIMIT:
        await _say(f"guyline: {in_words(ended)}")
        return ended, _TIME_OVER
    return ended, _OWN_FAILURE if ended.shell_code is None else ended.shell_code


async def _relay(process: AsyncProcess, chunks: AsyncIterator[Chunk], sink: Sink) -> OSError | None:
    """Passes output on until the process has ended; returns why that failed, if it did.

    When the output is closed (``| head``), or its disk is full, the process gets SIGPIPE, as if it had written there
    itself; what it prints after that is dropped.
    """
    trouble: OSError | None = None
    async for chunk in chunks:
        if trouble is None:
            try:
                await sink.take(chunk)
            except OSError as why:
                trouble = why
                await send(process, signal.SIGPIPE)
    return trouble


async def _say(text: str) -> None:
    """In a thread: a terminal that was stopped must not keep signals away."""
    await asyncio.to_thread(complain, text)
