"""Who calls, as the domains see it: they decide by it what exists for whom, and know nothing of metadata."""

import enum
from dataclasses import dataclass


class Right(enum.IntEnum):
    """What a caller may do, numbered as ``guyline.access.v1.Right`` (a test compares). None includes another."""

    READ = 1
    EXEC = 2
    WRITE = 3
    ADMINISTER = 4


ALL_RIGHTS = frozenset(Right)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who makes a call, in whose chat, and what they may do."""

    name: str
    """For logs and idempotency keys: ``owner`` on a local listener, else who the credential says."""

    rights: frozenset[Right]

    trusted: bool
    """Whether a caller without a chat sees everything: the local socket, the holder of the token."""

    request_id: str
    """Names this one call in logs."""

    chat_id: str | None = None
    """A UUID in its canonical form. None: no chat."""

    ancestor_chat_ids: tuple[str, ...] = ()
    """The chats that this one descends from, the nearest first; only with a ``chat_id``."""

    def sees(self, chat_id: str | None) -> bool:
        """Whether what belongs to this chat (None: to none) exists for the caller."""
        if self.chat_id is None:
            return self.trusted
        return self.chat_id == chat_id
