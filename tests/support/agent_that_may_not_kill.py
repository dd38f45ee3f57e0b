"""``guyline agent``, with its flags, of root's but for the right to signal other users' processes."""

import os
import sys

_DROP = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill", "--")


def main() -> None:
    """Becomes the agent; the pid stays."""
    os.execvp(_DROP[0], [*_DROP, sys.executable, "-m", "guyline.cli.main", "agent", *sys.argv[1:]])


if __name__ == "__main__":
    main()
