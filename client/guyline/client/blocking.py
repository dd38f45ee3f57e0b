"""Methods of an async class as methods that wait, with the same parameters and the same documentation.

A sync class names each method of its async twin once; signature and types are carried over, for people and type
checkers.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar, overload

from guyline.client.loop_thread import LoopThread

Twin = TypeVar("Twin")
P = ParamSpec("P")
Result = TypeVar("Result")
Given = TypeVar("Given")
Item = TypeVar("Item")


class Facade(Generic[Twin]):
    """An object whose work is done by an async twin, in a loop's thread."""

    def __init__(self, twin: Twin, thread: LoopThread) -> None:
        self._twin = twin
        self._thread = thread

    def __repr__(self) -> str:
        return repr(self._twin)


class Carried(Generic[Twin, P, Given, Result]):
    """A method of a facade that has the parameters and the documentation of its twin's.

    Args:
        method: The twin's.
        finish: Makes of what that gives what the facade's is to give, with the loop's thread.
    """

    def __init__(
        self, method: Callable[Concatenate[Twin, P], Given], finish: Callable[[Given, LoopThread], Result]
    ) -> None:
        self._method = method
        self._finish = finish
        self.__doc__ = method.__doc__
        self.__wrapped__ = method

    @overload
    def __get__(self, facade: None, owner: type) -> Self: ...
    @overload
    def __get__(self, facade: Facade[Twin], owner: type) -> Callable[P, Result]: ...
    def __get__(self, facade: Facade[Twin] | None, owner: type) -> Self | Callable[P, Result]:
        if facade is None:
            return self

        twin, thread = facade._twin, facade._thread  # noqa: SLF001 - of this module

        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            return self._finish(self._method(twin, *args, **kwargs), thread)

        functools.update_wrapper(call, MethodType(self._method, twin))  # the signature is then without `self`
        return call


Work: TypeAlias = Coroutine[Any, Any, Result]


def blocking(method: Callable[Concatenate[Twin, P], Work[Result]]) -> Carried[Twin, P, Work[Result], Result]:
    """A coroutine method as one that returns its result."""
    return Carried(method, lambda work, thread: thread.call(work))


def blocking_to(
    method: Callable[Concatenate[Twin, P], Work[Given]], make: Callable[[Given, LoopThread], Result]
) -> Carried[Twin, P, Work[Given], Result]:
    """The same, for one that gives an async object: the caller gets its sync twin, made from that and the thread."""
    return Carried(method, lambda work, thread: make(thread.call(work), thread))


def streaming(
    method: Callable[Concatenate[Twin, P], AsyncGenerator[Item, None]],
) -> Carried[Twin, P, AsyncGenerator[Item, None], Generator[Item, None, None]]:
    """An async generator method as a plain one. It may be left early: closed, or forgotten."""
    return Carried(method, lambda items, thread: _pulled(thread, _Source(items)))


class _Source(Generic[Item]):
    """An async generator that is asked and closed by turns: a question that was given up may still be on its way."""

    def __init__(self, items: AsyncGenerator[Item, None]) -> None:
        self._items = items
        self._turn = asyncio.Lock()

    async def next(self) -> tuple[Item] | None:
        async with self._turn:
            async for item in self._items:
                return (item,)
            return None

    async def close(self) -> None:
        async with self._turn:
            await self._items.aclose()


def _pulled(thread: LoopThread, source: _Source[Item]) -> Generator[Item, None, None]:
    thread.hold(source)
    try:
        while (given := thread.call(source.next())) is not None:
            yield given[0]
    finally:
        # Without waiting for it: the garbage collector may be doing this, in the loop's own thread.
        thread.post(source.close())
