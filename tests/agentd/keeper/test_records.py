"""The record log: whatever happens to the file, what is intact in it is read, and nothing else is believed."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agentd.keeper.records import VERSION, History, NewerLog, RecordLog, read_lines, to_line
from guyline.agentd.keeper.table import Asked, Entry, Exit
from tests.agentd.keeper.lives import listed, run
from tests.support import proc
from tests.support.agent import AgentProcess, RunningAgent

EXIT = Exit(ended_at=5.5, code=3, left_in=("group",), asked=Asked(15, "caller", 4.5))

NAMES = st.sampled_from(["a", "b", "c"])
RECORDS = st.one_of(
    st.tuples(st.just("start"), NAMES, st.text(max_size=5)),
    st.tuples(st.just("spawned"), NAMES, st.integers(1, 99), st.integers(1, 99), st.floats(0, 9)),
    st.tuples(st.just("failed"), NAMES, st.integers(1, 30)),
    st.tuples(st.just("note"), NAMES, st.text(max_size=5)),
    st.tuples(st.just("exit"), NAMES, st.integers(0, 255).map(lambda code: Exit(ended_at=1.0, code=code))),
    st.tuples(st.just("forget"), NAMES),
    st.tuples(st.just("unheard of"), NAMES),
)


def entry(process_id: str = "a") -> Entry:
    """One that uses every field."""
    made = Entry(process_id, "info")
    made.note, made.pid, made.start_ticks, made.started_at = "note", 10, 20, 1.5
    made.exit, made.asked, made.released = EXIT, EXIT.asked, True
    return made


def said(one: Entry) -> list[object]:
    """All that the log tells of an entry, to be compared."""
    return json.loads(json.dumps(one.to_json()))  # type: ignore[no-any-return]  # what JSON gives back is what went in


def read(path: Path) -> History:
    return RecordLog.load(path)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RecordLog]:
    """An empty log."""
    made = RecordLog(tmp_path / "records.log", store_id="store")
    yield made
    made.close()


def test_what_was_appended_is_read(log: RecordLog) -> None:
    """The plainest promise."""
    log.append("start", "a", "info")
    log.append("spawned", "a", 10, 20, 1.5)
    log.append("note", "a", "note")
    log.append("exit", "a", EXIT)
    history = read(log.path)

    assert history.store_id == "store"
    assert history.entries["a"].exit == EXIT
    assert (history.entries["a"].pid, history.entries["a"].note) == (10, "note")


def test_of_several_exits_the_first_counts(log: RecordLog) -> None:
    """The first was seen; a later one is a successor's guess."""
    log.append("start", "a", "info")
    log.append("exit", "a", EXIT)
    log.append("exit", "a", Exit(ended_at=9.0, unknown="AGENT_LOST"))

    assert read(log.path).entries["a"].exit == EXIT


def test_ends_are_numbered_and_the_numbers_never_come_again(log: RecordLog) -> None:
    """Also when all that had them is forgotten: who has heard of the third end must not take a later one for it."""
    log.append("start", "a", "info")
    numbers = [log.append_exit("a", EXIT).order for _ in range(3)]
    log.append("forget", "a")
    appended = read(log.path).ends
    log.rewrite([])
    rewritten = read(log.path).ends
    again = RecordLog(log.path, store_id="store", ends=rewritten)
    last = again.append_exit("b", EXIT)
    again.close()

    assert numbers == [1, 2, 3]
    assert appended == rewritten == 3
    assert last.order == 4
    assert read(log.path).ends == 4


def test_an_end_of_a_time_in_which_they_were_not_numbered_has_number_zero(log: RecordLog) -> None:
    """A log of an earlier release is read by this one."""
    log.append("start", "a", "info")
    log.append("exit", "a", EXIT[:11])

    assert read(log.path).entries["a"].exit == EXIT
    assert read(log.path).ends == 0


def test_a_log_that_is_opened_again_goes_on(log: RecordLog) -> None:
    """Also behind a line that was torn: the next record must not be glued to it."""
    log.append("start", "a", "info")
    with log.path.open("ab") as file:
        file.write(to_line("exit", "a", EXIT)[:-5])
    again = RecordLog(log.path, store_id="store")
    again.append("start", "b", "info")
    again.close()

    assert list(read(log.path).entries) == ["a", "b"]
    assert read(log.path).entries["a"].exit is None


