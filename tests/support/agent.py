"""The real ``guyline agent``, run for tests: started, broken by name, and gone without a trace afterwards."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import grpc.aio

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest, GetInfoResponse
from guyline.agent.v1.agent_info_service_pb2_grpc import AgentInfoServiceStub
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from guyline.agentd.system.cgroup import own_cgroup
from tests.support import cgroup, proc
from tests.support.clock import DEADLINE

_START_SECONDS = 2 * DEADLINE  # a cold disk and two busy cores
_STOP_SECONDS = 2 * DEADLINE  # the agent itself promises 10 s
_LOG_BYTES = 64 * 1024
_XDG = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")  # nothing of the user's own is read or written

GUYLINE_AGENT = ("-m", "guyline.cli.main", "agent")
"""What the interpreter is told, before the flags."""

RECONNECT_FAST = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
]
"""Channel options with which a new worker is found at once."""


class AgentProcess:
    """An agent in a folder of its own, with no connection to it: what a session may share between event loops.

    Everything that it starts carries a mark in its environment, and becomes a child of this process when its parents
    die, so that nothing can hide. ``settings`` become flags: ``{"max_processes": 5}`` is ``--max-processes 5``; a None
    is a flag without a value. ``program`` starts the agent in another way, with the same flags.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = GUYLINE_AGENT,
    ) -> None:
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="gl-"))  # short: a socket path holds 107 bytes
        self.socket = self.folder / "agent.sock"
        self.address = f"unix:{self.socket}"
        self.state_dir = self.folder / "state"
        self.keeper_pid = 0  # zero while none runs
        self._flags = [part for name, value in (settings or {}).items() for part in _flag(name, value)]
        self._mark = f"GUYLINE_TEST_MARK={uuid.uuid4()}"
        self._environment = _environment(self.folder, self._mark) | dict(environment or {})
        self._started: subprocess.Popen[bytes] | None = None
        self._killed_cgroups: set[Path] = set()

    def __repr__(self) -> str:
        return f"<agent on {self.socket}, keeper {self.keeper_pid or 'not running'}>"

    def start(self) -> None:
        """Starts the agent and returns before it serves. After a stop or a kill, starts another on the same state."""
        assert not self.keeper_pid, "it runs"
        proc.adopt_orphans()
        command = [sys.executable, *self._program, "--state-dir", str(self.state_dir)]
        command += ["--listen", self.address, *self._flags]
        with (self.folder / "log").open("ab") as log:
            self._started = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.keeper_pid = self._started.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends the agent in order, and asserts that nothing that it ever started is left.

        Raises:
            TimeoutError: The keeper did not end in time; everything was killed.
            AssertionError: Something was left over; it was killed.
        """
        if not self.keeper_pid:
            return
        try:
            os.kill(self.keeper_pid, number)
            proc.wait_until_dead(self.keeper_pid, _STOP_SECONDS)
            left = {pid: proc.command_line(pid) for pid in self.pids()}
            cgroups = self.cgroups()
        finally:
            self.kill()
        assert not left, f"left behind by the agent: {left}"
        assert cgroups is None or not cgroups.exists(), f"cgroups left behind by the agent in {cgroups}"

    def kill(self) -> None:
        """Kills the agent and all that it started, in no order and without any claim."""
        if cgroups := self.cgroups():
            self._killed_cgroups.add(cgroups)  # nobody may come after it who removes them
        while pids := self.pids():  # again: one of them may have forked just now
            proc.kill(pids)
            for pid in pids:
                proc.wait_until_dead(pid)
        if self._started is not None:
            self._started.wait()
        proc.reap_adopted()
        self.keeper_pid = 0

    def close(self) -> None:
        """Stops the agent, as ``stop``, and removes its folder."""
        try:
            self.stop()
        finally:
            for cgroups in self._killed_cgroups:
                cgroup.remove_all(cgroups)
            shutil.rmtree(self.folder)

    def keeper_was_replaced(self, pid: int) -> None:
        """Takes note that another process is the keeper now."""
        self.keeper_pid = pid
        if self._started is not None and not proc.is_alive(self._started.pid):
            self._started.wait()

    def pids(self) -> list[int]:
        """Returns whoever of the agent and all that it started runs now."""
        return proc.marked(self._mark)

    def cgroups(self) -> Path | None:
        """Returns where the agent makes the commands' cgroups; None: nowhere, or it has never run."""
        has_run = (self.state_dir / "records.log").exists()
        return cgroup.folder_of(self.state_dir) if has_run and own_cgroup() else None

    def log_size(self) -> int:
        """Returns how many bytes the agent has logged."""
        return (self.folder / "log").stat().st_size

    def log(self, since: int = 0) -> str:
        """Returns what the agent has logged since that offset: the end of it, if it is long."""
        with (self.folder / "log").open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(since, size - _LOG_BYTES))
            return log.read().decode(errors="replace")


