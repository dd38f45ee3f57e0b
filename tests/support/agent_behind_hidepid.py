"""``guyline agent``, with its flags, without any privilege, and with a /proc that hides others from it.

Its /proc is mounted in a namespace of its own, with ``hidepid=1``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_MOUNT = 'mount -t proc -o hidepid=1,gid=54321 proc /proc && exec "$@"'  # root's own group would see everything
_WITHOUT_PRIVILEGES = Path(__file__).with_name("agent_without_privileges.py")
_INSIDE = ("unshare", "--mount", "sh", "-c", _MOUNT, "sh")


def why_impossible() -> str:
    """Says why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "mounting a /proc needs root"
    if missing := [name for name in ("unshare", "setpriv") if not shutil.which(name)]:
        return f"{missing[0]} (util-linux) is not installed"
    probe = [*_INSIDE, "setpriv", "--bounding-set=-all", "--", "sh", "-c", "! cat /proc/1/stat"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "no /proc with hidepid can be mounted here: that takes CAP_SYS_ADMIN, and Linux 5.8"
    return ""


def main() -> None:
    """Becomes the agent; the pid stays."""
    agent = [*_INSIDE, sys.executable, str(_WITHOUT_PRIVILEGES), *sys.argv[1:]]
    os.execvp(agent[0], agent)


if __name__ == "__main__":
    main()
