"""Taking up what earlier workers left, as the keeper hands it over."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from guyline.agentd.journal.journals import Journals
from guyline.agentd.keeper import table
from guyline.agentd.process.assembly import DescriptorKeeper
from guyline.agentd.process.clock import Clock
from guyline.agentd.process.errors import KeeperLost
from guyline.agentd.process.process import Process
from guyline.agentd.process.spec import Origin
from guyline.agentd.process.starting.keys import Keys
from guyline.agentd.process.starting.room import Room
from guyline.agentd.process.starting.starter import is_remembered, spawn_failure
from guyline.agentd.process.streams.channels import mistaken
from guyline.daemon.logging import get_logger
from guyline.errors import GuylineError

log = get_logger("restoring")


class EntryKeeper(DescriptorKeeper, Protocol):
    """What is asked of the keeper; see ``keeper.client.KeeperClient``."""

    entries: dict[str, table.Entry]

    def forget(self, process_id: str) -> None: ...


@dataclass
class _LeftOut:
    """What nothing could be made of."""

    entry: table.Entry
    origin: Origin | None  # None: it cannot be read, and nobody can say what was started
    over_since: float | None = None  # by the steady clock; None: it runs, as far as is known


class Restorer:
    """Takes up the processes that are there when a worker begins.

    A record of which nothing can be made costs nobody else anything. It stays with the keeper, descriptors and output
    included, since another release may understand it after an upgrade; it goes as any other once it has ended.

    Args:
        keeper: Has the entries.
        journals: Where their output is; what belongs to none of them is removed.
        keys: Gets to know the keys of earlier starts.
        room: Gets to know who has a place.
        ended_retention: Seconds that one that has ended is kept.
        clock: Tells how long that has been.
        take_up: Makes a process of an entry.
        find: Gives the process that was made.
    """

    def __init__(
        self,
        *,
        keeper: EntryKeeper,
        journals: Journals,
        keys: Keys,
        room: Room,
        ended_retention: float,
        clock: Clock,
        take_up: Callable[[table.Entry, Origin], object],
        find: Callable[[str], Process | None],
    ) -> None:
        self._keeper = keeper
        self._journals = journals
        self._keys = keys
        self._room = room
        self._ended_retention = ended_retention
        self._clock = clock
        self._take_up = take_up
        self._find = find
        self._left_out: dict[str, _LeftOut] = {}

    def restore(self) -> int:
        """Every process goes on where the last worker left it. Returns the highest number of a start."""
        highest = 0
        for entry in list(self._keeper.entries.values()):
            if origin := _origin_of(entry):
                highest = max(highest, origin.sequence)
                self._restore(entry, origin)
            else:
                self._room.take(entry.process_id, None)
                self._leave_out(entry, None)
        for name in self._journals.names_on_disk() - self._left_out.keys():
            process = self._find(name)
            if process is None or process.note.output_gone is not None:  # given up, and then the disk refused
                self._journals.remove(name)
        return highest

    def close(self) -> None:
        """Gives the descriptors back; the keeper has its own."""
        for each in self._left_out.values():
            each.entry.close_kept()

    def has_left_out(self, process_id: str) -> bool:
        """Whether nothing could be made of it."""
        return process_id in self._left_out

    def forget_left_out(self) -> None:
        """Forgets, as is done with others, those that have ended long ago and whose keys have expired."""
        now = self._clock.steady()
        for process_id, each in list(self._left_out.items()):
            each.over_since = self._over_since(each)
            if each.over_since is None or now - each.over_since <= self._ended_retention:
                continue
            if each.origin and self._keys.are_to_know(each.origin):
                continue
            del self._left_out[process_id]
            self._room.give_back(process_id)
            each.entry.close_kept()
            self._keeper.forget(process_id)
            self._journals.remove(process_id)

    def _restore(self, entry: table.Entry, origin: Origin) -> None:
        """Fails for nobody's sake: the keeper would start one worker after the other, and none of them would serve."""
        if origin.is_fence or entry.errno is not None:
            self._restore_failure(origin, spawn_failure(origin, entry.errno or 0, entry.failed_part))
            return
        self._room.take(origin.process_id, origin.chat_id)
        try:
            self._give_up_mistaken(entry)
            self._take_up(entry, origin)
        except Exception:
            log.exception("a process cannot be taken up as it was", process_id=origin.process_id)
            if self._find(origin.process_id) is None:
                self._leave_out(entry, origin)
                self._keys.remember(origin, KeeperLost())  # it may have run, and must not run again

    def _restore_failure(self, origin: Origin, failure: GuylineError) -> None:
        """The worker may have died before it could forget one that it would not have remembered."""
        if origin.is_fence or is_remembered(origin, failure):
            self._keys.remember(origin, failure)
        else:
            self._keeper.forget(origin.process_id)

    def _give_up_mistaken(self, entry: table.Entry) -> None:
        """What it prints there is lost; the rest of it goes on."""
        if names := mistaken(entry.kept):
            log.error("descriptors are not what they should be", process_id=entry.process_id, names=sorted(names))
            for name in names:
                with suppress(OSError):  # it may be closed
                    os.close(entry.kept[name])
            self._keeper.let_go(entry.process_id, names)

    def _leave_out(self, entry: table.Entry, origin: Origin | None) -> None:
        self._left_out[entry.process_id] = _LeftOut(entry, origin)

    def _over_since(self, each: _LeftOut) -> float | None:
        exit_, errno = each.entry.exit, each.entry.errno
        if each.over_since is not None or (exit_ is None and errno is None):
            return each.over_since
        ended_at = exit_.ended_at if exit_ else self._clock.wall()
        return self._clock.steady_at(ended_at)


def _origin_of(entry: table.Entry) -> Origin | None:
    try:
        return Origin.from_json(entry.info)
    except (ValueError, TypeError, KeyError):
        log.exception("a process cannot be taken up: its record cannot be read", process_id=entry.process_id)
        return None
