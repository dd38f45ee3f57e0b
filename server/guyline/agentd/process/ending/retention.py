"""What is given up when: output for room, ended processes and keys for age."""

from collections.abc import Iterable

from guyline.agentd.journal.gone import GoneJournal
from guyline.agentd.journal.journals import Journals
from guyline.agentd.process.clock import Clock
from guyline.agentd.process.process import Process
from guyline.agentd.process.starting.keys import Keys
from guyline.agentd.process.streams.output import Output


class Retention:
    """Decides what goes, and lets the output go.

    Args:
        processes: Looked through each time.
        journals: Says how much is held.
        keys: A process whose key is remembered is remembered with it.
        ended_retention: Seconds that an ended process is listed and its output kept.
        max_ended: How many are; of more, those that ended first go before their time.
        clock: Ages count by the steady one: a wall clock that is set makes nothing old, and keeps nothing for ever.
    """

    def __init__(
        self,
        processes: Iterable[Process],
        *,
        journals: Journals,
        keys: Keys,
        ended_retention: float,
        max_ended: int,
        clock: Clock,
    ) -> None:
        self._processes = processes
        self._journals = journals
        self._keys = keys
        self._ended_retention = ended_retention
        self._max_ended = max_ended
        self._clock = clock

    def make_room(self) -> None:
        """Keeps all output together within the quota: ended ones go first, then the largest is cut."""
        while excess := self._journals.over_quota():
            ended = [each for each in self._processes if each.is_over and each.output.journal.kept_bytes]
            if ended:
                self.drop_output(min(ended, key=_order_of_leaving))
            elif not self._cut_the_largest(excess):
                return

    def drop_output(self, process: Process) -> None:
        """Gives up the output of an ended process; that it ran, and how it ended, stays known."""
        process.change_note(output_gone=process.output.journal.size)
        process.output.give_up(process.process_id)
        self._journals.remove(process.process_id)
        process.has_changed()

    def leaving(self) -> list[Process]:
        """Those that are not to be listed any longer, or are not already and may be forgotten."""
        listed = sorted((each for each in self._processes if each.is_listed and each.is_over), key=_when_over)
        surplus = set(listed[: max(0, len(listed) - self._max_ended)])
        return [each for each in self._processes if each in surplus or not each.is_listed or self._is_old(each)]

    def _is_old(self, process: Process) -> bool:
        """Whether it ended long enough ago to be listed no more."""
        return process.is_over and self._clock.steady() - _when_over(process) > self._ended_retention

    def when_over(self, process: Process) -> float:
        """When it ended, or what it left behind last printed, by the steady clock. Asked once, when it is over."""
        assert process.exit, "it is over"
        return self._clock.steady_at(max(process.exit.ended_at, process.output.journal.written_at))

    def _cut_the_largest(self, excess: int) -> bool:
        if not (journals := [each.output.journal for each in self._processes]):
            return False
        largest = max(journals, key=lambda each: each.kept_bytes)
        before = largest.kept_bytes
        if not isinstance(largest, GoneJournal):
            largest.shrink(max(0, before - excess))
        return largest.kept_bytes < before


def gone_output(process_id: str, size: int) -> Output:
    """Stands in for output that was given up."""
    return Output({}, GoneJournal(process_id, size), grown=lambda: None, ended=lambda: None)


def _when_over(process: Process) -> float:
    assert process.over_since is not None, "it is over"
    return process.over_since


def _order_of_leaving(process: Process) -> tuple[bool, float]:
    return process.origin.key is not None, _when_over(process)
