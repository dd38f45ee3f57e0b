"""The real keeper with a test in the worker's place."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self, TypeVar

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.config import MODULE, Config
from guyline.agentd.keeper.setup import NOTHING, Setup
from guyline.agentd.keeper.table import Entry, Exit, from_memory_file
from tests.support import proc
from tests.support.agent_without_privileges import drop
from tests.support.clock import DEADLINE

DESCRIPTOR_LIMIT = 777

Kind = TypeVar("Kind", bound=m.Message)


class BareKeeper:
    """A keeper of its own, on which anything can be said. Leaving the ``with`` block ends it and all its commands."""

    def __init__(
        self,
        folder: Path,
        *,
        process_cgroups: str = "auto",
        descriptor_limit: int = DESCRIPTOR_LIMIT,
        privileged: bool = True,
    ) -> None:
        self.folder = folder
        self._descriptor_limit = descriptor_limit
        self._process_cgroups = process_cgroups
        self._drop = () if privileged else drop()
        self.pid = 0
        self.worker_pid = 0
        self.table: dict[str, Entry] = {}  # as handed to the present worker
        self._outlets: dict[str, int] = {}
        self._unread: list[m.Message] = []

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / "worker.sock"))
        self._listener.listen()
        self._listener.settimeout(DEADLINE)
        worker = [sys.executable, "-I", "-S", str(Path(__file__).with_name("absent_worker.py"))]
        settings = os.memfd_create("settings")
        config = Config(
            state_dir=str(self.folder),
            worker=[*worker, str(self.folder / "worker.sock")],
            settings=settings,
            locks=[],
            shutdown_grace=1.0,
            json_log=True,
            quiet_log=False,
            descriptor_limit=self._descriptor_limit,
            oom_score=0,
            instance_id="instance",
            started_at=0.0,
            process_cgroups=self._process_cgroups,
        ).to_descriptor()
        with (self.folder / "log").open("wb") as log:
            command = [*self._drop, sys.executable, "-m", MODULE, str(config), str(self.folder)]
            self._keeper = subprocess.Popen(command, pass_fds=[config, settings], stderr=log, start_new_session=True)
        m.close_all([config, settings])
        self.pid = self._keeper.pid
        self.be_worker()
        return self

    def __exit__(self, *error: object) -> None:
        self._keeper.send_signal(signal.SIGTERM)
        self._leave()
        self._keeper.wait(2 * DEADLINE)
        self._listener.close()
        m.close_all(list(self._outlets.values()))

    # The worker's part.

    def be_worker(self) -> None:
        """Takes the place of the next worker."""
        self._stub, _ = self._listener.accept()
        _, descriptors, _, _ = socket.recv_fds(self._stub, 1, 1)
        self.connection = m.Connection(socket.socket(fileno=descriptors[0]))
        self._unread.clear()
        self.table = {}
        self._hand_over()
        others = {entry.pid for entry in self.table.values()}
        self.worker_pid = next(child.pid for child in proc.children(self.pid) if child.pid not in others)

    def lose_worker(self) -> None:
        """As by kill -9: the socket closes, and whatever had been sent is still in it."""
        os.kill(self.worker_pid, signal.SIGKILL)
        self._leave()

    def make_way(self) -> None:
        """Lets go of the socket and takes the next worker's place."""
        self._leave()
        self.be_worker()

    def send(self, message: m.Message) -> None:
        self.connection.send(message)

    def ask(self, *argv: str, process_id: str = "a", directory: str = "/", setup: Setup = NOTHING) -> None:
        """Asks for a start, with a pipe for its output of which the keeper holds the reading end too."""
        reader, writer = os.pipe()
        if process_id in self._outlets:
            os.close(reader)
        reader = self._outlets.setdefault(process_id, reader)
        folder = os.open(directory, os.O_PATH)
        child = [] if setup.terminal else [1, 2]
        request = m.Start(process_id, "info", argv[0], list(argv), dict(os.environ), child, ["stdout"], setup.to_json())
        self.connection.send(request, [folder, *[writer] * len(child), reader])
        m.close_all([folder, writer])

    def start(self, *argv: str, process_id: str = "a", directory: str = "/", setup: Setup = NOTHING) -> m.Started:
        """The same, and waits for the answer."""
        self.ask(*argv, process_id=process_id, directory=directory, setup=setup)
        return self.next(m.Started)

    def exit(self) -> Exit:
        """The next exit that is told."""
        return Exit.from_json(self.next(m.Exited).exit)

    def signal(self, number: int, process_id: str = "a") -> int:
        """Asks for a signal; returns the errno. All that was sent before has been done by then."""
        self.send(m.Signal(1, process_id, number, "caller", to_all=False))
        return self.next(m.Signalled).errno

    def next(self, kind: type[Kind]) -> Kind:
        """Waits for the next message of this kind; others stay for later."""
        until = time.monotonic() + DEADLINE
        while True:
            for message in self._unread:
                if isinstance(message, kind):
                    self._unread.remove(message)
                    return message
            assert select.select([self.connection], [], [], max(0, until - time.monotonic()))[0], f"no {kind} came"
            received = self.connection.receive()
            assert received is not None, "the keeper is gone"
            self._unread.append(received[0])

    def is_quiet(self) -> bool:
        """Whether nothing else was said until now."""
        return not self._unread and not select.select([self.connection], [], [], 0)[0]

    def printed(self, process_id: str = "a", *, at_least: int = 1) -> bytes:
        """Waits for so many bytes of output."""
        data = b""
        while len(data) < at_least:
            assert select.select([self._outlets[process_id]], [], [], DEADLINE)[0], f"only {data!r} was printed"
            piece = os.read(self._outlets[process_id], 65536)
            assert piece, f"only {data!r} was printed"
            data += piece
        return data

    def holds(self, process_id: str = "a") -> bool:
        """Whether the keeper has the reading end of the pipe."""
        return str(Path(f"/proc/self/fd/{self._outlets[process_id]}").readlink()) in proc.descriptors(self.pid)

    def _hand_over(self) -> None:
        while True:
            select.select([self.connection], [], [], DEADLINE)
            received = self.connection.receive()
            assert received is not None
            message, descriptors = received
            if isinstance(message, m.Welcome):
                self.table = {entry.process_id: entry for entry in from_memory_file(descriptors[0])}
            m.close_all(descriptors)
            if isinstance(message, m.HandedOver):
                return

    def _leave(self) -> None:
        self.connection.close()
        self._stub.close()
