"""Whether it was the kernel that killed a command because memory ran out, as far as its cgroup tells."""

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class OomWatch:
    """Compares the cgroups' counts of such kills with what they were before.

    cgroup v2 has it in ``memory.events``, v1 in ``memory.oom_control``. A kill without such a file is not recognised,
    nor is, with v1, one in another cgroup than this process's: of a zombie, v1 does not say where it was.
    """

    def __init__(self, folder: str) -> None:
        """``folder`` is the directory of the commands' cgroups, if they have any; else empty."""
        self._folder = Path(folder) if folder else None
        self._seen: dict[Path, int] = {}
        self.has_killed("self")
        if folder and (file := _nearest(Path(folder))):
            self._seen[file] = _count(file)

    def has_killed(self, pid: int | str) -> bool:
        """Whether there were kills in the cgroup of this process (it may be a zombie) since the last call for it."""
        file = _events_file(pid)
        count = _count(file) if file else 0
        if file is None or count <= self._seen.get(file, 0):
            return False
        self._seen[file] = count
        return True

    def has_killed_in(self, process_id: str) -> bool:
        """Whether there were kills in the command's own cgroup, if it has one in which memory is counted."""
        return self._folder is not None and _count(self._folder / process_id / "memory.events") > 0


def _events_file(pid: int | str) -> Path | None:
    try:
        lines = os.fsdecode(Path(f"/proc/{pid}/cgroup").read_bytes()).removesuffix("\n").split("\n")
    except OSError:
        return None
    for line in lines:  # of paths with any characters but a newline, which the kernel writes otherwise
        hierarchy, controllers, path = line.split(":", 2)
        path = path.removesuffix(" (deleted)").strip("/")
        if "memory" in controllers.split(","):
            if not path and pid != "self":  # what it says of every zombie
                return _events_file("self")
            return _existing(_ROOT / "memory", path, "memory.oom_control")
        if hierarchy == "0" and (file := _nearest(_ROOT / path)):
            return file
    return None


def _nearest(group: Path) -> Path | None:
    """Of the cgroup or, if memory is not counted for it alone, of the next one above it, which counts it too."""
    return next((file for each in (group, *group.parents) if (file := each / "memory.events").exists()), None)


def _existing(root: Path, path: str, name: str) -> Path | None:
    """In a container the path may be the host's, while the cgroup itself is mounted as the root."""
    return next((file for file in (root / path / name, root / name) if file.exists()), None)


def _count(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