WHOLE = [("store", "store"), ("start", "a", "x"), ("note", "a", "größer"), ("exit", "a", EXIT), ("start", "b", "\n")]


@settings(deadline=None)
@given(st.data())
def test_a_log_that_is_cut_anywhere_loses_only_what_was_cut(data: st.DataObject) -> None:
    """A machine that stops in the middle of a write leaves a torn line."""
    lines = [to_line(*record) for record in WHOLE]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(b"".join(lines[:count])) - 1 for count in range(1, len(lines) + 1)]  # without the newline

    assert len(list(read_lines(whole[:cut]))) == sum(end <= cut for end in ends)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(WHOLE)))
def test_garbage_between_records_costs_no_record(garbage: bytes, place: int) -> None:
    """A bad block in the middle must not hide what came after it."""
    lines = [to_line(*record) for record in WHOLE]
    damaged = b"".join([*lines[:place], garbage, b"\n", *lines[place:]])

    assert list(read_lines(damaged)) == list(read_lines(b"".join(lines)))


@settings(deadline=None)
@given(st.data())
def test_a_record_with_a_flipped_bit_is_not_believed(data: st.DataObject) -> None:
    """The checksum is there for this: a wrong exit code would be worse than none."""
    line = bytearray(to_line("exit", "a", EXIT))
    place = data.draw(st.integers(0, len(line) - 2))
    line[place] ^= 1 << data.draw(st.integers(0, 7))

    assert list(read_lines(bytes(line))) == []


def test_an_empty_record_is_none() -> None:
    """The checksum of nothing is zero, which a line may well begin with."""
    assert list(read_lines(b"00000000 \n")) == []


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=40))
def test_a_history_is_what_a_plain_reading_of_its_records_gives(given_records: list[tuple[object, ...]]) -> None:
    """Whatever order a dying keeper and its successors wrote them in."""
    expected: dict[str, dict[str, object]] = {}
    for kind, name, *fields in given_records:
        assert isinstance(name, str)
        known = expected.get(name)
        match kind:
            case "start":
                expected[name] = {"info": fields[0]}
            case "forget":
                expected.pop(name, None)
            case "spawned" if known is not None:
                known |= {"pid": fields[0], "ticks": fields[1], "at": fields[2]}
            case "failed" | "note" if known is not None:
                known[str(kind)] = fields[0]
            case "exit" if known is not None:
                known.setdefault("exit", fields[0])

    history = History(read_lines(b"".join(to_line(*record) for record in given_records)))
    assert history.entries.keys() == expected.keys()
    for name, known in expected.items():
        one = history.entries[name]
        assert (one.info, one.note, one.errno) == (known["info"], known.get("note", ""), known.get("failed"))
        assert (one.pid, one.start_ticks) == (known.get("pid"), known.get("ticks", 0))
        assert one.exit == known.get("exit")


# Rewriting.


def test_a_rewritten_log_holds_exactly_the_table(log: RecordLog) -> None:
    """Forgotten processes must not come back, and no field of the others be lost."""
    log.append("start", "gone", "info")
    running = Entry("b", "info")
    log.rewrite([entry(), running])
    history = read(log.path)

    assert [said(one) for one in history.entries.values()] == [said(entry()), said(running)]
    assert history.store_id == "store"
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_descriptors_of_a_table_are_not_kept_on_disk(log: RecordLog) -> None:
    """Their numbers are this process's; another would close somebody else's file."""
    holding = entry()
    holding.kept = {"stdout": 99}
    log.rewrite([holding])

    assert read(log.path).entries["a"].kept == {}


def test_after_a_rewrite_the_log_goes_on_in_the_new_file(log: RecordLog) -> None:
    """A keeper that went on writing into the old one would lose every exit from here on."""
    log.rewrite([Entry("a", "info")])
    log.append("exit", "a", EXIT)

    assert read(log.path).entries["a"].exit == EXIT


