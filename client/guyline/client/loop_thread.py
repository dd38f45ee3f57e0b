"""An event loop in a thread of its own, for programs that have none."""

import asyncio
import concurrent.futures
import inspect
import os
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, Protocol, TypeVar

from guyline.client.errors import GuylineError

Result = TypeVar("Result")
Asked = TypeVar("Asked")

_EXIT_SECONDS = 2.0
"""So long an interpreter that exits, or the garbage collector, waits for a thread that nobody has closed."""


class Errands(Generic[Asked]):
    """Has a function called in the thread that waits for a coroutine, for that coroutine."""

    def __init__(self, function: Callable[[Asked], object]) -> None:
        self._function = function
        self._asked: queue.SimpleQueue[tuple[Asked, concurrent.futures.Future[None]] | None] = queue.SimpleQueue()

    async def ask(self, about: Asked) -> None:
        """Returns once the function has; for the coroutine. There is one question at a time."""
        answer: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._asked.put((about, answer))
        await asyncio.wrap_future(answer)

    def serve(self, until: concurrent.futures.Future[Result]) -> None:
        """Calls the function until the coroutine has ended; for the thread that waits. Raises what it does."""
        until.add_done_callback(lambda _: self._asked.put(None))
        while (asked := self._asked.get()) is not None:
            about, answer = asked
            if answer.set_running_or_notify_cancel():
                _refuse_awaitable(self._function(about))
                answer.set_result(None)


def _refuse_awaitable(given: object) -> None:
    if inspect.isawaitable(given):
        if inspect.iscoroutine(given):
            given.close()  # otherwise it would complain that nobody has awaited it
        raise TypeError("on_output gave an awaitable, which nobody awaits here; use AsyncAgent, or a plain function")


class Stream(Protocol):
    """Something that must be closed while its loop runs."""

    async def close(self) -> None: ...


class Streams:
    """Those that are open. Does not keep what nobody else knows any more."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._lock = threading.RLock()  # as in LoopThread

    def add(self, stream: Stream) -> None:
        with self._lock:
            self._open.add(stream)

    async def close(self) -> None:
        """One after the other: a loop that ends would close all generators at once, those within others as well."""
        with self._lock:
            streams = list(self._open)
        for stream in streams:
            await stream.close()


class LoopThread:
    """Runs coroutines in an event loop of its own, for any number of threads that wait for them.

    The thread begins with the first call. It ends with ``close``; or when nobody knows this object any more, or the
    interpreter exits.

    Args:
        enter: Is awaited before the first call, again for the next one if it fails.
        leave: Is awaited at the end. Must not refer to this object.
    """

    def __init__(self, *, enter: Callable[[], Awaitable[object]], leave: Callable[[], Awaitable[None]]) -> None:
        self._enter = enter
        self._leave = leave
        self._pid = os.getpid()
        # Reentrant: the garbage collector may end a forgotten stream in the middle of a call, in the same thread.
        self._lock = threading.RLock()
        self._running: _Running | None = None
        self._is_closed = False
        self._is_entered = False
        self._entering = asyncio.Lock()
        self._streams = Streams()
        self._posted: set[concurrent.futures.Future[None]] = set()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "running" if self._running else "not begun"
        return f"<loop in a thread, {state}>"

    def call(self, work: Coroutine[object, object, Result], *, errands: Errands[Asked] | None = None) -> Result:
        """Returns what the coroutine does. Whatever interrupts the wait (Ctrl-C, say) cancels the coroutine.

        Raises:
            GuylineError: ``close`` came before the result.
            RuntimeError: This is the loop's own thread, or another process than the one that made it.
        """
        future = self._submit(self._entered(work), work)
        try:
            if errands is not None:
                errands.serve(future)
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        finally:
            future.cancel()  # does nothing to one that is done

    def post(self, work: Coroutine[object, object, None]) -> None:
        """Has the coroutine run without waiting for it; drops it where there is no loop any more. From anywhere."""
        with self._lock:
            if self._is_closed or self._running is None or os.getpid() != self._pid:
                work.close()
                return
            try:
                future = self._running.submit(work)
            except GuylineError:  # the interpreter exits
                work.close()
                return
            self._posted.add(future)  # a task wants to be held by somebody
        future.add_done_callback(self._posted.discard)

    def hold(self, stream: Stream) -> None:
        """Closes the stream at the end, if it is still there then."""
        self._streams.add(stream)

    def close(self) -> None:
        """Ends the loop and all that is under way in it; whoever waits for that gets an error. Twice is fine.

        Raises:
            RuntimeError: As ``call``.
        """
        self.check_place()
        with self._lock:
            self._is_closed = True
            running = self._running
        if running is not None:
            running.stop()
            running.thread.join()

    def _submit(
        self, wrapped: Coroutine[object, object, Result], work: Coroutine[object, object, Result]
    ) -> concurrent.futures.Future[Result]:
        try:
            self.check_place()
            with self._lock:
                if self._is_closed:
                    raise _closed()
                if self._running is None:
                    self._running = _Running(self._leave, self._streams)
                    weakref.finalize(self, self._running.end_within, _EXIT_SECONDS)
                return self._running.submit(wrapped)
        except BaseException:
            for coroutine in (wrapped, work):
                coroutine.close()  # otherwise it would complain that nobody has awaited it
            raise

    def check_place(self) -> None:
        """Raises RuntimeError where waiting for the thread would never end."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this agent was made before a fork, in the parent process: close it there before, make another one here"
            )
        if self._running is not None and self._running.thread is threading.current_thread():
            raise RuntimeError("this would wait for itself: it is called in the thread that is to do it")

    async def _entered(self, work: Coroutine[object, object, Result]) -> Result:
        try:
            async with self._entering:
                if not self._is_entered:
                    await self._enter()
                    self._is_entered = True
            return await work
        finally:
            work.close()


