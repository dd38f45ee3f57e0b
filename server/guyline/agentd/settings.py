"""The agent's settings."""

# ruff: noqa: RUF009 (`setting` makes a dataclass field)

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from guyline.daemon.address import Address, TcpAddress, WrongAddress, to_address, to_tcp_address
from guyline.daemon.setting import (
    GIB,
    KIB,
    MIB,
    InvalidSetting,
    demand_bounds,
    from_json,
    setting,
    setting_from,
    to_json,
)


def _default_state_dir() -> Path:
    return _xdg("XDG_STATE_HOME", Path.home() / ".local/state") / "guyline/agent"


def _default_listen() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"unix:{runtime}/guyline/agent.sock"
    return f"unix:{tempfile.gettempdir()}/guyline-{os.getuid()}/agent.sock"


def _default_config() -> Path | None:
    path = _xdg("XDG_CONFIG_HOME", Path.home() / ".config") / "guyline/agent.toml"
    return path if path.is_file() else None


def _xdg(variable: str, otherwise: Path) -> Path:
    # The specification has relative paths ignored.
    given = os.environ.get(variable, "")
    return Path(given) if given.startswith("/") else otherwise


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """What an operator may say about an agent. Sizes are in bytes, durations in seconds.

    Raises:
        InvalidSetting: On creation, if a value is out of bounds, or two do not go together.
    """

    state_dir: Path = setting_from(
        _default_state_dir,
        default_text="$XDG_STATE_HOME/guyline/agent, else ~/.local/state/guyline/agent",
        help="directory of all that outlives the agent: records and output; one agent only",
    )
    listen: str = setting_from(
        _default_listen,
        default_text="unix:$XDG_RUNTIME_DIR/guyline/agent.sock, else unix:TEMPDIR/guyline-UID/agent.sock",
        help="where to serve: unix:PATH or tcp://HOST:PORT; tcp wants --tls-cert, --tls-key and --token-file",
    )
    tls_cert: Path | None = setting(None, help="certificate chain for tcp, PEM; read again on change")
    tls_key: Path | None = setting(None, help="private key of the certificate, PEM; read again on change")
    token_file: Path | None = setting(
        None, help="file (mode 0600) whose content callers over tcp must bring as a bearer token; read again on change"
    )
    insecure: bool = setting(
        False, help="serve tcp on a loopback address in clear and without a token: every local user then is the owner"
    )
    metrics_listen: str | None = setting(None, help="HOST:PORT on which Prometheus finds /metrics")
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", help="form of the log on standard error; auto: console on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", help="least severe level that is logged")
    directory: Path | None = setting(
        None, default_text="the home directory", help="where processes start whose start names no directory"
    )
    max_processes: int = setting(1000, minimum=1, maximum=100_000, help="how many processes may run at once")
    max_ended: int = setting(
        10_000, minimum=1, maximum=1_000_000, help="how many ended processes are kept; of more, the oldest go first"
    )
    max_keys: int = setting(
        10_000,
        minimum=100,
        maximum=1_000_000,
        help="how many keys of starts are remembered; of more, the oldest are forgotten, and refused from then on",
    )
    max_chat_processes: int = setting(
        256, minimum=1, maximum=100_000, help="how many processes of one chat may run at once"
    )
    max_followers: int = setting(
        4000, minimum=1, maximum=100_000, help="how many streams of output (Run, Attach) may be open at once"
    )
    process_cgroups: Literal["auto", "on", "off"] = setting(
        "auto",
        help="a cgroup for each process, by which signals also find what left its session; on: where the system allows"
        " it; auto: if it also takes next to no time",
    )
    process_nice: int | None = setting(
        None,
        minimum=-20,
        maximum=19,
        default_text="the agent's own",
        help="niceness of processes whose start names none; below the agent's own it takes a privilege",
    )
    process_oom_score: int | None = setting(
        None,
        minimum=-1000,
        maximum=1000,
        default_text="the agent's own, but at least 0",
        help="oom_score_adj of processes whose start names none: how ready the kernel is to kill them for memory; below"
        " the agent's own it takes a privilege",
    )
    deprioritize_processes: bool = setting(
        False,
        help="processes give way to the agent under pressure: niceness 5 above its own, oom_score_adj 998 (0 if its own"
        " is below 0), unless set by themselves",
    )
    journal_bytes: int = setting(
        64 * MIB, unit="bytes", minimum=MIB, maximum=1024 * GIB, help="output kept of a process unless its start says"
    )
    journal_quota_bytes: int = setting(
        GIB, unit="bytes", minimum=MIB, maximum=1024 * GIB, help="output kept of all processes together"
    )
    ended_retention: float = setting(
        3600.0, unit="seconds", minimum=0, maximum=30 * 86400, help="how long an ended process and its output are kept"
    )
    key_retention: float = setting(
        86400.0, unit="seconds", minimum=60, maximum=30 * 86400, help="how long the keys of starts are remembered"
    )
    shutdown_grace: float = setting(
        10.0, unit="seconds", minimum=0, maximum=600, help="how long a shutdown may take before all is killed"
    )
    pause_patience: float = setting(
        60.0, unit="seconds", minimum=0, maximum=86400, help="how long a paused process waits for a follower that left"
    )
    input_bytes: int = setting(
        MIB, unit="bytes", minimum=64 * KIB, maximum=64 * MIB, help="input that may wait for one process to read it"
    )
    input_quota_bytes: int = setting(
        64 * MIB,
        unit="bytes",
        minimum=64 * KIB,
        maximum=16 * GIB,
        help="input that may wait for all processes together",
    )
    lookup_timeout: float = setting(
        5.0, unit="seconds", minimum=0.1, maximum=600, help="how long looking up a program or directory may take"
    )
    max_request_bytes: int = setting(
        4 * MIB, unit="bytes", minimum=64 * KIB, maximum=256 * MIB, help="the largest request"
    )
    config: Path | None = setting_from(
        _default_config,
        default_text="$XDG_CONFIG_HOME/guyline/agent.toml, if it exists",
        help="TOML file with settings, named as the flags, with underscores",
    )

    def __post_init__(self) -> None:
        demand_bounds(self)
        self._demand_state_dir()
        self._demand_safe_listener()
        if self.journal_quota_bytes < self.journal_bytes:
            raise InvalidSetting("journal_quota_bytes", "is less than one process may keep (--journal-bytes); raise it")
        if self.input_quota_bytes < self.input_bytes:
            raise InvalidSetting("input_quota_bytes", "is less than may wait for one process (--input-bytes); raise it")

    @property
    def address(self) -> Address:
        """Where to serve."""
        try:
            return to_address(self.listen)
        except WrongAddress as why:
            raise InvalidSetting("listen", str(why)) from why

    @property
    def metrics_address(self) -> TcpAddress | None:
        """Where Prometheus finds the metrics. None: nowhere."""
        try:
            return None if self.metrics_listen is None else to_tcp_address(self.metrics_listen)
        except WrongAddress as why:
            raise InvalidSetting("metrics_listen", str(why)) from why

    def to_json(self) -> str:
        """For another process of the agent. Holds paths of secrets, never secrets."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` gave."""
        return from_json(cls, text)

    def _demand_state_dir(self) -> None:
        for name in ("state_dir", "directory"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_absolute():
                raise InvalidSetting(name, f"{str(path)!r} is relative; give an absolute path")

    def _demand_safe_listener(self) -> None:
        address = self.address
        _ = self.metrics_address
        if not isinstance(address, TcpAddress):
            self._demand_unset(
                "is for tcp alone; leave it out, or --listen on tcp", "tls_cert", "tls_key", "token_file"
            )
        elif self.insecure:
            if not address.is_loopback:
                raise InvalidSetting(
                    "insecure",
                    f"{address.host!r} is no loopback address; leave --insecure out and give "
                    "--tls-cert, --tls-key and --token-file",
                )
            self._demand_unset("does not go with --insecure; leave one of them out", "tls_cert", "tls_key")
        else:
            self._demand_set(f"must be given to serve on {address}", "tls_cert", "tls_key", "token_file")

    def _demand_unset(self, problem: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise InvalidSetting(name, problem)

    def _demand_set(self, problem: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) is None:
                raise InvalidSetting(name, problem)
