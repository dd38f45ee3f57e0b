"""``guyline agent`` in a cgroup: ``python agent_in_cgroup.py CGROUP FLAGS``. A container starts one like that."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Becomes the agent; the pid stays."""
    cgroup, *flags = sys.argv[1:]
    Path(cgroup, "cgroup.procs").write_text(str(os.getpid()))
    os.execv(sys.executable, [sys.executable, "-m", "guyline.cli.main", "agent", *flags])


if __name__ == "__main__":
    main()
