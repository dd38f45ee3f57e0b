"""The agent's settings: where they come from, and what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guyline.agentd.settings import AgentSettings
from guyline.daemon.address import TcpAddress, UnixAddress
from guyline.daemon.setting import MIB, InvalidSetting
from guyline.daemon.settings_source import parse


@pytest.fixture(autouse=True)
def an_empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What this machine is set up with is none of the tests' business."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def parsed(*argv: str) -> AgentSettings:
    return parse(AgentSettings, argv, prog="guyline agent", env_prefix="GUYLINE_AGENT_")


def test_flags_win_over_the_environment_over_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The nearer to the start, the stronger."""
    config = tmp_path / "agent.toml"
    config.write_text("max_processes = 1\nlog_level = 'error'\njournal_bytes = '2MiB'\n")
    monkeypatch.setenv("GUYLINE_AGENT_MAX_PROCESSES", "2")
    monkeypatch.setenv("GUYLINE_AGENT_LOG_LEVEL", "warning")

    settings = parsed("--max-processes", "3", "--config", str(config))

    assert (settings.max_processes, settings.log_level, settings.journal_bytes) == (3, "warning", 2 * MIB)
    assert settings.shutdown_grace == 10.0


def test_the_usual_file_is_found_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An operator writes it once."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "etc"))
    (tmp_path / "etc/guyline").mkdir(parents=True)
    (tmp_path / "etc/guyline/agent.toml").write_text("insecure = true\nlisten = 'tcp://localhost:7000'\n")

    assert parsed().address == TcpAddress("localhost", 7000)


def test_sizes_and_durations_may_have_units() -> None:
    """67108864 is nobody's way of writing 64 MiB."""
    settings = parsed("--journal-bytes", "64MiB", "--ended-retention", "2h", "--shutdown-grace", "500ms")

    assert (settings.journal_bytes, settings.ended_retention, settings.shutdown_grace) == (64 * MIB, 7200.0, 0.5)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--max-processes", "many"], "--max-processes: 'many' will not do"),
        (["--max-processes", "0"], "--max-processes: 0 is too small; give at least 1"),
        (["--journal-bytes", "64 parsecs"], "--journal-bytes: '64 parsecs' will not do: give a number, or one with"),
        (["--journal-bytes", "2GiB"], "--journal-quota-bytes: is less than one process may keep"),
        (["--log-level", "loud"], "--log-level: 'loud' will not do: input should be 'debug', 'info'"),
        (["--nope"], "--nope"),
        (["extra"], "extra"),
        (["--config", "/no/such/file"], "cannot read the settings file '/no/such/file'"),
        (["--listen", "agent.sock"], "--listen: 'agent.sock' is no address; give unix:PATH or tcp://HOST:PORT"),
        (["--listen", "unix:agent.sock"], "--listen: 'unix:agent.sock' does not name an absolute path"),
        (["--listen", "unix:/" + "a" * 107], "has 108 bytes, and the system allows 107; give a shorter one"),
        (["--listen", "tcp://0.0.0.0:7000"], "--tls-cert: must be given to serve on tcp://0.0.0.0:7000"),
        (["--listen", "tcp://127.0.0.1:7000"], "--tls-cert: must be given to serve on tcp://127.0.0.1:7000"),
        (["--listen", "tcp://10.0.0.1:7000", "--insecure"], "--insecure: '10.0.0.1' is no loopback address"),
        (["--token-file", "/t"], "--token-file: is for tcp alone"),
        (["--metrics-listen", "9090"], "--metrics-listen: '9090' is no HOST:PORT"),
    ],
)
def test_a_wrong_flag_is_one_clear_line(capsys: pytest.CaptureFixture[str], argv: list[str], complaint: str) -> None:
    """It names the flag, says what is wrong with the value, and what to do."""
    with pytest.raises(SystemExit) as caught:
        parsed(*argv)

    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert complaint in said
    assert said.startswith("guyline agent: ")
    assert said.count("\n") == 1


def test_a_wrong_variable_and_a_wrong_line_in_the_file_are_named_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nobody should look for a flag they never gave."""
    config = tmp_path / "agent.toml"
    config.write_text("log_level = 'loud'\n")
    with pytest.raises(SystemExit):
        parsed("--config", str(config))
    monkeypatch.setenv("GUYLINE_AGENT_MAX_PROCESSES", "many")
    with pytest.raises(SystemExit):
        parsed()

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"guyline agent: log_level in {config}: 'loud' will not do")
    assert second.startswith("guyline agent: GUYLINE_AGENT_MAX_PROCESSES: 'many' will not do")


@pytest.mark.parametrize("content", ["max_proceses = 1", "max_processes ="])
def test_a_file_with_a_typo_is_refused(content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A setting that silently has no effect is worse than none."""
    config = tmp_path / "agent.toml"
    config.write_text(content)

    with pytest.raises(SystemExit):
        parsed("--config", str(config))

    assert str(config) in capsys.readouterr().err


def test_help_shows_every_setting_with_its_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the reference."""
    with pytest.raises(SystemExit) as caught:
        parsed("--help")

    shown = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "--journal-bytes SIZE output kept of a process unless its start says (default: 64MiB)" in shown
    assert all(f"--{name.replace('_', '-')}" in shown for name in AgentSettings.__dataclass_fields__)


def test_insecure_tcp_on_loopback_is_allowed_when_said() -> None:
    """For trying things out on one's own machine."""
    assert parsed("--listen", "tcp://[::1]:0", "--insecure").address == TcpAddress("::1", 0)


def test_the_default_socket_is_in_the_runtime_directory_else_in_a_private_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CLI looks in the same places."""
    otherwise = AgentSettings().address
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")

    assert AgentSettings().address == UnixAddress(Path("/run/user/7/guyline/agent.sock"))
    assert isinstance(otherwise, UnixAddress)
    assert otherwise.path.parent.name.startswith("guyline-")


def test_settings_go_to_the_worker_and_back_as_they_were() -> None:
    """The launching command reads them, the worker obeys them."""
    settings = AgentSettings(state_dir=Path("/s"), max_processes=7, directory=Path("/d"), metrics_listen="[::1]:9")

    assert AgentSettings.from_json(settings.to_json()) == settings


def test_a_worker_of_another_version_takes_what_it_knows() -> None:
    """An upgrade hands settings to code that may know more or fewer of them."""
    settings = AgentSettings.from_json('{"max_processes": 7, "from_the_future": 1}')

    assert (settings.max_processes, settings.shutdown_grace) == (7, 10.0)


@pytest.mark.parametrize("wrong", [{"state_dir": Path("relative")}, {"max_processes": 0}])
def test_settings_that_cannot_be_are_never_made(wrong: dict[str, Any]) -> None:
    """Whoever holds settings need not check them."""
    with pytest.raises(InvalidSetting):
        AgentSettings(**wrong)


def test_the_settings_are_imported_without_pydantic() -> None:
    """A worker restarts in a tenth of a second, and pydantic alone takes longer."""
    program = "import sys, guyline.agentd.settings; print([m for m in sys.modules if 'pydantic' in m])"

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"
