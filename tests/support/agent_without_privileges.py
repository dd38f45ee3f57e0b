"""``guyline agent``, with its flags, without any privilege, as for an ordinary user. Root stays the files' owner."""

import os
import shutil
import sys

DROP = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--")


def drop() -> tuple[str, ...]:
    """What goes before a command line so that it runs without privileges; nothing for a user who has none."""
    return DROP if os.geteuid() == 0 else ()


def why_impossible() -> str:
    """Says why root cannot do so here; empty if it can."""
    return "" if os.geteuid() != 0 or shutil.which(DROP[0]) else "setpriv (util-linux) is not installed"


def main() -> None:
    """Becomes the agent; the pid stays."""
    agent = [*drop(), sys.executable, "-m", "guyline.cli.main", "agent", *sys.argv[1:]]
    os.execvp(agent[0], agent)


if __name__ == "__main__":
    main()
