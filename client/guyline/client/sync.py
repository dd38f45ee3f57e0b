"""The same for programs without an event loop: ``Agent`` and ``Process`` wait for what their async twins do."""

import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self, Unpack

from guyline.client.agent import AsyncAgent
from guyline.client.argument import check_callable, check_data_at_hand
from guyline.client.blocking import Facade, blocking, blocking_to, streaming
from guyline.client.completed import Completed
from guyline.client.lines import LINE_BYTES, LineSplitter
from guyline.client.loop_thread import Errands, LoopThread
from guyline.client.options import OutputRange, RunOptions, refuse_others
from guyline.client.process import AsyncProcess
from guyline.client.values import Bytes, Chunk, Line, ProcessInfo


class Process(Facade[AsyncProcess]):
    """One process of the agent; see ``AsyncProcess``. Safe from any thread."""

    def __init__(self, twin: AsyncProcess, thread: LoopThread) -> None:
        super().__init__(twin, thread)
        self._writing = threading.RLock()  # reentrant: an iterable that is written may write

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.post(self._twin.aclose())

    @property
    def id(self) -> str:
        """Names the process for all time."""
        return self._twin.id

    @property
    def info(self) -> ProcessInfo:
        """The process as of the last message about it."""
        return self._twin.info

    @property
    def attached(self) -> bool:
        """Whether the key that the start was given had been used, by another start or by a lost try of this one."""
        return self._twin.attached

    @property
    def detached(self) -> bool:
        """Whether ``output`` ended because of ``detach_after``, and not because the process did."""
        return self._twin.detached

    output = streaming(AsyncProcess.output)
    wait = blocking(AsyncProcess.wait)
    wait_for = blocking(AsyncProcess.wait_for)
    view = blocking(AsyncProcess.view)
    input_position = blocking(AsyncProcess.input_position)
    resize = blocking(AsyncProcess.resize)
    signal = blocking(AsyncProcess.signal)
    cancel = blocking(AsyncProcess.cancel)
    remove = blocking(AsyncProcess.remove)

    def lines(self, *, max_line_bytes: int = LINE_BYTES, **where: Unpack[OutputRange]) -> Generator[Line, None, None]:
        """The output as lines of text: as ``AsyncProcess.lines``."""
        refuse_others(where, OutputRange, of="Process.lines")
        # Cut here: to ask the other thread for each line would make most of the work.
        splitter = LineSplitter(max_line_bytes=max_line_bytes)
        with closing(self.output(**where)) as chunks:
            for chunk in chunks:
                yield from splitter.feed(chunk)
        yield from splitter.rest()

    def write(self, data: Bytes | Iterable[Bytes], *, eof: bool = False, shared: bool = False) -> None:
        """Gives the process something to read: as ``AsyncProcess.write``. What an iterable gives is passed on as it
        comes; other threads that write meanwhile come behind it.
        """
        self._thread.check_place()
        check_data_at_hand("data", data)
        with self._writing:
            # Asked for its pieces here: it may take its time over them, and use this agent.
            for piece in (data,) if isinstance(data, Bytes) else data:
                self._thread.call(self._twin.write(piece, shared=shared))
            if eof:
                self.close_input()

    def close_input(self) -> None:
        """Closes the input behind what was written: as ``AsyncProcess.close_input``."""
        self._thread.check_place()
        with self._writing:
            self._thread.call(self._twin.close_input())


class Agent(Facade[AsyncAgent]):
    """An agent, for programs without an event loop. Use it as a context manager.

        with Agent() as agent:
            built = agent.run(["make", "-j8"], check=True)
            print(built.text)

    Everything else is as of ``AsyncAgent``, to which the arguments go as well. The work is done in a thread that begins
    with the first call. The agent and its processes can be used from any thread, but not after a fork: close it before,
    and make another one in the child. ``close`` hangs up and ends what other threads wait for; processes go on.

    Raises:
        InvalidInput: As of ``AsyncAgent``.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        chat_id: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        patience: float = 60.0,
        connect_timeout: float = 1.0,
        keepalive: float = 15.0,
        on_absence: Callable[[bool], None] | None = None,
    ) -> None:
        twin = AsyncAgent(
            address,
            chat_id=chat_id,
            token_file=token_file,
            ca_file=ca_file,
            insecure=insecure,
            patience=patience,
            connect_timeout=connect_timeout,
            keepalive=keepalive,
            on_absence=on_absence,
        )
        super().__init__(twin, LoopThread(enter=twin.__aenter__, leave=lambda: twin.__aexit__(None, None, None)))

    def __enter__(self) -> Self:
        """Meets the agent. Errors are those of ``AsyncAgent``'s."""
        try:
            self._thread.call(_meet())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up. Whoever waits for a call in another thread gets an error. Closing twice is fine."""
        self._thread.close()

    @property
    def is_local(self) -> bool:
        """Whether it is reached by a Unix socket, so that paths here are paths there."""
        return self._twin.is_local

    def run(
        self,
        command: str | Sequence[str],
        *,
        on_output: Callable[[Chunk], int | None] | None = None,
        **options: Unpack[RunOptions],
    ) -> Completed:
        """Runs a command to its end: as ``AsyncAgent.run``. ``on_output`` is called in this thread, and is no coroutine
        function: nobody would await it.
        """
        if on_output is None:
            return self._thread.call(self._twin.run(command, **options))
        check_callable("on_output", on_output)
        errands = Errands(on_output)
        return self._thread.call(self._twin.run(command, on_output=errands.ask, **options), errands=errands)

    open = blocking_to(AsyncAgent.open, Process)
    start = blocking_to(AsyncAgent.start, Process)
    attach = blocking_to(AsyncAgent.attach, Process)
    cancel = blocking(AsyncAgent.cancel)
    remove = blocking(AsyncAgent.remove)
    list = blocking(AsyncAgent.list)
    watch = streaming(AsyncAgent.watch)
    info = blocking(AsyncAgent.info)
    upgrade = blocking(AsyncAgent.upgrade)


async def _meet() -> None:
    """Nothing: whatever is called, the agent is met before."""
