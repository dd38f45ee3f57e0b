"""How much input may wait, and how much memory may be held by what was read, of all processes together."""

from guyline.agentd.process.bell import Bell
from guyline.agentd.process.errors import FeatureOff

_MOST_UNFREED_BYTES = 64 << 20
"""Where memory cannot be given back all inputs together may take so much of it, read or not."""


class InputNotFreed(FeatureOff):
    """Inputs hold as much as there is room for on this system, which cannot give back what was read."""

    def __init__(self, next_offset: int) -> None:
        super().__init__(
            "input.punch_hole",
            "the memory of what was read cannot be given back here, so all open inputs together may take "
            f"{_MOST_UNFREED_BYTES} bytes, and {next_offset} were accepted of this one; close it, and have the process "
            "read a file in the workspace instead",
        )


class InputRoom:
    """How much input all processes together may have waiting. Whoever waits for room is woken when there is some.

    Besides, how much memory those may hold that cannot give it back.
    """

    def __init__(self, quota_bytes: int) -> None:
        self._quota_bytes = quota_bytes
        self.used_bytes = 0
        self.unfreed_bytes = 0
        self._waiting: set[Bell] = set()

    @property
    def free_bytes(self) -> int:
        return max(0, self._quota_bytes - self.used_bytes)

    @property
    def free_unfreed_bytes(self) -> int:
        return max(0, _MOST_UNFREED_BYTES - self.unfreed_bytes)

    def take(self, length: int) -> None:
        self.used_bytes += length

    def give_back(self, length: int) -> None:
        self.used_bytes -= length
        for bell in self._waiting:
            bell.ring()

    def subscribe(self, bell: Bell) -> None:
        """The bell rings whenever there is more room, until ``unsubscribe``."""
        self._waiting.add(bell)

    def unsubscribe(self, bell: Bell) -> None:
        self._waiting.discard(bell)
