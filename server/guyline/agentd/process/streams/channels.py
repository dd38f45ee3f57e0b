"""What lies between a process and the agent: pipes or a terminal for its output, and its input."""

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from guyline.agentd.journal.runs import Stream
from guyline.agentd.keeper.table import INPUT_NAMES
from guyline.agentd.process.errors import SystemExhausted
from guyline.agentd.process.streams.input import InputDescriptors, InputMode
from guyline.agentd.process.streams.source import PipeSource, Source, TerminalSource
from guyline.agentd.system.terminal import Size, open_terminal

# Under these names the keeper holds what the next worker needs, besides those of the streams.
_SINK, _FILE = INPUT_NAMES
_MASTER = "terminal"
_SHOWN = "shown"
_SHOWN_IN = "shown_in"
_STREAMS = {stream.value for stream in Stream}
MAX_KEPT = 5
"""How many descriptors a process takes of the worker at most, and of the keeper: those of a terminal with input."""

_KINDS = {
    **dict.fromkeys((*_STREAMS, _SHOWN, _SHOWN_IN), (stat.S_IFIFO,)),
    _MASTER: (stat.S_IFCHR,),
    _SINK: (stat.S_IFIFO, stat.S_IFCHR),
    _FILE: (stat.S_IFREG,),
}
_TOGETHER = ((_MASTER, _SHOWN, _SHOWN_IN), INPUT_NAMES)
"""Of these each is of no use without the others."""


def mistaken(kept: Mapping[str, int]) -> set[str]:
    """The names under which something is held that it cannot be, and those that are of no use without them.

    A pipe that is none would not only fail: it could not even be waited for.
    """
    wrong = {name for name, descriptor in kept.items() if not _is_of_kind(name, descriptor)}
    for names in _TOGETHER:
        if not wrong.isdisjoint(names):
            wrong.update(names)
    return wrong & kept.keys()


def _is_of_kind(name: str, descriptor: int) -> bool:
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed
        return False
    return kind in _KINDS.get(name, ())


class Channels:
    """Made for a start, in a ``with`` block; leaving it closes what was not kept.

    ``child`` says which of ours (value) becomes which of the process's descriptors (key), ``kept`` what the agent needs
    of it, by name; ``terminal`` is the path of its terminal, empty if it has none.
    """

    def __init__(self) -> None:
        self.child: dict[int, int] = {}
        self.kept: dict[str, int] = {}
        self.terminal = ""
        self._ours = contextlib.ExitStack()  # what is closed in any case
        self._is_kept = False

    @classmethod
    def made(cls, *, separate: bool, input_mode: InputMode, terminal: Size | None, owner: int | None = None) -> Self:
        """A terminal belongs to the user ``owner``, who may otherwise not open it anew.

        Raises:
            SystemExhausted: The system has no room for them.
        """
        channels = cls()
        try:
            if terminal:
                channels._make_terminal(terminal, owner)
            else:
                channels._make_pipes(separate=separate)
            if input_mode is not InputMode.NONE:
                channels._make_input(input_mode)
        except OSError as why:
            channels.__exit__()
            raise SystemExhausted(why.errno or errno.EMFILE) from why
        return channels

    def __enter__(self) -> Self:
        return self

    def keep(self) -> None:
        """The process runs: what is kept has another owner now."""
        self._is_kept = True

    def __exit__(self, *error: object) -> None:
        self._ours.close()
        if not self._is_kept:
            for descriptor in self.kept.values():
                os.close(descriptor)

    def _make_pipes(self, *, separate: bool) -> None:
        self.child[1] = self._make_pipe(Stream.STDOUT)
        self.child[2] = self._make_pipe(Stream.STDERR) if separate else self.child[1]

    def _make_pipe(self, stream: Stream) -> int:
        """Returns the writing end."""
        self.kept[stream.value], writing = os.pipe2(os.O_CLOEXEC)
        self._ours.callback(os.close, writing)
        os.set_blocking(self.kept[stream.value], False)
        return writing

    def _make_terminal(self, size: Size, owner: int | None) -> None:
        terminal = open_terminal(size)
        self._ours.callback(os.close, terminal.slave)
        if owner is not None:
            with contextlib.suppress(PermissionError):  # then the spawn says what is missing
                os.fchown(terminal.slave, owner, -1)
        self.kept[_MASTER] = terminal.master
        self.kept[_SHOWN], self.kept[_SHOWN_IN] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.terminal = terminal.path

    def _make_input(self, mode: InputMode) -> None:
        self.kept[_FILE] = os.memfd_create("guyline-input")
        if mode is InputMode.TERMINAL:
            self.kept[_SINK] = os.dup(self.kept[_MASTER])
            return
        self.child[0], self.kept[_SINK] = os.pipe2(os.O_CLOEXEC)
        self._ours.callback(os.close, self.child[0])
        os.set_blocking(self.kept[_SINK], False)


@dataclass(frozen=True)
class Ends:
    """The agent's ends of a process's channels, each with its owner to be."""

    sources: Mapping[Stream, Source]
    terminal: TerminalSource | None
    input: InputDescriptors | None

    @classmethod
    def of(cls, kept: Mapping[str, int]) -> Self:
        """From what the keeper holds."""
        terminal = None
        sources: dict[Stream, Source] = {
            Stream(name): PipeSource(pipe) for name, pipe in kept.items() if name in _STREAMS
        }
        if _MASTER in kept:
            terminal = TerminalSource(kept[_MASTER], pipe=kept[_SHOWN], pipe_in=kept[_SHOWN_IN])
            sources[Stream.STDOUT] = terminal
        given = InputDescriptors(file=kept[_FILE], sink=kept[_SINK]) if _FILE in kept else None
        return cls(sources, terminal, given)
