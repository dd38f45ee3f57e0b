"""Threads for what takes long, or may hang."""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, ParamSpec, Self, TypeVar

from guyline.agentd.process.errors import SystemExhausted

P = ParamSpec("P")
T = TypeVar("T")


class OwnThreads:
    """What works in threads of its own, so that nobody else waits when all of them are busy or hang; ``close`` ends it.

    A thread that hangs in the kernel is left behind.
    """

    def __init__(self, name: str, *, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Raises SystemExhausted if the system has no thread for it."""
        return _put(partial(question, *args, **kwargs), self._threads.submit)


async def in_thread(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Asks in a thread that is shared with others.

    Raises:
        SystemExhausted: The system has none for it.
    """
    loop = asyncio.get_running_loop()
    return await _put(partial(question, *args, **kwargs), lambda task: loop.run_in_executor(None, task))


class _Question(Generic[T]):
    """With an answer of its own: that of an executor is lost if there is no thread.

    The question stays in its queue then, and is put by the next thread that is free. What that would open, nobody would
    close; and what it is about would take memory until then, so it goes with the answer.
    """

    def __init__(self, question: Callable[[], T]) -> None:
        self.answer: Future[T] = Future()
        self._kept = kept = [question]
        self.answer.add_done_callback(lambda _: kept.clear())  # without a cycle that only the collector would end

    def answer_it(self) -> None:
        if self.answer.set_running_or_notify_cancel():
            try:
                self.answer.set_result(self._kept[0]())
            except BaseException as why:  # noqa: BLE001 - whoever asked is told
                self.answer.set_exception(why)

    def has_left_the_queue(self, asked: "Future[None] | asyncio.Future[None]") -> None:
        if asked.cancelled():  # the threads were closed
            self.answer.cancel()


def _put(
    question: Callable[[], T], submit: Callable[[Callable[[], None]], "Future[None] | asyncio.Future[None]"]
) -> "asyncio.Future[T]":
    asked = _Question(question)
    try:
        submit(asked.answer_it).add_done_callback(asked.has_left_the_queue)
    except RuntimeError as why:
        if asked.answer.cancel():
            raise SystemExhausted(errno.EAGAIN, "another thread") from why
    return asyncio.wrap_future(asked.answer)
