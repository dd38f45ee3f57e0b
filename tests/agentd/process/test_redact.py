"""Values that a start asks to hide are in no view, whatever becomes of the process and of the agent (§17, 15)."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from guyline.agent.v1.process_pb2 import WHEN_FULL_DROP_OLDEST
from guyline.agent.v1.process_service_pb2 import (
    OUTPUT_STYLE_RAW,
    OUTPUT_WAIT_OUTPUT,
    GetOutputRequest,
    GetOutputResponse,
    PatternCondition,
    ProcessServiceWaitRequest,
    RunRequest,
    StartRequest,
    WaitCondition,
)
from guyline.agentd.journal.note import HEAD_BYTES
from guyline.agentd.process.spec import Origin, StartSpec
from tests.agentd.process.process_parts import (
    MIB,
    changed,
    in_chat,
    new_key,
    refusal,
    run,
    seconds,
    speaker,
    started,
    to_start,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until

TOKEN = "s3cret-value-of-a-token"
HIDDEN: dict[str, Any] = {"env": {"TOKEN": TOKEN}, "redact": ["TOKEN"]}


async def look(agent: RunningAgent, process_id: str, **fields: Any) -> GetOutputResponse:
    """A view of a process."""
    request = GetOutputRequest(process_id=process_id, **fields)
    response: GetOutputResponse = await agent.processes.GetOutput(request, timeout=3 * DEADLINE)
    return response


async def test_a_secret_is_not_shown_to_the_model(shared_agent: RunningAgent) -> None:
    """What runs sees it, and whoever follows the bytes; views show its name (§17, 15)."""
    over = await run(shared_agent, "echo $TOKEN; printf '%s\\n' \"<$TOKEN$TOKEN>\"", **HIDDEN)

    plain = await look(shared_agent, over.process_id)
    raw = await look(shared_agent, over.process_id, style=OUTPUT_STYLE_RAW)

    assert over.data == f"{TOKEN}\n<{TOKEN}{TOKEN}>\n".encode()
    assert plain.view.text == raw.view.text == b"[redacted TOKEN]\n<[redacted TOKEN][redacted TOKEN]>\n"
    assert plain.view.redactions == 3


async def test_a_variable_of_the_agents_own_can_be_hidden() -> None:
    """Commands inherit it, so they can print it."""
    async with RunningAgent(environment={"OWN_TOKEN": TOKEN}) as agent:
        over = await run(agent, "echo $OWN_TOKEN", redact=["OWN_TOKEN"])

        assert (await look(agent, over.process_id)).view.text == b"[redacted OWN_TOKEN]\n"


async def test_a_chats_id_can_be_hidden_like_any_variable(shared_agent: RunningAgent) -> None:
    """What counts is the environment that the process gets in the end."""
    chat = in_chat("33333333-3333-4333-8333-333333333333")
    over = await run(shared_agent, "echo $CODER_CHAT_ID", redact=["CODER_CHAT_ID"], metadata=chat)

    assert (await look(shared_agent, over.process_id)).view.text == b"[redacted CODER_CHAT_ID]\n"


async def test_a_secret_that_is_being_printed_is_held_back(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """A view between its two halves must show neither, nor wake anybody who waits for output."""
    async with speaker(shared_agent, tmp_path, **HIDDEN) as speaking:
        speaking.say(b"here: " + TOKEN[:10].encode())
        first = await look(shared_agent, speaking.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)
        none = await look(
            shared_agent,
            speaking.process_id,
            cursor=first.cursor,
            wait=seconds(0.05),
            wait_for=OUTPUT_WAIT_OUTPUT,
        )
        waiting = asyncio.create_task(
            look(
                shared_agent,
                speaking.process_id,
                cursor=none.cursor,
                wait=seconds(DEADLINE),
                wait_for=OUTPUT_WAIT_OUTPUT,
            )
        )
        speaking.say(TOKEN[10:].encode() + b".\n")
        second = await waiting

    assert (first.view.text, none.view.text) == (b"here: ", b"")
    assert second.view.text.startswith(b"[redacted TOKEN]")


async def test_what_only_began_like_a_secret_is_shown_at_the_end(shared_agent: RunningAgent) -> None:
    """Once nothing more can come it is what it is."""
    over = await run(shared_agent, f"printf {TOKEN[:-1]}", **HIDDEN)

    assert (await look(shared_agent, over.process_id)).view.text == TOKEN[:-1].encode()


async def test_secrets_are_known_after_the_workers_death(agent: RunningAgent, tmp_path: Path) -> None:
    """They lie beside the output."""
    async with speaker(agent, tmp_path, **HIDDEN) as speaking:
        await agent.kill_worker()
        speaking.say(b"<" + TOKEN.encode() + b">\n")
        await agent.serves_again()
        seen = await look(agent, speaking.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)

    assert seen.view.text == b"<[redacted TOKEN]>\n"


async def test_secrets_are_known_after_a_restart_of_the_agent(agent: RunningAgent) -> None:
    """As long as the output is."""
    over = await run(agent, "echo $TOKEN", **HIDDEN)
    await agent.stop()
    await agent.start_again()

    assert (await look(agent, over.process_id)).view.text == b"[redacted TOKEN]\n"


@pytest.mark.parametrize("left", [None, b"", b"\0" * 60, b'{"TOK', b"[]", b"{}", b'{"TOKEN": 1}'])
async def test_without_its_secrets_nothing_is_shown(agent: RunningAgent, left: bytes | None) -> None:
    """A disk may lose them; a view must not tell what they were then. Attach gives bytes, as ever."""
    over = await run(agent, "echo $TOKEN", **HIDDEN)
    kept = secrets_file(agent, over.process_id)
    if left is None:
        kept.unlink()
    else:
        kept.write_bytes(left)

    refused = await refusal(agent.processes.GetOutput(GetOutputRequest(process_id=over.process_id)))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "SECRETS_LOST"
    assert TOKEN not in repr(refused)


async def test_where_no_output_is_left_there_is_nothing_to_hide() -> None:
    """The values went with it, and that is no loss."""
    async with RunningAgent(settings={"journal_bytes": MIB, "journal_quota_bytes": MIB}) as agent:
        over = await run(agent, "echo $TOKEN", **HIDDEN)
        await run(agent, f"head -c {2 * MIB} /dev/zero", when_full=WHEN_FULL_DROP_OLDEST)
        await changed(agent, over.process_id, lambda process: process.kept_from > 0)

        view = (await look(agent, over.process_id)).view

    assert view.omission.lost_bytes == len(over.data)
    assert not view.redactions


async def test_secrets_are_in_one_private_file_that_goes_with_the_output() -> None:
    """Nowhere else: no log, no record, no answer."""
    async with RunningAgent(settings={"ended_retention": 0.1}) as agent:
        async with started(agent, ["sleep", "60"], **HIDDEN) as start:
            kept = secrets_file(agent, start.process_id)
            files = await asyncio.to_thread(lambda: [*agent.process.folder.rglob("*")])
            holders = [path for path in files if path.is_file() and holds_token(path)]

        assert holders == [kept]
        await until(lambda: not kept.exists())


def holds_token(path: Path) -> bool:
    """In the clear or in base64."""
    data = path.read_bytes()
    return TOKEN.encode() in data or b"czNjcmV0LXZhbHVlLW9mLWEtdG9rZW4" in data


def secrets_file(agent: RunningAgent, process_id: str) -> Path:
    """Where a process's secrets are."""
    return agent.process.state_dir / "journals" / f"{process_id}.secrets"


