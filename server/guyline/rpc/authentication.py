"""Who calls: from the listener a call came in by, its credential, and the chat it names.

Authentication belongs to a listener: a server has one, and each listener is a server of its own, since a handler
cannot tell the listeners of one server apart.
"""

import json
import re
from typing import Protocol

from guyline.daemon.caller import ALL_RIGHTS, Caller, Right
from guyline.errors import InvalidInput, Violation
from guyline.rpc.metadata import ANCESTOR_CHAT_IDS, CHAT_ID, Metadata

MOST_ANCESTORS = 64

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NIL = "00000000-0000-0000-0000-000000000000"


class Authentication(Protocol):
    """Tells who makes a call."""

    async def authenticate(self, metadata: Metadata, *, request_id: str) -> Caller:
        """The caller.

        Raises:
            NotAuthenticated: If there is no credential, or not one that holds.
            InvalidInput: If the chat it names is malformed.
        """
        ...


class LocalAuthentication:
    """Whoever reaches a local listener is the owner: the Unix socket, or TCP on loopback declared insecure."""

    async def authenticate(self, metadata: Metadata, *, request_id: str) -> Caller:
        """The owner, in the chat they name."""
        return owner(metadata, request_id=request_id)


def owner(metadata: Metadata, *, request_id: str) -> Caller:
    """The owner of the daemon, with all rights, or one of the owner's chats, which may not change the daemon itself.

    Raises:
        InvalidInput: If the chat is malformed.
    """
    chat_id, ancestors = _to_chat(metadata)
    return Caller(
        name="owner",
        rights=ALL_RIGHTS - {Right.ADMINISTER} if chat_id else ALL_RIGHTS,
        trusted=True,
        request_id=request_id,
        chat_id=chat_id,
        ancestor_chat_ids=ancestors,
    )


def _to_chat(metadata: Metadata) -> tuple[str | None, tuple[str, ...]]:
    chat, ancestors = metadata.get(CHAT_ID), metadata.get(ANCESTOR_CHAT_IDS)
    if chat is None and ancestors is None:
        return None, ()
    if chat is None:
        raise _malformed(ANCESTOR_CHAT_IDS, f"came without {CHAT_ID}; give both or none")
    chat_id = _to_chat_id(chat, CHAT_ID)
    return chat_id, () if ancestors is None else _to_ancestors(ancestors)


def _to_ancestors(text: str) -> tuple[str, ...]:
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise _malformed(ANCESTOR_CHAT_IDS, f"{text[:64]!r} is not a JSON array of UUID strings")
    if len(ids) > MOST_ANCESTORS:
        raise _malformed(ANCESTOR_CHAT_IDS, f"{len(ids)} ids; at most {MOST_ANCESTORS} are allowed")
    return tuple(_to_chat_id(each, ANCESTOR_CHAT_IDS) for each in ids)


def _to_chat_id(text: str, key: str) -> str:
    canonical = text.lower()
    if not _UUID.fullmatch(canonical) or canonical == _NIL:
        raise _malformed(key, f"{text[:64]!r} is not a UUID; leave the key out to name no chat")
    return canonical


def _malformed(key: str, description: str) -> InvalidInput:
    return InvalidInput(Violation(f"metadata.{key}", description))
