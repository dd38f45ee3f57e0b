"""Making a process of what the keeper has of it: its output, its input, its terminal, each with an owner here."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from guyline.agentd.journal.journals import Journals
from guyline.agentd.keeper import table
from guyline.agentd.process.ending.retention import gone_output
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.metrics import ProcessMetrics
from guyline.agentd.process.process import Note, Process
from guyline.agentd.process.spec import Origin
from guyline.agentd.process.streams.channels import Ends
from guyline.agentd.process.streams.input import Input, InputDescriptors, InputMode
from guyline.agentd.process.streams.input_room import InputRoom
from guyline.agentd.process.streams.output import Output
from guyline.agentd.process.streams.pacing import Pacing


class DescriptorKeeper(Protocol):
    """What is asked of the keeper; see ``keeper.client.KeeperClient``."""

    def note(self, process_id: str, note: str) -> None: ...
    def release(self, process_id: str, *, still_used: Collection[str] = ()) -> None: ...
    def let_go(self, process_id: str, names: Collection[str]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Assembler:
    """Puts processes together, for a start and for a worker that takes up what an earlier one left.

    Args:
        keeper: Holds notes and descriptors.
        journals: Where output goes.
        input_room: What all inputs share.
        input_bytes: How much may wait for one process.
        pause_patience: Seconds that a paused process waits for its reader.
        metrics: See there.
        reach: Called at the fault points.
        changed: Called with a process that has changed.
        grown: Called when output has grown.
    """

    keeper: DescriptorKeeper
    journals: Journals
    input_room: InputRoom
    input_bytes: int
    pause_patience: float
    metrics: ProcessMetrics
    reach: FaultPoint
    changed: Callable[[Process], None]
    grown: Callable[[], None]

    def assemble(self, entry: table.Entry, origin: Origin) -> Process:
        """Nothing is read or passed on yet."""
        process = Process(
            origin,
            pid=entry.pid,
            start_ticks=entry.start_ticks,
            started_at=entry.started_at or origin.created_at,
            note=Note.from_json(entry.note),
            keep_note=lambda note: self.keeper.note(origin.process_id, note),
            changed=self.changed,
            metrics=self.metrics,
            reach=self.reach,
        )
        ends = Ends.of(entry.kept)
        process.output = self._output(process, ends)
        process.terminal = ends.terminal if process.note.output_gone is None else None
        process.input = None if origin.input_mode is InputMode.NONE else self._input(process, ends.input)
        return process

    def _output(self, process: Process, ends: Ends) -> Output:
        origin, gone = process.origin, process.note.output_gone
        if gone is not None:
            self._release(process, ends)
            return gone_output(process.process_id, gone)
        journal = self.journals.open(
            process.process_id,
            bound=origin.kept_bytes,
            separate=origin.separate,
            started_at=process.started_at,
            note=process.note.journal,
            keep_note=process.keep_journal_note,
        )

        def ended() -> None:
            journal.complete()
            self.keeper.release(process.process_id, still_used=table.INPUT_NAMES)
            process.output_ended()

        if not ends.sources:
            journal.complete()
        output = Output(
            ends.sources,
            journal,
            grown=self.grown,
            ended=ended,
            source_ended=lambda stream: self.keeper.let_go(process.process_id, (stream.value,)),
            reach=self.reach,
        )
        if process.is_paced and ends.sources:
            output.pacing = Pacing(
                bound=origin.kept_bytes,
                patience=self.pause_patience,
                position=journal.kept_from,  # what was sent by an earlier worker is not known: its reader will say
                changes_since=journal.changes_since,
                resumed=output.resume,
                gave_up=lambda: _tell(process, pace_lost=True),
            )
        return output

    def _release(self, process: Process, ends: Ends) -> None:
        """Of output that was given up an earlier worker may have died before it could let the descriptors go."""
        if ends.sources:
            for source in ends.sources.values():
                source.close()
            self.keeper.release(process.process_id, still_used=table.INPUT_NAMES)

    def _input(self, process: Process, descriptors: InputDescriptors | None) -> Input:
        return Input(
            descriptors,
            over=process.note.input_over or (0, 0),
            mode=process.origin.input_mode,
            ends_at=process.note.input_ends_at,
            bound=self.input_bytes,
            room=self.input_room,
            ending=lambda offset: _tell(process, input_ends_at=offset),
            closed=lambda accepted, passed: self._input_closed(process, accepted, passed),
            reach=self.reach,
        )

    def _input_closed(self, process: Process, accepted: int, passed: int) -> None:
        _tell(process, input_over=(accepted, passed))
        self.keeper.let_go(process.process_id, table.INPUT_NAMES)


def _tell(process: Process, **fields: Any) -> None:
    """Notes it for the next worker, and tells those who watch: it is part of what they see of the process."""
    process.change_note(**fields)
    process.has_changed()
