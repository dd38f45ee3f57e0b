"""Moves what a process prints from its pipes into its journal, and wakes those who follow it."""

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping

from guyline.agentd.journal.gone import GoneJournal
from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.piece import PIECE_BYTES, Piece
from guyline.agentd.journal.runs import Stream
from guyline.agentd.process.bell import Bell
from guyline.agentd.process.exhaustion import exhaustion_told
from guyline.agentd.process.faults import FaultPoint, no_fault
from guyline.agentd.process.streams.pacing import Pacing
from guyline.agentd.process.streams.source import Source
from guyline.agentd.process.threads import in_thread
from guyline.daemon.logging import get_logger

_RETRY = 0.1
"""Seconds until a pipe is looked at again that could not be read for want of a descriptor."""
_DRAIN_BYTES = 2 << 20
"""As much may be in a pipe of the largest size when its process ends, and in its second pipe."""

log = get_logger("output")


class Output:
    """What one process prints, by one or two sources, until all of them are at their end.

    ``source_ended`` is called when one of two is, ``ended`` once, when the last is; the descriptors are closed by then,
    and their numbers may become anybody's. ``close`` gives the rest back early and loses nothing: the keeper holds
    duplicates for the next worker.
    """

    def __init__(
        self,
        sources: Mapping[Stream, Source],
        journal: Journal | GoneJournal,
        *,
        grown: Callable[[], None],
        ended: Callable[[], None],
        source_ended: Callable[[Stream], None] = lambda _: None,
        reach: FaultPoint = no_fault,
    ) -> None:
        self.journal = journal
        self.pacing: Pacing | None = None
        self.grown_at = 0.0  # loop time at which something was printed last; 0: not yet in this worker's life
        self._sources = dict(sources)
        self._reading: set[Stream] = set()
        self._retry: asyncio.TimerHandle | None = None  # set while a pipe cannot be read
        self._bells: set[Bell] = set()
        self._grown = grown
        self._ended = ended
        self._source_ended = source_ended
        self._reach = reach

    @property
    def is_open(self) -> bool:
        """Whether the process, or a descendant, can still print."""
        return bool(self._sources)

    @property
    def is_followed(self) -> bool:
        return bool(self._bells)

    @property
    def is_stuck(self) -> bool:
        """Whether there may be output in the pipes that cannot be taken at the moment."""
        return self._retry is not None

    @property
    def is_held_up(self) -> bool:
        """Whether the process must wait for its reader (PAUSE) before it can print more."""
        return self.pacing is not None and self.pacing.must_wait(self.journal.size)

    @contextlib.contextmanager
    def bell(self) -> Iterator[Bell]:
        """A bell that rings with every growth, and with whatever else ``ring`` is called for."""
        bell = Bell()
        self._bells.add(bell)
        try:
            yield bell
        finally:
            self._bells.discard(bell)

    async def read(self, offset: int, at_most: int = PIECE_BYTES) -> Piece:
        """The next piece that is kept, from ``offset`` on. Cancelling is safe.

        Raises:
            OffsetOutOfRange: The offset is behind the end.
            SystemExhausted: No descriptor is left, or no thread.
        """
        while True:
            with exhaustion_told("reading output"):  # a journal that is at rest needs a descriptor to be read
                piece = self.journal.read(offset, at_most)
            if isinstance(piece, Piece):
                return piece
            await in_thread(piece.warm)

    def offset_since(self, moment: float) -> int:
        """Where the first output begins that was printed then or later. Raises SystemExhausted, as above."""
        with exhaustion_told("reading output"):
            return self.journal.offset_since(moment)

    def give_up(self, process_id: str) -> None:
        """The journal is about to be removed: from now on all that was printed reads as lost, also for who waits."""
        self.close()
        self.journal = GoneJournal(process_id, self.journal.size)

    def ring(self) -> None:
        for bell in self._bells:
            bell.ring()

    def resume(self) -> None:
        """Reads the pipes from now on, as far as the pacing allows it."""
        if self._retry:
            return
        loop = asyncio.get_running_loop()
        may_read = not (self.pacing and self.pacing.must_wait(self.journal.size))
        for stream, source in self._sources.items():
            if may_read and stream not in self._reading:
                loop.add_reader(source.watched, self._take, stream)
                self._reading.add(stream)
            elif not may_read:
                self._stop_reading(stream)

    def drain(self) -> None:
        """Takes what is in the pipes now. Used once the process has ended: what it printed is all there by then."""
        for stream in list(self._sources):
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < _DRAIN_BYTES and (moved := self._move(stream)):
                    taken += moved
        self.ring()

    def close(self) -> None:
        """Stops reading and closes the descriptors."""
        if self.pacing:
            self.pacing.close()
        if self._retry:
            self._retry.cancel()
            self._retry = None
        for stream in list(self._sources):
            self._close_source(stream)

    def _take(self, stream: Stream) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                self._move(stream)
            if self.pacing and self._sources:
                self.resume()
            self._grown()
        finally:
            self.ring()  # whatever went wrong elsewhere: what was taken can be read

    def _move(self, stream: Stream) -> int:
        """Returns the number of bytes moved; zero also when there is nothing more to be had now."""
        assert isinstance(self.journal, Journal), "what has a source has a journal"
        source = self._sources[stream]
        try:
            source.fill()
            moved = self.journal.take(source.pipe, stream)
        except BlockingIOError:
            if not source.is_at_end:
                raise
            moved = 0
        except OSError as why:
            self._look_again_later(why)
            return 0
        self._reach("output.taken")
        if moved:
            self.grown_at = asyncio.get_running_loop().time()
        else:
            self._close_source(stream)
            if self._sources:
                self._source_ended(stream)
            else:
                self._end()
        return moved

    def _end(self) -> None:
        if self.pacing:
            self.pacing.close()
        self._ended()

    def _look_again_later(self, why: OSError) -> None:
        """The bytes wait in the pipe; whatever is missing (a descriptor, most likely) may be there in a moment."""
        if self._retry:
            self._retry.cancel()  # each would set the next one for every stream that fails again
        else:
            error = errno.errorcode.get(why.errno or 0)
            log.warning("output cannot be read now", journal=self.journal.path.name, error=error)
        for stream in self._sources:
            self._stop_reading(stream)
        self._retry = asyncio.get_running_loop().call_later(_RETRY, self._try_again)

    def _try_again(self) -> None:
        for stream in list(self._sources):
            with contextlib.suppress(BlockingIOError):
                self._move(stream)
        assert self._retry
        if self._retry.when() <= asyncio.get_running_loop().time():  # none of them failed again
            self._retry = None
            self.resume()
        self.ring()

    def _stop_reading(self, stream: Stream) -> None:
        if stream in self._reading:
            asyncio.get_running_loop().remove_reader(self._sources[stream].watched)
            self._reading.discard(stream)

    def _close_source(self, stream: Stream) -> None:
        self._stop_reading(stream)
        self._sources.pop(stream).close()
