"""The commands' cgroups, as the kernel shows them to a test."""

import json
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

from guyline.agentd.system.cgroup import own_cgroup

_STORE_DIGITS = 12


def why_impossible() -> str:
    """Says why no agent that this process starts can make cgroups; empty if it can."""
    own = own_cgroup()
    if own is None:
        return "no cgroup v2 is mounted here"
    trial = Path(own, f"guyline-test-{uuid.uuid4()}")
    try:
        trial.mkdir()
    except OSError as why:
        return f"no cgroup can be made here: {why}"
    has_kill = (trial / "cgroup.kill").exists()
    trial.rmdir()
    return "" if has_kill else "this kernel has no cgroup.kill (Linux 5.14)"


def folder_of(state_dir: Path) -> Path:
    """Where the agent with this state makes a cgroup for each command, named by its id."""
    own = own_cgroup()
    assert own
    with (state_dir / "records.log").open("rb") as log:
        _, kind, store_id = json.loads(log.readline().partition(b" ")[2])  # of any version
    assert kind == "store"
    return Path(own, f"guyline-{store_id[:_STORE_DIGITS]}")


def members(group: Path) -> set[int]:
    """Who lives in it."""
    return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}


def remove_all(folder: Path) -> None:
    """Removes it, with all below, in which nobody may live any more. Fine if it does not exist."""
    for group in sorted(folder.rglob("*/"), reverse=True):
        group.rmdir()
    with suppress(FileNotFoundError):
        folder.rmdir()


def why_not_hidden() -> str:
    """Says why this process may not make a mount namespace, in which cgroups can be hidden; empty if it may."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False).stderr
