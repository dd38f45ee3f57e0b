"""Who calls: what each listener believes, and what it does not."""

import asyncio
import json
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.daemon.caller import Caller, Right
from guyline.errors import InvalidInput, NotAuthenticated
from guyline.rpc.authentication import LocalAuthentication
from guyline.rpc.caller import Context, caller_of
from guyline.rpc.metadata import Metadata
from guyline.rpc.token import TokenAuthentication, TokenFile, TokenFileNotUsable
from tests.rpc.serving import Log, Puppet, details, serving

CHAT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "00000000-0000-4000-8000-000000000001"
TOKEN = "0123456789abcdef0123456789abcdef"


class Seen(Puppet):
    """Remembers who called."""

    def __init__(self) -> None:
        super().__init__(handle=self._remember)
        self.callers: list[Caller] = []

    async def _remember(self, context: Context) -> None:
        self.callers.append(caller_of(context))


async def test_on_a_local_listener_everybody_is_the_owner_and_sees_all() -> None:
    """The socket's directory has already kept others out."""
    seen = Seen()
    async with serving(seen) as served:
        await served.processes.List(pb.ProcessServiceListRequest())

    [caller] = seen.callers
    assert (caller.name, caller.rights, caller.chat_id) == ("owner", frozenset(Right), None)
    assert caller.sees(None)
    assert caller.sees(CHAT)


async def test_a_chat_caller_sees_its_own_chat_only(log: Log) -> None:
    """One chat's agent must not read what another's has printed."""
    seen = Seen()
    async with serving(seen) as served:
        metadata = (("coder-chat-id", CHAT.upper()), ("coder-ancestor-chat-ids", json.dumps([OTHER])))
        await served.processes.List(pb.ProcessServiceListRequest(), metadata=metadata)
        line = await log.find("call ended")

    [caller] = seen.callers
    assert (caller.chat_id, caller.ancestor_chat_ids) == (CHAT, (OTHER,))
    assert [caller.sees(CHAT), caller.sees(OTHER), caller.sees(None)] == [True, False, False]
    assert (line["chat_id"], line["caller"]) == (CHAT, "owner")


@pytest.mark.parametrize(
    "metadata",
    [
        {"coder-chat-id": "nonsense"},
        {"coder-chat-id": ""},
        {"coder-chat-id": "00000000-0000-0000-0000-000000000000"},
        {"coder-chat-id": CHAT.replace("-", "")},
        {"coder-ancestor-chat-ids": json.dumps([OTHER])},
        {"coder-chat-id": CHAT, "coder-ancestor-chat-ids": "{}"},
        {"coder-chat-id": CHAT, "coder-ancestor-chat-ids": "[1]"},
        {"coder-chat-id": CHAT, "coder-ancestor-chat-ids": '["x"]'},
        {"coder-chat-id": CHAT, "coder-ancestor-chat-ids": "[" * 4000},
        {"coder-chat-id": CHAT, "coder-ancestor-chat-ids": json.dumps([OTHER] * 65)},
    ],
)
async def test_a_malformed_chat_is_refused_and_never_taken_for_none(metadata: dict[str, str]) -> None:
    """Taking it for none would show a chat everything."""
    seen = Seen()
    async with serving(seen) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest(), metadata=tuple(metadata.items()))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "metadata.coder-" in str(caught.value.details())
    assert seen.callers == []


async def test_two_chats_in_one_call_are_none() -> None:
    """Whichever of the two were believed, somebody could have slipped it in."""
    metadata = Metadata([("coder-chat-id", CHAT), ("coder-chat-id", OTHER)])

    with pytest.raises(InvalidInput, match="more than once"):
        await LocalAuthentication().authenticate(metadata, request_id="r")


async def test_a_well_formed_request_id_is_kept_and_another_replaced(log: Log) -> None:
    """It joins the caller's log with ours; a malformed one could forge lines."""
    seen = Seen()
    async with serving(seen) as served:
        for given in ("my-id/1", 'bad"id with spaces'):
            call = served.processes.List(pb.ProcessServiceListRequest(), metadata=(("x-request-id", given),))
            await call
        line = await log.find("call ended", request_id="my-id/1")

    assert line["rpc"] == "guyline.agent.v1.ProcessService/List"
    assert seen.callers[0].request_id == "my-id/1"
    assert len(seen.callers[1].request_id) == 16


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    write_token(path, TOKEN)
    return path


def write_token(path: Path, token: str, mode: int = 0o600) -> None:
    path.write_text(f"{token}\n")
    path.chmod(mode)


async def test_the_holder_of_the_token_is_the_owner(token_file: Path, log: Log) -> None:
    """On TCP the token stands for what the directory's mode is on the socket; and no log ever shows it."""
    seen = Seen()
    async with serving(seen, authentication=TokenAuthentication(TokenFile(token_file))) as served:
        await served.processes.List(pb.ProcessServiceListRequest(), metadata=(("authorization", f"Bearer {TOKEN}"),))
        await log.find("call ended")

    assert seen.callers[0].sees(CHAT)
    assert TOKEN not in log.text()


@pytest.mark.parametrize("authorization", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN])
async def test_nobody_else_is_let_in_nor_told_why(token_file: Path, log: Log, authorization: str | None) -> None:
    """An answer that says how close one came is half a token."""
    metadata = () if authorization is None else (("authorization", authorization),)
    async with serving(Seen(), authentication=TokenAuthentication(TokenFile(token_file))) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest(), metadata=metadata)
        assert await log.find("call ended", code="UNAUTHENTICATED")

    assert details(caught.value)[1].reason == "NOT_AUTHENTICATED"
    assert TOKEN not in str(caught.value)


def test_a_replaced_token_counts_at_once_and_the_old_one_no_more(token_file: Path) -> None:
    """Tokens are rotated without a restart."""
    file = TokenFile(token_file)
    fresh = token_file.with_name("fresh")
    write_token(fresh, TOKEN[::-1])
    fresh.replace(token_file)

    assert file.token() == TOKEN[::-1].encode()


async def test_a_token_file_that_became_unusable_lets_nobody_in(token_file: Path, log: Log) -> None:
    """Failing open would be the worst answer to a wrong chmod."""
    authentication = TokenAuthentication(TokenFile(token_file))
    await asyncio.to_thread(token_file.chmod, 0o644)

    with pytest.raises(NotAuthenticated):
        await authentication.authenticate(Metadata([("authorization", f"Bearer {TOKEN}")]), request_id="r")

    assert "chmod 600" in (await log.find("token file not usable; nobody is let in"))["problem"]


@pytest.mark.parametrize(
    ("token", "mode", "complaint"),
    [(TOKEN, 0o640, "chmod 600"), ("", 0o600, "must hold one word"), (f"{TOKEN} {TOKEN}", 0o600, "must hold one word")],
)
def test_a_token_file_that_others_read_or_that_holds_none_is_refused(
    tmp_path: Path, token: str, mode: int, complaint: str
) -> None:
    """The start of the daemon is the moment to say so."""
    write_token(tmp_path / "token", token, mode)

    with pytest.raises(TokenFileNotUsable, match=complaint):
        TokenFile(tmp_path / "token")