async def test_the_file_is_its_owners_alone(agent: RunningAgent) -> None:
    """As the output is."""
    async with started(agent, ["sleep", "60"], **HIDDEN) as start:
        status = secrets_file(agent, start.process_id).stat()

    assert status.st_mode & 0o777 == 0o600
    assert status.st_uid == os.getuid()


async def test_a_start_that_fails_leaves_no_secrets(agent: RunningAgent) -> None:
    """Nobody would come to remove them."""
    refused = await refusal(agent.processes.Start(StartRequest(argv=["/dev/null"], **HIDDEN)))

    assert refused.reason == "COMMAND_NOT_RUNNABLE"
    assert not list((agent.process.state_dir / "journals").glob("*.secrets"))


# What is wrong with a start.


async def test_every_variable_that_cannot_be_hidden_is_named(shared_agent: RunningAgent) -> None:
    """One that is not set was meant to be, and one that is too short would be found everywhere."""
    start = to_start("true", env={"SHORT": "abc", "LONG": "abcd"}, redact=["LONG", "SHORT", "NOT_SET"])

    by_start = await refusal(shared_agent.processes.Start(start))
    by_run = await refusal(shared_agent.processes.Run(RunRequest(start=start)))

    assert by_start.code is by_run.code is grpc.StatusCode.INVALID_ARGUMENT
    assert by_start.reason == "INVALID_INPUT"
    assert by_start.fields == ["redact[1]", "redact[2]"]
    assert by_run.fields == ["start.redact[1]", "start.redact[2]"]
    assert "abc" not in by_start.message


