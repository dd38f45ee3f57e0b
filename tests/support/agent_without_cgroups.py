"""``guyline agent``, with its flags, in a mount namespace in which no cgroup v2 is mounted, as in many containers."""

import os
import sys

HIDE_AND_EXECUTE = 'umount --lazy --types cgroup2 --all && exec "$@"'


def main() -> None:
    """Becomes the agent; the pid stays."""
    agent = [sys.executable, "-m", "guyline.cli.main", "agent", *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--mount", "sh", "-c", HIDE_AND_EXECUTE, "sh", *agent])


if __name__ == "__main__":
    main()