class RunningAgent:
    """An agent and a connection to it. Leaving the ``async with`` block stops it and asserts that nothing is left.

    Given ``process``, connects to that one and leaves it running, unless it ``owns_process``.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        process: AgentProcess | None = None,
        owns_process: bool = False,
    ) -> None:
        self.process = process or AgentProcess(settings=settings, environment=environment)
        self.worker_pid = 0
        self._owns_process = owns_process or process is None

    def __repr__(self) -> str:
        return f"<running {self.process!r}, worker {self.worker_pid or 'unknown'}>"

    @property
    def address(self) -> str:
        """Where the agent listens, as gRPC writes it: ``unix:PATH``."""
        return self.process.address

    @property
    def keeper_pid(self) -> int:
        """The keeper's process id."""
        return self.process.keeper_pid

    async def __aenter__(self) -> Self:
        self._connect()
        try:
            if self._owns_process:
                await asyncio.to_thread(self.process.start)
            await self._until_it_serves()
        except BaseException as why:
            await self.__aexit__(type(why), why)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        await self.channel.close()
        if error is not None:
            print(await asyncio.to_thread(self.process.log))  # shown by pytest with the failure
        if self._owns_process:
            await asyncio.to_thread(self.process.close)

    async def kill_worker(self) -> None:
        """Kills the worker with SIGKILL and returns once it is dead."""
        os.kill(self.worker_pid, signal.SIGKILL)
        await proc.dead(self.worker_pid)

    async def kill_keeper(self) -> None:
        """Kills the keeper with SIGKILL and returns once it is dead; the worker takes its place."""
        os.kill(self.keeper_pid, signal.SIGKILL)
        await proc.dead(self.keeper_pid)
        await asyncio.to_thread(self.process.keeper_was_replaced, self.worker_pid)

    async def serves_again(self) -> GetInfoResponse:
        """Waits until a worker that this object has not met answers; ``worker_pid`` is its pid from then on."""
        before = self.worker_pid
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    info = await self.info.GetInfo(GetInfoRequest(), wait_for_ready=True)
                except grpc.aio.AioRpcError as why:
                    if why.code() is not grpc.StatusCode.UNAVAILABLE:  # that is the old one's last word
                        raise
                    continue
                if info.worker_pid != before:
                    self._met(info)
                    return info

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends the agent in order and asserts that nothing is left; see ``AgentProcess.stop``."""
        await asyncio.to_thread(self.process.stop, number)

    async def kill(self) -> None:
        """Kills keeper, worker and all that they started."""
        await asyncio.to_thread(self.process.kill)

    async def start_again(self) -> None:
        """After ``stop`` or ``kill``: starts an agent on the same state, socket and settings."""
        await asyncio.to_thread(self.process.start)
        await self._until_it_serves()

    def _connect(self) -> None:
        self.channel = grpc.aio.insecure_channel(self.address, RECONNECT_FAST)
        self.processes = ProcessServiceStub(self.channel)
        self.info = AgentInfoServiceStub(self.channel)

    def _met(self, info: GetInfoResponse) -> None:
        self.worker_pid = info.worker_pid
        self.process.keeper_pid = info.keeper_pid

    async def _until_it_serves(self) -> None:
        answer = asyncio.create_task(self._ask())
        death = asyncio.create_task(proc.dead(self.keeper_pid, _START_SECONDS))
        try:
            await asyncio.wait({answer, death}, return_when=asyncio.FIRST_COMPLETED)
            assert answer.done(), "the agent ended, or hung, before it served; its log says why"
            self._met(await answer)
        finally:
            for task in (answer, death):
                task.cancel()
            await asyncio.gather(answer, death, return_exceptions=True)

    async def _ask(self) -> GetInfoResponse:
        return await self.info.GetInfo(GetInfoRequest(), wait_for_ready=True, timeout=_START_SECONDS)


def _flag(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    return [flag] if value is None else [flag, str(value)]


def _environment(folder: Path, mark: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GUYLINE_AGENT_")}
    name, _, value = mark.partition("=")
    return inherited | {name: value} | dict.fromkeys(_XDG, str(folder))
