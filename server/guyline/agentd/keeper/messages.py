"""What keeper and worker say to each other: one JSON array a message, over a SEQPACKET socket pair.

A message that a sender was killed after stays readable, which is what makes a worker's death harmless: the keeper reads
the socket to its end and does what it finds there.
"""

import array
import contextlib
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

MAX_MESSAGE_BYTES = 128 * 1024
"""Larger ones go through a memory file: the kernel's default bound for a packet is 212,960 bytes."""
MAX_DESCRIPTORS = 253
"""SCM_MAX_FD of the kernel."""
FORMAT = 6
"""Raised with any change that an older keeper or worker would misread; upgrades across it are refused, and a worker
that finds another one in its keeper's ``Welcome`` does not serve."""

_SEND_BUFFER_BYTES = 4 << 20
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python does not name it
_IN_MEMORY_FILE = b"\0"  # and what it is about, for a receiver that has no room for the file
_NOT_NOW = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM}


class MalformedMessage(Exception):
    """The peer sent something that is no message of this format."""


class DescriptorsLost(Exception):
    """A message came without its descriptors: this process has no room for more.

    Attributes:
        is_start: Whether it was a ``Start``.
        process_id: Of which process, if so.
    """

    def __init__(self, kind: str, process_id: str) -> None:
        super().__init__(f"no room for the descriptors of {kind}")
        self.is_start = kind == Start.__name__
        self.process_id = process_id


# From the worker.


class Start(NamedTuple):
    """Asks for a command to be spawned. Descriptors: the directory, those of ``child``, those of ``kept``."""

    process_id: str
    info: str  # kept for the worker, and given to its successors
    program: str  # an absolute path
    argv: list[str]
    env: dict[str, str]
    child: list[int]  # the numbers that descriptors get in the child; without 0 it reads /dev/null
    kept: list[str]  # names of descriptors to hold for the worker's successors
    setup: dict[str, Any]  # as ``setup.Setup.to_json``


class Fence(NamedTuple):
    """Asks that a start be recorded as one that was canceled before it came. Answered by ``Failed``, ECANCELED."""

    process_id: str
    info: str  # as of a start


class Note(NamedTuple):
    """Replaces the worker's note on a process."""

    process_id: str
    note: str


class Signal(NamedTuple):
    """Asks for a signal to a command's process group."""

    number: int  # names the answer
    process_id: str
    signal: int
    cause: str
    to_all: bool  # whether it is meant for all of the command's cgroup: the asker reaches the others


class Release(NamedTuple):
    """The ends of these processes' outputs have been recorded: their descriptors can go, but for those of an input."""

    process_ids: list[str]


class LetGo(NamedTuple):
    """These descriptors of a process are not needed any more, although it goes on."""

    process_id: str
    names: list[str]


class Forget(NamedTuple):
    """Nobody will ask for this process any more."""

    process_id: str


class Ready(NamedTuple):
    """The worker serves."""


class Upgrade(NamedTuple):
    """Asks the keeper to become what this interpreter has installed, and to replace the worker."""

    interpreter: str


# From the keeper.


class Welcome(NamedTuple):
    """The first message to a new worker. Descriptor: a memory file with the table."""

    format: int  # the keeper's ``FORMAT``; stays the first field, whatever else changes
    store_id: str
    worker_starts: int
    config: str  # with which the worker would begin, if it had to take the keeper's place; see config.Config
    cgroups: str  # the directory in which each command has its cgroup, named by its id; empty: there are none
    why_no_cgroups: str
    why_no_limits: dict[str, str]  # for each limit of a cgroup, by its field in ``setup.Setup``; empty: it can be set


class Descriptors(NamedTuple):
    """Goes with the descriptors that are held for one process, by name."""

    process_id: str
    names: list[str]


class HandedOver(NamedTuple):
    """The last message of the hand-over."""


class Started(NamedTuple):
    """A command was spawned, now or (if it was asked for twice) before."""

    process_id: str
    pid: int
    start_ticks: int
    started_at: float


class Failed(NamedTuple):
    """A command could not be spawned."""

    process_id: str
    errno: int
    part: str  # of the set-up, that failed; empty: something else did


class Exited(NamedTuple):
    """A command has ended; ``exit`` as ``table.Exit``."""

    process_id: str
    exit: list[Any]


class Signalled(NamedTuple):
    """Answers ``Signal``; zero: it was sent."""

    number: int
    errno: int


class ShutDown(NamedTuple):
    """The agent ends: start nothing more. The commands have been told to end, in ``grace`` seconds."""

    grace: float


class Stop(NamedTuple):
    """All commands are gone: end your streams and yourself."""


Message = (
    Start | Fence | Note | Signal | Release | LetGo | Forget | Ready | Upgrade
    | Welcome | Descriptors | HandedOver | Started | Failed | Exited | Signalled | ShutDown | Stop
)  # fmt: skip

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Start, Fence, Note, Signal, Release, LetGo, Forget, Ready, Upgrade,
        Welcome, Descriptors, HandedOver, Started, Failed, Exited, Signalled, ShutDown, Stop,
    )
}  # fmt: skip

_JSON_TYPES: dict[Any, type | tuple[type, ...]] = {str: str, int: int, float: (int, float), bool: bool}


def encode(message: Message) -> bytes:
    return json.dumps([type(message).__name__, *message], separators=(",", ":")).encode()


