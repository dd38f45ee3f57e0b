"""What changed, for any number of readers: keys in the order of their last change. A STATE stream's memory."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from guyline.agentd.process.bell import Bell

K = TypeVar("K", bound=Hashable)

_KEPT_REMOVALS = 10_000


@dataclass(frozen=True)
class Since(Generic[K]):
    """What a reader has to be told. ``position`` is where it goes on."""

    position: int
    reset: bool  # what it knew is void: ``changed`` is everything there is
    changed: tuple[K, ...]  # oldest change first
    removed: tuple[K, ...]


class Changes(Generic[K]):
    """Remembers of each key when it changed last, and of removed ones a bounded number.

    Positions count changes from 1; 0 is before everything.
    """

    def __init__(self) -> None:
        self.position = 0  # of the last change
        self._changed: OrderedDict[K, int] = OrderedDict()
        self._removed: OrderedDict[K, int] = OrderedDict()
        self._forgotten = 0  # the position up to which removals are no longer known
        self._bells: set[Bell] = set()

    def put(self, key: K) -> None:
        """The key is new or has changed."""
        self._removed.pop(key, None)
        self._note(self._changed, key)

    def remove(self, key: K) -> None:
        if self._changed.pop(key, None) is not None:
            self._note(self._removed, key)
        while len(self._removed) > _KEPT_REMOVALS:
            _, self._forgotten = self._removed.popitem(last=False)

    def since(self, position: int) -> Since[K]:
        """All that changed after ``position``, each key once."""
        reset = 0 < position < self._forgotten or position > self.position
        after = 0 if reset else position
        removed = () if after == 0 else _after(self._removed, after)
        return Since(self.position, reset, _after(self._changed, after), removed)

    def subscribe(self) -> Bell:
        """A bell that rings with every change, until ``unsubscribe``."""
        bell = Bell()
        self._bells.add(bell)
        return bell

    def unsubscribe(self, bell: Bell) -> None:
        self._bells.discard(bell)

    def _note(self, where: "OrderedDict[K, int]", key: K) -> None:
        self.position += 1
        where[key] = self.position
        where.move_to_end(key)
        for bell in self._bells:
            bell.ring()


def _after(positions: "OrderedDict[K, int]", position: int) -> tuple[K, ...]:
    found = []
    for key, changed_at in reversed(positions.items()):
        if changed_at <= position:
            break
        found.append(key)
    return tuple(reversed(found))
