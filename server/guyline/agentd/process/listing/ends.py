"""Which ends of processes have been told of: what a reader must know that comes back to another worker."""


class Ends:
    """Follows the keeper's numbers of ends, from the moment that one is seen until it is settled, and so can be told.

    Numbers come in order but settle in any: the output of an ended process may take its time.
    """

    def __init__(self) -> None:
        self._highest = 0
        self._unsettled: set[int] = set()

    def seen(self, order: int) -> None:
        """The keeper has seen this end."""
        self._highest = max(self._highest, order)
        self._unsettled.add(order)

    def settled(self, order: int) -> None:
        """The process counts as ended from now on."""
        self._highest = max(self._highest, order)
        self._unsettled.discard(order)

    @property
    def settled_up_to(self) -> int:
        """All ends up to this number are settled."""
        return min(self._unsettled) - 1 if self._unsettled else self._highest