async def test_no_more_than_sixty_four_can_be_hidden(shared_agent: RunningAgent) -> None:
    """Each is looked for in everything that is shown."""
    env = {f"V{number}": f"value {number}" for number in range(65)}

    refused = await refusal(shared_agent.processes.Start(to_start("true", env=env, redact=list(env))))
    over = await run(shared_agent, "echo $V63", env=env, redact=list(env)[:64])

    assert refused.fields == ["redact"]
    assert (await look(shared_agent, over.process_id)).view.text == b"[redacted V63]\n"


async def test_another_redaction_is_another_start(shared_agent: RunningAgent) -> None:
    """Whoever repeats a start and hides more must not get what the first one shows."""
    key = new_key()
    over = await run(shared_agent, "echo $TOKEN", env={"TOKEN": TOKEN}, key=key)

    refused = await refusal(shared_agent.processes.Start(to_start("echo $TOKEN", key=key, **HIDDEN)))

    assert over.data
    assert refused.reason == "KEY_CONFLICT"


def test_without_redaction_a_fingerprint_is_what_it_was_before_there_was_any() -> None:
    """Keys are remembered over an upgrade."""
    assert StartSpec(command="true", kept_bytes=1).fingerprint("salt") == "c329ca20f8402b4715497c5cef17f2da"


def test_an_origin_of_older_code_hides_nothing() -> None:
    """Its processes go on after an upgrade."""
    old = (
        '{"process_id":"x","sequence":1,"command":"true","argv":["sh"],"directory":"/","chat_id":null,'
        '"background":false,"separate":false,"pause":false,"kept_bytes":1,"created_at":1.0,"boot_id":"b"}'
    )

    assert Origin.from_json(old).redact == ()
    assert Origin.from_json(Origin.from_json(old).to_json()) == Origin.from_json(old)


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        (TOKEN, b"[redacted TOKEN]"),
        ("key=.*;", b"key=[redacted TOKEN];"),
        ("y=s3cr", b"y=[redacted TOKEN]"),
        ("of-a-token; e", b"[redacted TOKEN]; e"),
        ("value", b"[redacted TOKEN]"),
        ("end$", b"end"),
    ],
)
async def test_a_match_shows_nothing_of_a_secret(shared_agent: RunningAgent, pattern: str, shown: bytes) -> None:
    """Nor a part of one, for which a pattern could ask piece by piece."""
    over = await run(shared_agent, 'echo "key=$TOKEN; end"', **HIDDEN)
    condition = WaitCondition(pattern=PatternCondition(pattern=pattern))
    request = ProcessServiceWaitRequest(process_id=over.process_id, conditions=[condition])
    answer = await shared_agent.processes.Wait(request)

    assert answer.match.data == shown


