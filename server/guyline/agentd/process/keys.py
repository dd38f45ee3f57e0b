"""Idempotency keys: which start a key was used for, and what came of it."""

import asyncio
from dataclasses import dataclass

from guyline.agentd.process.errors import KeyConflict, KeyExpired
from guyline.agentd.process.process import Process
from guyline.agentd.process.spec import Key
from guyline.errors import GuylineError

AHEAD = 3600.0
"""Seconds by which a caller's clock may be ahead of the agent's. Keys are remembered for as much longer."""

Scope = tuple[str, str]
"""Chat (or nothing) and key: two chats' keys never meet."""

Outcome = Process | GuylineError


@dataclass
class Use:
    """One start under a key: under way, done, or failed."""

    fingerprint: str
    process_id: str
    created_at: float  # the key's, seconds since the epoch
    outcome: "asyncio.Future[Process] | Outcome"


class Keys:
    """The keys that were used, for as long as they are remembered."""

    def __init__(self, *, retention: float) -> None:
        self.retention = retention  # seconds
        self._uses: dict[Scope, Use] = {}

    def find(self, chat_id: str | None, key: Key, fingerprint: str, *, now: float) -> Use | None:
        """The start that the key was used for.

        Raises:
            KeyConflict: It was another start.
            KeyExpired: The key is of an age of which nobody can say whether it was used.
        """
        use = self._uses.get((chat_id or "", key.value))
        if use is None:
            age = now - key.created_at
            if not -AHEAD <= age <= self.retention:
                raise KeyExpired(key.value, age, self.retention)
            return None
        if use.fingerprint != fingerprint:
            raise KeyConflict(key.value)
        return use

    def put(self, chat_id: str | None, key: str, use: Use) -> None:
        self._uses[chat_id or "", key] = use

    def remove(self, chat_id: str | None, key: str) -> None:
        self._uses.pop((chat_id or "", key), None)

    def expire_failures(self, *, now: float) -> list[str]:
        """Forgets the failed starts whose keys have expired; returns their ids. (Processes have their own time.)"""
        expired = {
            scope: use
            for scope, use in self._uses.items()
            if not isinstance(use.outcome, Process) and self.is_expired(use.created_at, now=now)
        }
        for scope in expired:
            del self._uses[scope]
        return [use.process_id for use in expired.values()]

    def is_expired(self, created_at: float, *, now: float) -> bool:
        """Whether a key of this age would be refused anyway, so that it need not be remembered."""
        return now > created_at + self.retention + AHEAD