def decode(data: bytes) -> Message:
    """Raises:
    MalformedMessage: The data is no message of this format.
    """
    try:
        kind, *fields = json.loads(data)
        cls = _KINDS[kind]
    except (ValueError, KeyError, TypeError, RecursionError) as why:
        raise MalformedMessage(f"no message: {data[:40]!r}") from why
    expected = cls.__annotations__.values()
    if len(fields) != len(expected) or not all(map(_is, fields, expected)):
        raise MalformedMessage(f"wrong fields in {kind}")
    return cls(*fields)


def _is(value: object, expected: Any) -> bool:
    if expected in _JSON_TYPES:
        return isinstance(value, _JSON_TYPES[expected]) and isinstance(value, bool) == (expected is bool)
    if not isinstance(value, expected.__origin__):
        return False
    inner = expected.__args__[-1]
    members = value.values() if isinstance(value, dict) else value
    return inner is Any or set(map(type, members)) <= {inner}


class Connection:
    """One end of the socket pair. Never blocks: what does not fit waits in a queue of its own.

    The queue's bound is the peer's: it holds answers to what the peer asked, and one exit for each of its processes.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
        self._sock = sock
        self._queue: deque[tuple[bytes, list[int]]] = deque()  # with descriptors of its own
        # A new one for each message, cut to its size, would leave what is cut off between what lives longer: the heap
        # of a busy worker grew by a megabyte a minute.
        self._buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def has_queued(self) -> bool:
        """Whether ``flush`` must be called once the socket is writable."""
        return bool(self._queue)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Sends or queues. The descriptors stay the caller's to close, at once if it likes.

        Raises:
            ConnectionError: The peer is gone.
            OSError: There is no room for a memory file, or for what would have to wait; nothing is sent.
        """
        data = encode(message)
        if len(data) <= MAX_MESSAGE_BYTES:
            self._send_or_queue(data, descriptors)
            return
        file = os.memfd_create("guyline-message")
        try:
            os.write(file, data)
            self._send_or_queue(_IN_MEMORY_FILE + _about(message), [*descriptors, file])
        finally:
            os.close(file)

    def flush(self) -> None:
        """Sends what was queued, as far as the socket takes it.

        Raises:
            ConnectionError: The peer is gone.
        """
        while self._queue and self._try(*self._queue[0]):
            close_all(self._queue.popleft()[1])

    def receive(self) -> tuple[Message, list[int]] | None:
        """Returns the next message with its descriptors, which are the caller's to close, or None at the end.

        Raises:
            BlockingIOError: Nothing is there yet.
            MalformedMessage: The peer sent what is no message; its descriptors are closed.
            DescriptorsLost: It came without (all of) its descriptors; the rest are closed.
        """
        descriptors = array.array("i")
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * descriptors.itemsize)
        try:
            length, ancillary, flags, _ = self._sock.recvmsg_into([self._buffer], space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it closed with our messages unread: said once, before the end
            return self.receive()
        for _, _, packed in ancillary:
            descriptors.frombytes(packed[: len(packed) - len(packed) % descriptors.itemsize])
        received = descriptors.tolist()
        data = bytes(self._buffer[:length])
        if not data:
            return None
        try:
            if flags & socket.MSG_TRUNC:
                raise MalformedMessage("a message was cut off")
            is_elsewhere = data.startswith(_IN_MEMORY_FILE)
            if flags & socket.MSG_CTRUNC:
                about = data[len(_IN_MEMORY_FILE) :] if is_elsewhere else _about(decode(data))
                kind, _, process_id = about.decode(errors="replace").partition(" ")
                raise DescriptorsLost(kind, process_id)
            message = decode(self._from_memory_file(received) if is_elsewhere else data)
        except (MalformedMessage, DescriptorsLost):
            close_all(received)
            raise
        return message, received

    def close(self) -> None:
        while self._queue:
            close_all(self._queue.popleft()[1])
        self._sock.close()

    def detach(self) -> int:
        """Gives the socket's descriptor away."""
        return self._sock.detach()

    def _try(self, data: bytes, descriptors: Sequence[int]) -> bool:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._sock.sendmsg([data], ancillary)
        except OSError as why:
            if why.errno not in _NOT_NOW:
                raise
            return False
        return True

    def _send_or_queue(self, data: bytes, descriptors: Sequence[int]) -> None:
        if self._queue or not self._try(data, descriptors):
            self._queue.append((data, _duplicates(descriptors)))

    @staticmethod
    def _from_memory_file(descriptors: list[int]) -> bytes:
        if not descriptors:
            raise MalformedMessage("a message without its memory file")
        file = descriptors.pop()
        try:
            return os.pread(file, os.fstat(file).st_size, 0)
        except OSError as why:
            raise MalformedMessage("a message in something else than a memory file") from why
        finally:
            os.close(file)


def _about(message: Message) -> bytes:
    process_id = message.process_id if isinstance(message, Start) else ""
    return f"{type(message).__name__} {process_id}".encode()


def _duplicates(descriptors: Sequence[int]) -> list[int]:
    """All of them or, if there is no room (OSError), none."""
    made: list[int] = []
    try:
        for descriptor in descriptors:
            made.append(os.dup(descriptor))  # noqa: PERF401 - those that were made must be known
    except OSError:
        close_all(made)
        raise
    return made


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
