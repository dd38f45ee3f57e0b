"""Looking up users, whatever the name service does."""

import grp
import os
import pwd
import threading
from collections.abc import Iterator

import pytest

from guyline.agentd.process.errors import UserLookupTimedOut
from guyline.agentd.process.starting.users import Users
from guyline.agentd.system.accounts import find_account, find_group
from tests.support.clock import MS


@pytest.fixture
def hanging_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name service that answers nobody until the test is over."""
    over = threading.Event()

    def hang(_name: str) -> pwd.struct_passwd:
        over.wait()
        raise KeyError

    monkeypatch.setattr(pwd, "getpwnam", hang)
    yield
    over.set()


@pytest.mark.usefixtures("hanging_service")
async def test_a_name_service_that_does_not_answer_is_told_and_stops_nobody() -> None:
    """More starts than there are threads, each with its own answer in time."""
    with Users(timeout=50 * MS) as users:
        for _ in range(6):
            with pytest.raises(UserLookupTimedOut, match="name service"):
                await users.find("daemon", "")

        assert (await users.find("", "")).uid is None


def test_groups_are_those_of_the_system() -> None:
    """The function is called past Python's own, which would hold all threads up while it waits."""
    for each in pwd.getpwall():
        account = find_account(each.pw_name)
        assert account
        assert sorted(account.groups(account.gid)) == sorted(os.getgrouplist(each.pw_name, each.pw_gid))


def test_a_number_is_found_by_its_account_if_it_has_one() -> None:
    """And a name that looks like a number is first of all a name."""
    root, stranger = find_account("0"), find_account("54321")

    assert root
    assert (root.name, root.home) == (pwd.getpwuid(0).pw_name, pwd.getpwuid(0).pw_dir)
    assert stranger == (54321, 54321, "", "/", "")
    assert stranger.groups(54321) == ()


@pytest.mark.parametrize("text", ["", " 1", "+1", "-1", "1_0", "٣", "0x1", "4294967295", "99999999999"])
def test_what_is_no_plain_number_is_nobody(text: str) -> None:
    """Python reads far more as a number, and -1 means "leave it as it is" to the kernel."""
    assert find_account(text) is None
    assert find_group(text) is None


def test_groups_are_found_by_name_and_number() -> None:
    """Also by a number that no group has."""
    some = grp.getgrall()[-1]

    assert find_group(some.gr_name) == find_group(str(some.gr_gid)) == some.gr_gid
    assert find_group("54321") == 54321
