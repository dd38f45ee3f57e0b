"""``python -m guyline.agentd.keeper CONFIG_DESCRIPTOR STATE_DIR``: becomes the keeper of a state directory."""

import ctypes
import os
import sys

from guyline.agentd.keeper import messages
from guyline.agentd.keeper.cgroups import Cgroups
from guyline.agentd.keeper.config import Config
from guyline.agentd.keeper.keeper import Keeper
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.records import VERSION, NewerLog
from guyline.agentd.keeper.spawn import Spawner
from guyline.agentd.keeper.store import load

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(argv: list[str]) -> int:
    if argv == ["--formats"]:  # asked by an upgrade, before it lets this code take over
        sys.stdout.write(f"{messages.FORMAT} {VERSION}\n")
        return 0
    config = Config.from_descriptor(int(argv[0]))
    for descriptor in [config.settings, *config.locks]:
        os.set_inheritable(descriptor, False)
    os.chdir("/")
    # First of all, while low descriptors are free; those of a keeper whose place this one takes have closed by now.
    spawner = Spawner(descriptor_limit=config.descriptor_limit, oom_score=config.oom_score)
    _adopt_orphans()
    log = KeeperLog(is_json=config.json_log, is_quiet=config.quiet_log)
    try:
        _sign(config.locks)
        store_id, entries, records = load(config)
    except (NewerLog, OSError) as why:
        log.error("cannot begin", error=str(why))  # noqa: TRY400 - the text says it all
        return 1
    cgroups = Cgroups.below_own(store_id, wanted=config.process_cgroups, log=log)
    if cgroups.why_none and config.process_cgroups == "on":
        log.warning("commands get no cgroups", reason=cgroups.why_none)
    keeper = Keeper(
        config, store_id=store_id, entries=entries, records=records, spawner=spawner, cgroups=cgroups, log=log
    )
    return keeper.run()


def _sign(locks: list[int]) -> None:
    """Writes into the locks' files who holds them, for whoever finds them taken."""
    for lock in locks:
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d" % os.getpid(), 0)


def _adopt_orphans() -> None:
    """Whoever loses its parent below this process becomes its child, so that it is reaped here (and found)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
