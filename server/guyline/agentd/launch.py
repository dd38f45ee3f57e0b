"""``guyline agent``: reads and checks the settings, makes sure that this agent is the only one, becomes its keeper."""

import fcntl
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from guyline.agentd.keeper.config import Config, become_keeper
from guyline.agentd.settings import AgentSettings
from guyline.agentd.system.priority import own_nice, own_oom_score
from guyline.daemon.address import UnixAddress
from guyline.rpc.socket_path import SocketNotUsable, make_directory, make_way

_NICER_BY, _NICEST = 5, 19
_EARLY_SCORE, _FIRST_SCORE = 998, 1000
WORKER = (sys.executable, "-P", "-m", "guyline.agentd.main")
"""-P: a json.py in the directory where somebody happens to stand is none of this program's modules."""


class CannotLaunch(Exception):
    """The agent cannot be started as asked. Says why, and what to do."""


def main(argv: Sequence[str]) -> NoReturn:
    """Never returns: becomes the keeper, or exits with 2 (wrong settings) or 1 (cannot be started here)."""
    from guyline.daemon.settings_source import parse  # noqa: PLC0415 - pydantic is not installed everywhere, and slow

    settings = parse(AgentSettings, argv, prog="guyline agent", env_prefix="GUYLINE_AGENT_")
    try:
        launch(settings)
    except CannotLaunch as why:
        sys.exit(f"guyline agent: {why}")


def launch(settings: AgentSettings, *, worker: Sequence[str] = WORKER) -> NoReturn:
    """Becomes the keeper of an agent with these settings.

    Raises:
        CannotLaunch: Another agent has the state directory or the socket, or they cannot be used.
    """
    settings = with_priorities(settings, own_nice=own_nice(), own_oom_score=own_oom_score())
    locks = [_lock(_state_dir(settings.state_dir) / "lock", f"--state-dir {settings.state_dir}")]
    if isinstance(settings.address, UnixAddress):
        locks.append(_lock_socket(settings.address.path))
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    config = Config(
        state_dir=str(settings.state_dir),
        worker=list(worker),
        settings=_to_memory_file(settings.to_json()),
        locks=locks,
        shutdown_grace=settings.shutdown_grace,
        json_log=is_json,
        quiet_log=settings.log_level in {"warning", "error"},
        descriptor_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        oom_score=max(0, own_oom_score()),
        instance_id=os.urandom(16).hex(),
        started_at=time.time(),
        process_cgroups=settings.process_cgroups,
    )
    try:
        become_keeper(config, kept=[])
    except OSError as why:
        raise CannotLaunch(f"cannot execute {sys.executable}: {why.strerror}") from why


def with_priorities(settings: AgentSettings, *, own_nice: int, own_oom_score: int) -> AgentSettings:
    """Says what ``deprioritize_processes`` means for an agent that was started with this niceness and score.

    Decided here, since the keeper changes its own score.
    """
    if not settings.deprioritize_processes:
        return settings
    nice, score = settings.process_nice, settings.process_oom_score
    return replace(
        settings,
        process_nice=min(own_nice + _NICER_BY, _NICEST) if nice is None else nice,
        process_oom_score=_score_below(own_oom_score) if score is None else score,
    )


def _score_below(own: int) -> int:
    """One at which the kernel kills processes before the agent; at least ordinary ones, if the agent is spared."""
    if own < 0:
        return 0
    return _EARLY_SCORE if own < _EARLY_SCORE else _FIRST_SCORE


def _state_dir(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise CannotLaunch(f"{path} belongs to user {status.st_uid}; give another --state-dir")
        path.chmod(0o700)
    except OSError as why:
        raise CannotLaunch(f"cannot use {path} (--state-dir): {why.strerror}") from why
    return path


def _lock_socket(path: Path) -> int:
    """One lock beside the socket, since gRPC would take a live one over in silence."""
    try:
        make_directory(path.parent)
        lock = _lock(path.with_name(path.name + ".lock"), f"--listen unix:{path}")
        make_way(path)
    except SocketNotUsable as why:
        raise CannotLaunch(str(why)) from why
    return lock


def _lock(path: Path, setting: str) -> int:
    """Takes the lock for as long as the descriptor, or a copy of it, is open anywhere."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as why:
        raise CannotLaunch(f"cannot lock {path}: {why.strerror}") from why
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as why:
        owner = os.pread(file, 20, 0).decode(errors="replace") or "?"
        raise CannotLaunch(f"an agent (pid {owner}) already runs there; stop it, or give another {setting}") from why
    return file


def _to_memory_file(text: str) -> int:
    file = os.memfd_create("guyline-settings")
    os.write(file, text.encode())
    return file


if __name__ == "__main__":
    main(sys.argv[1:])
