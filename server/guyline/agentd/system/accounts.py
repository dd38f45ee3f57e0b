"""Users and groups, as the system's name service knows them. It may ask the network, and hang."""

import ctypes
import grp
import pwd
from typing import NamedTuple

_LARGEST_ID = (1 << 32) - 2  # beyond it lies "leave it as it is"
_MOST_GROUPS = 65536  # NGROUPS_MAX of linux/limits.h

_libc = ctypes.CDLL(None)  # lets other threads go on while it is called, which os.getgrouplist does not


class Account(NamedTuple):
    """A user. One that has a number alone has no name and no groups."""

    uid: int
    gid: int
    name: str = ""
    home: str = "/"
    shell: str = ""

    def groups(self, gid: int) -> tuple[int, ...]:
        """The supplementary groups, if its own were ``gid``, which is one of them."""
        if not self.name:
            return ()
        numbers, count = (ctypes.c_uint32 * _MOST_GROUPS)(), ctypes.c_int(_MOST_GROUPS)
        _libc.getgrouplist(self.name.encode(), ctypes.c_uint32(gid), numbers, ctypes.byref(count))
        return tuple(numbers[: count.value])


def find_account(user: str) -> Account | None:
    """By name or number; None: there is no such name. Of a number that nobody has the group is the same number."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        if (uid := _to_id(user)) is None:
            return None
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            return Account(uid, uid)
    return Account(found.pw_uid, found.pw_gid, found.pw_name, found.pw_dir, found.pw_shell)


def find_group(group: str) -> int | None:
    """The number of a group, by name or number; None: there is no such name."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return _to_id(group)


def _to_id(text: str) -> int | None:
    """Plain digits only: Python reads far more as a number."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST_ID
    return int(text) if is_number else None
