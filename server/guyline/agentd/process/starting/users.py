"""Finding the user and the group that a start names, without ever hanging on a name service."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from guyline.agentd.process.errors import UserLookupTimedOut, UserUnknown
from guyline.agentd.process.threads import OwnThreads
from guyline.agentd.system.accounts import Account, find_account, find_group

_THREADS = 4
"""So many look-ups may hang at once; the next ones then wait, and time out."""
_DEFAULT_SHELL = "/bin/sh"


@dataclass(frozen=True)
class Identity:
    """As whom a process runs. None: as the agent."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_another(self) -> bool:
        """Whether files may be open to it that are closed to the agent, or the other way round."""
        return self.uid is not None or self.gid is not None


class Users(OwnThreads):
    """Looks users and groups up in threads with a deadline; ``close`` ends it.

    A thread that hangs is left behind when the deadline passes.
    """

    def __init__(self, *, timeout: float) -> None:
        super().__init__("users", threads=_THREADS)
        self._timeout = timeout  # seconds

    async def find(self, user: str, group: str) -> Identity:
        """Finds both by name or number; empty: the agent's own.

        Raises:
            UserUnknown: There is no such user, or no such group.
            UserLookupTimedOut: The name service did not answer.
            SystemExhausted: There is no thread to ask it in.
        """
        if not user and not group:
            return Identity()
        search = self._ask(_find, user, group)
        try:
            async with asyncio.timeout(self._timeout):
                return await search
        except TimeoutError as why:
            raise UserLookupTimedOut(user, group, self._timeout) from why


def _find(user: str, group: str) -> Identity:
    account = find_account(user) if user else None
    if user and account is None:
        raise UserUnknown("user", user)
    gid = find_group(group) if group else None
    if group and gid is None:
        raise UserUnknown("group", group)
    if account is None or account.uid == os.geteuid():  # then nothing but the group is to be changed
        return Identity(gid=gid, env=_environment_of(account) if account else {})
    gid = account.gid if gid is None else gid
    return Identity(account.uid, gid, account.groups(gid), _environment_of(account))


def _environment_of(account: Account) -> dict[str, str]:
    name = account.name or str(account.uid)
    return {"HOME": account.home, "USER": name, "LOGNAME": name, "SHELL": account.shell or _DEFAULT_SHELL}