def test_a_log_wants_a_rewrite_once_it_has_grown(log: RecordLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not again before it has doubled: each costs as much as the table is large."""
    monkeypatch.setattr(RecordLog, "COMPACT_AT_BYTES", 1000)
    wants = [log.wants_rewrite]
    for _ in range(100):
        log.append("note", "a", "some note")
    wants.append(log.wants_rewrite)
    log.rewrite([Entry("a", "info")])
    wants.append(log.wants_rewrite)

    assert wants == [False, True, False]


# Failing disks.


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; skips the test where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(place)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: that takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room there is."""
    filler = place / "filler"
    room = os.statvfs(place)
    filler.write_bytes(b"x" * room.f_bavail * room.f_frsize)
    return filler


def test_what_a_full_disk_kept_from_the_log_a_later_rewrite_brings(full_disk: Path) -> None:
    """Commands start and end meanwhile; once there is room, the log says all that it had missed."""
    log = RecordLog(full_disk / "records.log", store_id="store")
    log.append("start", "a", "x" * 4000)  # the last of a page
    filler = fill(full_disk)
    for number in range(10):
        log.append("start", f"b{number}", "x" * 500)
    behind = [(log.behind, log.wants_rewrite)]
    table = [Entry("a", "info"), entry("b0")]
    log.rewrite(table)
    behind.append((log.behind, log.wants_rewrite))
    assert "a" in read(log.path).entries, "the old log stays until there is a new one"
    filler.unlink()
    log.rewrite(table)
    behind.append((log.behind, log.wants_rewrite))
    log.append("exit", "a", EXIT)
    log.close()

    assert behind == [(True, True), (True, True), (False, False)]
    assert [*read(log.path).entries] == ["a", "b0"]
    assert read(log.path).entries["a"].exit == EXIT


def test_a_rewritten_log_is_written_on_also_if_nothing_more_can_be_opened(
    log: RecordLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next records would go to a number that is closed, or another file's by then."""
    open_ = os.open

    def refuse_the_log(path: Path, *args: int) -> int:
        if path == log.path:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return open_(path, *args)

    monkeypatch.setattr(os, "open", refuse_the_log)
    log.rewrite([entry("a")])
    log.append("start", "b", "info")
    monkeypatch.undo()

    assert [*read(log.path).entries] == ["a", "b"]
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_commands_start_and_end_while_the_records_cannot_be_written(full_disk: Path) -> None:
    """A full disk stops no work: what happened is in the keeper's memory."""
    async with RunningAgent(settings={"state_dir": full_disk / "state"}) as agent:
        filler = fill(full_disk)
        reader = await run(agent, "sh", "-c", "exit 9")
        await agent.kill_worker()
        await agent.serves_again()
        (process,) = (await listed(agent)).values()
        filler.unlink()

        assert reader.exit is not None
        assert (reader.exit.code, process.exit.code) == (9, 9)


# A newer log.


def test_a_newer_record_is_refused() -> None:
    """It would be misread, and then overwritten."""
    newer = to_line("start", "a", "info").replace(b"[%d," % VERSION, b"[%d," % (VERSION + 1))
    body = newer.partition(b" ")[2].rstrip(b"\n")
    line = b"%08x %s\n" % (crc32(body), body)

    with pytest.raises(NewerLog, match=f"version {VERSION + 1}"):
        list(read_lines(line))


def test_an_agent_refuses_the_state_of_a_newer_one_and_says_why() -> None:
    """Going back to an older release must not destroy what the newer one knew."""
    agent = AgentProcess()
    agent.state_dir.mkdir(mode=0o700)
    body = b'[%d,"store","of the future"]' % (VERSION + 1)
    log = agent.state_dir / "records.log"
    log.write_bytes(b"%08x %s\n" % (crc32(body), body))
    before = log.read_bytes()
    agent.start()
    proc.wait_until_dead(agent.keeper_pid)
    agent.kill()

    assert f"version {VERSION + 1}" in agent.log()
    assert log.read_bytes() == before
    shutil.rmtree(agent.folder)


async def test_a_damaged_log_costs_the_agent_only_what_was_damaged(agent: RunningAgent) -> None:
    """And never its start."""
    await run(agent, "true")
    store = (await agent.info.GetInfo(GetInfoRequest())).store_id
    await agent.stop()
    with (agent.process.state_dir / "records.log").open("ab") as file:
        file.write(os.urandom(3000))
    await agent.start_again()

    assert (await agent.info.GetInfo(GetInfoRequest())).store_id == store
    assert len(await listed(agent)) == 1
