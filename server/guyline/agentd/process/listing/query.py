"""The list of processes: which ones, in which order, and in pages that leave none out."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from guyline.agentd.process.exit import State, state_of
from guyline.agentd.process.process import Process
from guyline.errors import InvalidInput, Violation

_TOKEN = struct.Struct(">B?QIQ")
_VERSION = 1
_BEYOND_ALL = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class WantedLabels:
    """Labels that a process must have: some with these values, others whatever their values are."""

    values: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def are_among(self, labels: Mapping[str, str]) -> bool:
        return self.names <= labels.keys() and all(labels.get(name) == value for name, value in self.values.items())


WHATEVER_LABELS = WantedLabels()


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a process must be like; what is empty does not matter."""

    labels: WantedLabels = WHATEVER_LABELS
    states: frozenset[State] = frozenset()
    id_prefix: str = ""

    def lets_through(self, process: Process) -> bool:
        return (
            process.process_id.startswith(self.id_prefix)
            and (not self.states or state_of(process.exit) in self.states)
            and self.labels.are_among(process.origin.labels)
        )


class Place(NamedTuple):
    """Where a page ended. Opaque to clients as ``to_bytes``."""

    has_ended: bool  # the last process on it: one that had ended, or one that ran
    sequence: int  # the last process's own
    ended: int  # how many of the ended were on this page and those before
    since: int  # every end up to this one had happened when the first page was made

    def to_bytes(self) -> bytes:
        return _TOKEN.pack(_VERSION, *self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Place":
        """Raises:
        InvalidInput: This is no place.
        """
        if len(data) != _TOKEN.size or data[0] != _VERSION:
            raise InvalidInput(
                Violation("page_token", "is none of ours; pass `next_page_token` on as it came, or leave it out")
            )
        return cls(*_TOKEN.unpack(data)[1:])


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a page is asked for with."""

    filter: Filter = Filter()
    max_ended: int
    page_size: int
    after: Place | None = None  # the page before; None: there was none


class Item(NamedTuple):
    """A process in the list, and how it stood when the page was made."""

    process: Process
    has_ended: bool
    counts: bool  # as one of the ended that a query wants at most


class Selection:
    """The processes that a query lets through, and all of the list that comes after the page before.

    Running ones first, then the ended, each the newest first. What ends between two pages may so come twice. It is not
    left out either: ended ones that ran when the first page was made do not count to ``max_ended``.

    Args:
        processes: Those that the caller may see.
        query: What the page is asked for with.
        since: Every end up to this one has happened by now.
    """

    def __init__(self, processes: Iterable[Process], query: Query, *, since: int) -> None:
        found = [process for process in processes if query.filter.lets_through(process)]
        self.ended_total = sum(not process.is_running for process in found)
        self._before = query.after or Place(has_ended=False, sequence=_BEYOND_ALL, ended=0, since=since)
        self._is_first = query.after is None
        self.rest = list(self._after_the_page_before(found, query.max_ended))

    def place_after(self, page: list[Item]) -> Place:
        """Where a page ends that holds these, the first of ``rest``."""
        last = page[-1]
        ended = self._before.ended + sum(item.counts for item in page)
        return Place(last.has_ended, last.process.origin.sequence, ended, self._before.since)

    def _after_the_page_before(self, found: list[Process], max_ended: int) -> Iterator[Item]:
        left = max_ended - self._before.ended
        told = (self._before.has_ended, -self._before.sequence)
        for process in sorted(found, key=_order_in_list):
            item = Item(process, has_ended=not process.is_running, counts=self._counts(process))
            if _order_in_list(process) > told and (left > 0 or not item.counts):
                left -= item.counts
                yield item

    def _counts(self, process: Process) -> bool:
        return process.exit is not None and (self._is_first or process.exit.order <= self._before.since)


def _order_in_list(process: Process) -> tuple[bool, int]:
    return not process.is_running, -process.origin.sequence