RED = "\x1b[31m"
COLORED = f"{TOKEN[:8]}{RED}{TOKEN[8:]}"
"""The value as `grep --color` prints it."""


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("key=.*end", b"key=[redacted TOKEN]; end"),
        (re.escape(TOKEN[2:8] + RED + TOKEN[8:12]), b"[redacted TOKEN]"),
        (f"y={TOKEN[:3]}", b"y=[redacted TOKEN]"),
        (f"{TOKEN[9:]}; e", b"[redacted TOKEN]; e"),
        (re.escape(RED), b"[redacted TOKEN]"),
    ],
)
async def test_a_secret_is_hidden_though_a_code_lies_in_it(
    shared_agent: RunningAgent, pattern: str, shown: bytes
) -> None:
    """Where the code is kept, as in a RAW view and in a match, a terminal would show the value."""
    over = await run(shared_agent, f"printf %s 'key={COLORED}; end'", **HIDDEN)

    raw = await look(shared_agent, over.process_id, style=OUTPUT_STYLE_RAW)
    match = await found(shared_agent, over.process_id, pattern, 0)

    assert TOKEN not in over.data.decode()
    assert raw.view.text == b"key=[redacted TOKEN]; end"
    assert match == shown


async def test_a_match_ends_before_what_may_become_a_secret(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Its rest would be told by the next one."""
    async with speaker(shared_agent, tmp_path, **HIDDEN) as speaking:
        speaking.say(b"key=" + COLORED[:-3].encode())
        match = await found(shared_agent, speaking.process_id, "key=.*of", 0)

    assert match == b"key="


async def test_a_spinner_does_not_hold_back_what_it_is_drawn_over(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Its line ends as a secret begins, for as long as the process runs."""
    async with speaker(shared_agent, tmp_path, **HIDDEN) as speaking:
        speaking.say(b"  Downloading sources\r|\r/")
        match = await found(shared_agent, speaking.process_id, "Down.*s.*/", 0)
        raw = await look(shared_agent, speaking.process_id, style=OUTPUT_STYLE_RAW)

    assert match == b"Downloading sources\r|\r/"
    assert raw.view.text == b"  Downloading sources\r|\r/"


async def found(agent: RunningAgent, process_id: str, pattern: str, from_offset: int) -> bytes:
    """What Wait shows of the first match."""
    condition = WaitCondition(pattern=PatternCondition(pattern=pattern, from_offset=from_offset))
    request = ProcessServiceWaitRequest(process_id=process_id, conditions=[condition], timeout=seconds(DEADLINE))
    response = await agent.processes.Wait(request)
    assert response.HasField("match")
    return bytes(response.match.data)


async def test_a_match_beside_lost_output_shows_no_part_of_a_secret(shared_agent: RunningAgent) -> None:
    """Room is made in the middle of a secret: its beginning, its end, and the whole ones beside stay hidden."""
    key = "".join(f"{number:03d}." for number in range(1000))
    one = f"{key}\n"
    loop = 'i=0; while [ $i -lt 800 ]; do printf "%s\\n" "$KEY"; i=$((i + 1)); done'
    over = await run(
        shared_agent, loop, env={"KEY": key}, redact=["KEY"], kept_bytes=MIB, when_full=WHEN_FULL_DROP_OLDEST
    )
    kept_from = (await look(shared_agent, over.process_id)).process.kept_from
    assert HEAD_BYTES % len(one) > 100, "the head ends within a secret"
    assert kept_from > HEAD_BYTES
    next_whole = (kept_from // len(one) + 1) * len(one)

    places = (HEAD_BYTES - 80, kept_from, next_whole + 20)
    shown = [await found(shared_agent, over.process_id, r"(?:\d\d\d\.){15}", place) for place in places]
    views = [await look(shared_agent, over.process_id, from_offset=place) for place in places]

    assert shown == [b"", b"[redacted KEY]", b"[redacted KEY]"]
    assert not any(re.search(rb"\d\d\d\.\d\d\d", view.view.text) for view in views)
