"""``python -m guyline.agentd.keeper CONFIG_DESCRIPTOR STATE_DIR``: becomes the keeper of a state directory."""

import ctypes
import os
import sys

from guyline.agentd.keeper import messages
from guyline.agentd.keeper.config import Config
from guyline.agentd.keeper.keeper import Keeper, load, say
from guyline.agentd.keeper.records import VERSION, NewerLog
from guyline.agentd.keeper.spawn import Spawner

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(argv: list[str]) -> int:
    if argv == ["--formats"]:  # asked by an upgrade, before it lets this code take over
        sys.stdout.write(f"{messages.FORMAT} {VERSION}\n")
        return 0
    config = Config.from_descriptor(int(argv[0]))
    for descriptor in [config.settings, *config.locks]:
        os.set_inheritable(descriptor, False)
    os.chdir("/")
    _adopt_orphans()
    try:
        store_id, entries, log = load(config)
    except (NewerLog, OSError) as why:
        say(config, "cannot begin", error=str(why))
        return 1
    spawner = Spawner(descriptor_limit=config.descriptor_limit, oom_score=config.oom_score)
    keeper = Keeper(config, store_id=store_id, entries=entries, log=log, spawner=spawner)
    return keeper.run()


def _adopt_orphans() -> None:
    """Whoever loses its parent below this process becomes its child, so that it is reaped here (and found)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