class _Running:
    """A thread with a running loop. Knows nothing of the object that owns it, so that that one can be forgotten."""

    def __init__(self, leave: Callable[[], Awaitable[None]], streams: Streams) -> None:
        self.loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._streams = streams
        self._pid = os.getpid()
        self._lock = threading.RLock()  # as in LoopThread
        self._is_ending = False
        # A daemon: an interpreter that exits does not wait for it.
        self.thread = threading.Thread(target=self._run, args=(leave,), name="guyline", daemon=True)
        self.thread.start()

    def submit(self, work: Coroutine[object, object, Result]) -> concurrent.futures.Future[Result]:
        """Has the coroutine run.

        Raises:
            GuylineError: The thread ends, and the loop may never get to it.
        """
        with self._lock:
            if self._is_ending:
                raise _closed()
            return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        with self._lock:
            if not self._is_ending:
                self._is_ending = True
                self.loop.call_soon_threadsafe(self._stop.set)

    def end_within(self, seconds: float) -> None:
        """For an owner that was forgotten: ends the thread, unless this is a child that never had it."""
        if os.getpid() == self._pid:
            self.stop()
            if self.thread is not threading.current_thread():
                self.thread.join(seconds)

    def _run(self, leave: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:  # cancels what is left at the end
            runner.run(self._until_stopped(leave))

    async def _until_stopped(self, leave: Callable[[], Awaitable[None]]) -> None:
        self.loop.set_exception_handler(_handle)
        await self._stop.wait()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._streams.close()
        await leave()


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """As by default, but for what gRPC raises in vain.

    All loops of a program that use gRPC are woken by one socket. One of them reads what is there, and in the others
    that raises (https://github.com/grpc/grpc/issues/25364). Nothing is lost by it.
    """
    in_vain = isinstance(context.get("exception"), BlockingIOError) and "PollerCompletionQueue" in str(
        context.get("message")
    )
    if not in_vain:
        loop.default_exception_handler(context)


def _closed() -> GuylineError:
    return GuylineError("the agent was closed by this program")
