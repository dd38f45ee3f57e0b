"""The commands' cgroups: one for each, in one directory below the agent's own."""

import errno
import os
from collections.abc import Mapping
from typing import Self

from guyline.agentd.keeper import native_spawn
from guyline.agentd.keeper.controllers import CONTROLLERS, Controllers, first_limit, limit
from guyline.agentd.keeper.fork_spawn import demand_births_in
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.setup import Setup, SetupFailed
from guyline.agentd.system.cgroup import Cgroup, own_cgroup

_DIGITS = 12
"""Of the store's id, in the directory's name: they tell apart the agents that share a cgroup."""
_TRIAL = "trial"
_WHY_NOT_BY_DEFAULT = (
    "with this C library (glibc has it from 2.39 on) a start in a cgroup takes a millisecond longer; "
    "`--process-cgroups on` accepts that"
)


class Cgroups:
    """Makes a cgroup for each command, and removes it with its last member.

    One in which somebody is left over stays, so that a signal still finds them, until ``tidy`` finds it empty. Where
    there can be none, nothing is made and nobody found.
    """

    def __init__(
        self,
        folder: str = "",
        *,
        why_none: str = "",
        why_no_limits: Mapping[str, str] | None = None,
        controllers: Controllers | None = None,
        log: KeeperLog,
    ) -> None:
        self.folder = folder  # empty: there can be none
        self.why_none = why_none  # with a folder: only those commands have one that have a limit
        self.why_no_limits = dict(why_no_limits or dict.fromkeys(CONTROLLERS, why_none))
        self._controllers = controllers
        self._log = log
        self._left = self._names()

    @classmethod
    def below_own(cls, store_id: str, *, wanted: str, log: KeeperLog) -> Self:
        """Those of the store's agent, below the cgroup in which this process lives; takes over what is there.

        Args:
            wanted: "auto": unless they make starts slow; "on": where they are possible; "off".
        """
        if wanted == "off":
            return cls(why_none="--process-cgroups is off", log=log)
        own = own_cgroup()
        if own is None:
            return cls(why_none="no cgroup v2 is mounted that shows the agent's own cgroup", log=log)
        why_none = _WHY_NOT_BY_DEFAULT if wanted == "auto" and not native_spawn.IS_POSSIBLE else ""
        controllers = Controllers(own, f"guyline-{store_id[:_DIGITS]}")
        folder = controllers.folder
        why_no_limits = controllers.obtain()
        if why_none and all(why_no_limits.values()):
            Cgroup(folder).remove()
            return cls(why_none=why_none, why_no_limits=why_no_limits, log=log)
        try:
            _try(folder)
        except OSError as why:
            controllers.give_back()
            Cgroup(folder).remove()
            return cls(why_none=f"none can be used here: {why.filename or 'clone3'}: {why.strerror}", log=log)
        return cls(folder, why_none=why_none, why_no_limits=why_no_limits, controllers=controllers, log=log)

    def make(self, process_id: str, setup: Setup) -> int | None:
        """Returns a descriptor of the directory, the caller's to close; None: no (more) can be made.

        Raises:
            SetupFailed: A limit is asked for that cannot be set.
        """
        wanted = first_limit(setup)
        if not wanted and (self.why_none or not self.folder):
            return None
        try:
            return self._make_limited(self._of(process_id), setup)
        except SetupFailed:
            raise
        except OSError as why:
            if wanted:
                raise SetupFailed(why.errno or errno.EINVAL, wanted) from why
            self._log.warning("a command gets no cgroup", process_id=process_id, error=str(why))
            return None

    def over(self, process_id: str) -> set[int]:
        """A command has ended: removes its cgroup, or returns the pids of who is left in it. Fine if it had none."""
        cgroup = self._of(process_id)
        if not self.folder:
            return set()
        self._left.add(process_id)  # first, so that it is not forgotten if it cannot be looked at now
        if cgroup.remove():
            self._left.discard(process_id)
            return set()
        return cgroup.members()

    def runs(self, process_id: str) -> None:
        """Says of a cgroup that was taken over that its command still runs."""
        self._left.discard(process_id)

    def tidy(self) -> None:
        """Removes those of ended commands in which nobody is left any more."""
        self._left = {process_id for process_id in self._left if not self._of(process_id).remove()}

    def is_anybody_left(self) -> bool:
        """Whether somebody lives in any of them."""
        return bool(self.folder) and Cgroup(self.folder).is_populated()

    def members(self) -> set[int]:
        """The pids of all that live in any of them."""
        return {pid for name in self._names() for pid in self._of(name).members()}

    def kill_one(self, process_id: str) -> bool:
        """The same for the cgroup of one command; returns False if it has none."""
        if not self.folder:
            return False
        try:
            return self._of(process_id).kill()
        except OSError as why:
            self._log.warning("a cgroup cannot be killed", process_id=process_id, error=str(why))
            return False

    def kill(self) -> None:
        """Sends SIGKILL to all that live in any of them, and to what they fork meanwhile."""
        if self.folder:
            try:
                Cgroup(self.folder).kill()
            except OSError as why:
                self._log.warning("cgroups cannot be killed as a whole", error=str(why))

    def close(self) -> None:
        """Removes all, but those in which somebody lives."""
        if self.folder:
            self._left = self._names()
            self.tidy()
            Cgroup(self.folder).remove()
        if self._controllers:
            self._controllers.give_back()

    def _make_limited(self, cgroup: Cgroup, setup: Setup) -> int:
        if not self.folder:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        descriptor = _make(cgroup)
        try:
            self._limit(cgroup, setup)
        except SetupFailed:
            os.close(descriptor)
            cgroup.remove()
            raise
        return descriptor

    def _limit(self, cgroup: Cgroup, setup: Setup) -> None:
        try:
            limit(cgroup.path, setup)
        except SetupFailed as why:
            if why.errno != errno.ENOENT or not self._controllers:
                raise
            self._controllers.obtain()  # somebody has removed the folder, and its controllers went with it
            limit(cgroup.path, setup)

    def _names(self) -> set[str]:
        if not self.folder:
            return set()
        try:
            with os.scandir(self.folder) as found:
                return {entry.name for entry in found if entry.is_dir(follow_symlinks=False)}
        except FileNotFoundError:  # somebody has tidied up
            return set()

    def _of(self, process_id: str) -> Cgroup:
        return Cgroup(f"{self.folder}/{process_id}")


def _try(folder: str) -> None:
    """Raises OSError if no cgroup can be made in the folder, or nothing started in one."""
    trial = Cgroup(f"{folder}/{_TRIAL}")
    trial.remove()  # of a keeper that was killed here
    descriptor = _make(trial)
    try:
        os.stat(f"{trial.path}/cgroup.kill")  # noqa: PTH116 - Linux has it since 5.14
        demand_births_in(descriptor)
    finally:
        os.close(descriptor)
        trial.remove()


def _make(cgroup: Cgroup) -> int:
    os.makedirs(cgroup.path)  # noqa: PTH103 - as everywhere in the keeper; somebody may have removed the empty folder
    return os.open(cgroup.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
