"""Idempotency keys: which start a key was used for, and what came of it."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from guyline.agentd.process.clock import Clock
from guyline.agentd.process.errors import KeyConflict, KeyExpired
from guyline.agentd.process.process import Process
from guyline.agentd.process.spec import Key, Origin
from guyline.errors import GuylineError

AHEAD = 3600.0
"""Seconds by which a caller's clock may be ahead of the agent's. Keys are remembered for as much longer."""

_SKEW = 5.0
"""Seconds by which clocks that are kept right may differ."""
_FRESH = 60.0
"""Seconds within which a key that was just made gets here, with all the tries of a client; its patience by default."""
_CROWDED = 2
"""So many times the keys that are to be remembered, and none is taken any more that is ahead of the agent's clock."""

Scope = tuple[str, str]
"""Chat (or nothing) and key: two chats' keys never meet."""

Outcome = Process | GuylineError


@dataclass
class Use:
    """One start under a key: under way, done, or failed; or what stands for a start that was canceled."""

    fingerprint: str  # empty: whatever is started under the key, it is this that came first
    process_id: str
    created_at: float  # the key's, seconds since the epoch
    outcome: "asyncio.Future[Process] | Outcome"
    kept_until: float = 0.0  # steady seconds; set by ``Keys.put``

    @property
    def has_failed(self) -> bool:
        """Whether it is certain that no process came of it."""
        if isinstance(self.outcome, asyncio.Future):
            return self.outcome.done()  # a start that has succeeded leaves its process here
        return not isinstance(self.outcome, Process)

    async def process(self) -> Process:
        """Waits for a start that is under way. Cancelling is safe.

        Raises:
            GuylineError: What the start failed with.
        """
        try:
            if isinstance(self.outcome, asyncio.Future):
                return await asyncio.shield(self.outcome)
            if isinstance(self.outcome, Process):
                return self.outcome
            raise self.outcome
        except GuylineError as why:
            # The same one for every caller: its traceback would grow with each, and hold what they have asked for.
            raise why.with_traceback(None) from why.__cause__


class Keys:
    """The keys that were used, for as long as they are remembered.

    A key is forgotten once it would be refused for its age, and has really been kept for so long: the wall clock, by
    which its age counts, may jump ahead and come back.

    Args:
        retention: Seconds.
        most: How many are remembered. Of more, the oldest are forgotten before their time; then so old a key is refused
            as well, since nobody could say whether it was used.
        horizon: How old that is, in seconds since the epoch; 0: none was forgotten.
        keep_horizon: Must have it safe when it returns. Called before anything is forgotten.
        clock: What time it is.
    """

    def __init__(
        self,
        *,
        retention: float,
        most: int,
        horizon: float = 0.0,
        keep_horizon: Callable[[float], None] = lambda _: None,
        clock: Clock = Clock(),  # noqa: B008 - immutable
    ) -> None:
        self.retention = retention  # seconds
        self._most = most
        self._horizon = horizon
        self._forgotten_up_to = 0.0  # while the horizon was still to come
        self._good_from = math.inf  # while the horizon is still to come: keys that are behind it are good from here on
        self._keep_horizon = keep_horizon
        self._clock = clock
        self._uses: dict[Scope, Use] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def find(self, chat_id: str | None, key: Key, fingerprint: str | None) -> Use | None:
        """The start that the key was used for. None as the fingerprint: whichever it was.

        Raises:
            KeyConflict: It was another start.
            KeyExpired: The key is of an age of which nobody can say whether it was used.
        """
        use = self.get(chat_id, key.value)
        if use is None:
            age = self._clock.wall() - key.created_at
            ahead = 0.0 if len(self._uses) >= _CROWDED * self._most else AHEAD  # those cannot be crowded out
            if not -ahead <= age <= self.retention or self._is_behind_horizon(key.created_at):
                raise KeyExpired(key.value, age, self.retention)
            return None
        if use.fingerprint and fingerprint is not None and use.fingerprint != fingerprint:
            raise KeyConflict(key.value)
        return use

    def get(self, chat_id: str | None, key: str) -> Use | None:
        return self._uses.get((chat_id or "", key))

    def put(self, chat_id: str | None, key: str, use: Use) -> None:
        left = use.created_at + self.retention + AHEAD - self._clock.wall()
        use.kept_until = self._clock.steady() + max(0.0, left)
        self._uses[chat_id or "", key] = use

    def remember(self, origin: Origin, outcome: Outcome) -> None:
        """What came of a start, if it had a key."""
        if origin.key:
            self.put(
                origin.chat_id, origin.key, Use(origin.fingerprint, origin.process_id, origin.key_created_at, outcome)
            )

    def remove(self, chat_id: str | None, key: str) -> None:
        self._uses.pop((chat_id or "", key), None)

    def crowd_out(self) -> None:
        """If too many are remembered, lets the oldest of them expire before their time: a tenth more than must be.

        Not those that are ahead of the clock: all keys that are made until it has come so far would be refused.

        Raises:
            OSError: The new horizon cannot be kept, so the old one counts.
        """
        now = self._look_at_clock()
        surplus = len(self._uses) - self._most
        if surplus <= 0:
            return
        ages = sorted(use.created_at for use in self._uses.values())
        reached = min(ages[min(surplus + self._most // 10, len(ages) - 1)], now)
        if self._horizon > now:
            self._forgotten_up_to = max(self._forgotten_up_to, reached)
        elif reached > self._horizon:
            self._keep_horizon(reached)
            self._horizon = reached

    def expire_failures(self) -> list[str]:
        """Forgets the failed starts whose keys have expired; returns their ids. (Processes have their own time.)"""
        expired = {scope: use for scope, use in self._uses.items() if use.has_failed and self._has_expired(use)}
        for scope in expired:
            del self._uses[scope]
        return [use.process_id for use in expired.values()]

    def are_to_know(self, origin: Origin) -> bool:
        """Whether the start must still be known for its key's sake: the key would not be refused anyway."""
        use = self.get(origin.chat_id, origin.key) if origin.key else None
        return use is not None and not self._has_expired(use)

    def _is_behind_horizon(self, created_at: float) -> bool:
        """Whether a key is so old that it may have been forgotten."""
        now = self._look_at_clock()
        # The clock passes by the keys of before a second time: of one that is not of this very minute nobody can tell.
        good_from = max(self._good_from, self._forgotten_up_to, now - _FRESH)
        return created_at <= self._horizon and not good_from < created_at <= now + _SKEW

    def _look_at_clock(self) -> float:
        """Returns the time. A horizon that is still to come was moved before the clock was set back.

        Then keys that are made from now on are good, or nobody could start anything until it is reached; those from
        before, or ahead of the clock, are not.
        """
        now = self._clock.wall()
        self._good_from = min(self._good_from, now) if self._horizon > now else math.inf
        return now

    def _has_expired(self, use: Use) -> bool:
        if self._is_behind_horizon(use.created_at):
            return True
        age = self._clock.wall() - use.created_at
        return age > self.retention + AHEAD and self._clock.steady() >= use.kept_until
