"""Which file systems are mounted, and whether looking at one may hang."""

import select
from pathlib import Path

_NEVER_HANG = frozenset(
    {
        "bdev", "binfmt_misc", "bpf", "btrfs", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
        "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fusectl", "hugetlbfs", "iso9660", "mqueue",
        "nsfs", "overlay", "proc", "pstore", "ramfs", "securityfs", "selinuxfs", "squashfs", "sysfs", "tmpfs",
        "tracefs", "vfat", "xfs", "zfs",
    }
)  # fmt: skip
"""Types that are served by this machine's kernel alone. Network file systems, FUSE and autofs wait for somebody."""


class Mounts:
    """Watches the mount table, which itself never hangs. ``close`` ends it."""

    def __init__(self, table: Path = Path("/proc/self/mountinfo")) -> None:
        self._file = table.open()
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)  # so the kernel tells of a change
        self._may_hang = self._read()

    def close(self) -> None:
        self._file.close()

    def may_hang(self) -> bool:
        """Whether any file system is mounted that may keep who looks at it waiting. Costs 2 µs."""
        if self._poll.poll(0):
            self._may_hang = self._read()
        return self._may_hang

    def _read(self) -> bool:
        self._file.seek(0)
        types = {line.partition(" - ")[2].split(" ", 1)[0] for line in self._file}
        return not types <= _NEVER_HANG
