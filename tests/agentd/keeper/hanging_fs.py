"""A file system that stops answering, as a dead network mount does: a few requests of FUSE, and silence."""

import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
from enum import IntEnum
from pathlib import Path
from typing import Self

_HEADER = struct.Struct("=IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_ATTR = struct.Struct("=6Q10I")
_MOUNT_FLAGS = 2 | 4  # MS_NOSUID, MS_NODEV
_MNT_DETACH = 2
_REQUEST_BYTES = 256 * 1024
_FOR_LONG = 3600  # seconds for which the kernel need not ask again

_ROOT, _PROGRAM = 1, 2


class _Op(IntEnum):  # linux/fuse.h
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    INIT = 26
    ACCESS = 34
    INTERRUPT = 36
    BATCH_FORGET = 42


class NotPermitted(Exception):
    """This user or machine has no FUSE. Says what is missing."""


class HangingFileSystem:
    """Mounted on ``folder`` within the ``with`` block.

    ``program`` is there and executable, but nobody ever gets to open it. ``directory`` is asked for in vain: even
    looking it up takes for ever. Whoever hangs is freed by SIGKILL, as with NFS, or when the block ends.
    """

    def __init__(self, folder: Path) -> None:
        self.program = folder / "program"
        self.directory = folder / "directory"
        self.somebody_hangs = threading.Event()
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._server = threading.Thread(target=self._serve, name="hanging file system")

    def __enter__(self) -> Self:
        self._stop, self._stopping = os.pipe()
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as why:
            self._close(self._stop, self._stopping)
            raise NotPermitted(f"/dev/fuse: {why.strerror}") from why
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"hanging", str(self._folder).encode(), b"fuse", _MOUNT_FLAGS, options):
            number = ctypes.get_errno()
            self._close(self._device, self._stop, self._stopping)
            raise NotPermitted(f"mounting FUSE: {os.strerror(number)}")
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._libc.umount2(str(self._folder).encode(), _MNT_DETACH)
        os.close(self._stopping)
        self._server.join()
        self._close(self._device, self._stop)  # with the device closed, whoever still waits gets an error

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._device, self._stop], [], [])
            if self._stop in ready:
                return
            try:
                request = os.read(self._device, _REQUEST_BYTES)
            except OSError:  # unmounted, or the asker was killed meanwhile
                continue
            _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
            self._answer(opcode, unique, node, request[_HEADER.size :])

    def _answer(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        match opcode:
            case _Op.INIT:
                self._reply(unique, struct.pack("=IIIIHHII9I", 7, 31, 0, 0, 0, 0, 4096, 1, *[0] * 9))
            case _Op.LOOKUP if body.startswith(b"program"):
                self._reply(unique, struct.pack("=QQQQII", _PROGRAM, 0, _FOR_LONG, _FOR_LONG, 0, 0) + _attr(_PROGRAM))
            case _Op.GETATTR:
                self._reply(unique, struct.pack("=QII", _FOR_LONG, 0, 0) + _attr(node))
            case _Op.ACCESS:
                self._reply(unique)
            case _Op.INTERRUPT:
                self._reply(struct.unpack_from("=Q", body)[0], error=errno.EINTR)
            case _Op.LOOKUP | _Op.OPEN:
                self.somebody_hangs.set()
            case _Op.FORGET | _Op.BATCH_FORGET:
                pass  # the kernel forgets something, and expects no answer
            case _:
                self._reply(unique, error=errno.ENOSYS)

    def _reply(self, unique: int, data: bytes = b"", *, error: int = 0) -> None:
        with contextlib.suppress(OSError):  # the asker was killed meanwhile
            os.write(self._device, struct.pack("=IiQ", 16 + len(data), -error, unique) + data)

    @staticmethod
    def _close(*descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)


def _attr(node: int) -> bytes:
    mode = 0o40755 if node == _ROOT else 0o100755
    return _ATTR.pack(node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
