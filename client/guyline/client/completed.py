"""What a command that has run to its end leaves, and how that may not be what was hoped for."""

import re
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from guyline.client.enums import EndedBy, OutputMode, OutputStream
from guyline.client.errors import GuylineError
from guyline.client.values import Chunk, Exit

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""So much output, the newest, is kept of a command that is run to its end."""

_TAIL_BYTES = 2048
_COMMAND_CHARACTERS = 100
_CONTROL_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])"


@dataclass(frozen=True)
class Completed:
    """A command that has run to its end."""

    process_id: str
    exit: Exit
    output: bytes
    """What it printed, in order; of more than ``max_output_bytes`` the end."""
    stdout: bytes | None
    """The same of standard output alone. None unless it was kept apart, with ``OutputMode.SEPARATE``."""
    stderr: bytes | None
    """The same of standard error."""
    output_cut_bytes: int
    """How much of what it printed is not in ``output``."""

    @property
    def text(self) -> str:
        """The output as text; what is no UTF-8 is replaced."""
        return self.output.decode(errors="replace")

    def lines(self) -> list[str]:
        """The output as lines of text, without their ends."""
        lines = self.text.split("\n")
        return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


class CommandFailed(GuylineError):
    """A command that was run with ``check`` did not exit with zero. The text says how it ended, and has the end of its
    output.

    Attributes:
        completed: What it left.
    """

    def __init__(self, command: str | Sequence[str], completed: Completed) -> None:
        tail = _tail(completed.output)
        super().__init__(
            f"{_shown(command)}: {in_words(completed.exit)}" + (f"; its output ends with:\n{tail}" if tail else ""),
            facts={"process_id": completed.process_id},
        )
        self.completed = completed


class StillRunning(GuylineError):
    """A process was not over when the caller would wait no longer. It goes on.

    Attributes:
        process_id: Which; ``attach`` takes it up again.
        output: What it has printed so far, if that was followed; of more than ``max_output_bytes`` the end.
        input_position: If it has not read enough yet to be given all of its ``input``, with the end: how many bytes it
            was given. It waits for the rest: ``write(data[input_position:], eof=True)``; or, if others use the key of
            the start as well, the same start again. None: it has everything.
    """

    def __init__(self, process_id: str, output: bytes = b"", input_position: int | None = None) -> None:
        facts = {"process_id": process_id}
        text = f"still running, id {process_id}"
        if input_position is not None:
            facts["input_position"] = str(input_position)
            text += f", and has {input_position} bytes of its input; the rest is yet to be written"
        super().__init__(text, facts=facts)
        self.process_id = process_id
        self.output = output
        self.input_position = input_position


class Collected:
    """The newest output of one process, up to a bound for each of its parts.

    Args:
        mode: Whether the streams are kept apart besides.
        most: Bytes.
    """

    def __init__(self, mode: OutputMode, *, most: int) -> None:
        self._most = most
        self._output = bytearray()
        self._apart: dict[OutputStream, bytearray] = (
            {OutputStream.STDOUT: bytearray(), OutputStream.STDERR: bytearray()} if mode is OutputMode.SEPARATE else {}
        )
        self._cut_bytes = 0

    @property
    def output(self) -> bytes:
        """All in order."""
        return bytes(self._output)

    def take(self, chunk: Chunk) -> None:
        """Adds a piece."""
        if chunk.gap is not None:
            self._cut_bytes += chunk.gap.stop - chunk.gap.start
        self._cut_bytes += self._add(self._output, chunk.data)
        if chunk.stream in self._apart:
            self._add(self._apart[chunk.stream], chunk.data)

    def completed(self, process_id: str, ended: Exit) -> Completed:
        """The result."""
        return Completed(
            process_id=process_id,
            exit=ended,
            output=bytes(self._output),
            stdout=bytes(self._apart[OutputStream.STDOUT]) if self._apart else None,
            stderr=bytes(self._apart[OutputStream.STDERR]) if self._apart else None,
            output_cut_bytes=self._cut_bytes,
        )

    def _add(self, kept: bytearray, data: bytes) -> int:
        kept += data
        excess = max(0, len(kept) - self._most)
        del kept[:excess]  # cheap: a bytearray moves its beginning
        return excess


def in_words(ended: Exit) -> str:
    """How a process ended: "exit code 2", "signal 9 (SIGKILL)", "ended by its timeout"."""
    if ended.ended_by is EndedBy.TIME_LIMIT:
        limit = ended.time_limit.label.replace("_", " ") if ended.time_limit else "time limit"
        return f"ended by its {limit} ({_status(ended)})"
    by = {EndedBy.CALLER: ", sent by a caller", EndedBy.AGENT: ", as the agent was stopping"}
    if ended.ended_by is EndedBy.OOM_KILLER:
        return f"ended by the kernel, as memory ran out ({_status(ended)})"
    return _status(ended) + (by.get(ended.ended_by, "") if ended.signal is not None else "")


def _status(ended: Exit) -> str:
    if ended.code is not None:
        return f"exit code {ended.code}"
    if ended.signal is not None:
        known = ended.signal in {number.value for number in signal.Signals}
        return f"signal {ended.signal}" + (f" ({signal.Signals(ended.signal).name})" if known else "")
    assert ended.unknown is not None, "one of the three is set"
    return f"nobody knows how it ended: {ended.unknown.label.replace('_', ' ')}"


def _shown(command: str | Sequence[str]) -> str:
    text = _harmless(command if isinstance(command, str) else shlex.join(command)).replace("\n", " ")
    return text if len(text) <= _COMMAND_CHARACTERS else text[: _COMMAND_CHARACTERS - 1] + "…"


def _tail(output: bytes) -> str:
    """The end of the output, whole lines if there are any, without what a terminal would act on."""
    tail = output[-_TAIL_BYTES:]
    if len(tail) < len(output):
        tail = tail[tail.find(b"\n") + 1 :] or tail
    said = _harmless(tail.decode(errors="replace")).rstrip("\n")
    return said.encode()[-_TAIL_BYTES:].decode(errors="ignore")  # what replaces a byte is longer


def _harmless(text: str) -> str:
    plain = re.sub(_CONTROL_SEQUENCE, "", text).replace("\r\n", "\n")
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in plain)
