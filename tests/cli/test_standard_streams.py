"""Standard input, output and error as scripts and services give them: devices, closed ones, ones that are full."""

import asyncio
import json
import os
import re
import select
import signal
from pathlib import Path

import pytest

from tests.cli.command import GUYLINE, Command
from tests.support.clock import DEADLINE, until

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@pytest.mark.parametrize(
    ("option", "device", "read"),
    [
        ("-i", "/dev/null", "0"),
        ("-i", "/dev/zero", "300000"),
        ("-i", "/dev/urandom", "300000"),
        ("-t", "/dev/null", "0"),
    ],
)
async def test_standard_input_may_be_a_device(guyline: Command, option: str, device: str, read: str) -> None:
    """As in any cron job; an event loop refuses to wait for one."""
    result = await guyline.in_shell(f"$GUYLINE exec {option} -c 'head -c 300000 | wc -c' < {device}")

    assert (result.code, result.out.strip(), result.err) == (0, read, "")


async def test_attach_may_read_from_a_device(guyline: Command) -> None:
    """To a process with a terminal, and to one whose input is a pipe."""
    started = (await guyline("exec", "-d", "-i", "-c", "cat; exit 7")).out.strip()

    assert (await guyline.in_shell(f"$GUYLINE attach -i {started} < /dev/null")).code == 7


async def test_standard_input_that_cannot_be_read_is_at_its_end(guyline: Command) -> None:
    """What was opened to be written to: the command must not be left behind."""
    assert (await guyline.in_shell("$GUYLINE exec -i -c 'wc -c; exit 3' 0> /dev/null")).code == 3


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
async def test_a_closed_descriptor_is_as_dev_null(guyline: Command, closed: str) -> None:
    """Services and cron jobs start programs so; no other file may take its number."""
    result = await guyline.in_shell(f"$GUYLINE exec -- sh -c 'echo hi; exit 4' {closed}")
    listed = await guyline.in_shell(f"$GUYLINE ps {closed}")
    read = await guyline.in_shell(f"$GUYLINE exec -i -- wc -c {closed}")

    assert (result.code, result.out) == (4, "hi\n")
    assert (listed.code, listed.out.split()[0]) == (0, "ID")
    assert (read.code, read.out) == (0, "0\n")


async def test_a_closed_output_is_one_that_cannot_be_written(guyline: Command) -> None:
    """What was asked for is not lost in silence, least of all the id of what runs now."""
    ran = await guyline.in_shell("$GUYLINE exec echo lost >&-")
    listed = await guyline.in_shell("$GUYLINE ps >&-")
    started = await guyline.in_shell("$GUYLINE exec -d -c 'exit 9' >&-")
    unread = await guyline.in_shell("$GUYLINE exec -d -c 'exit 9' >/dev/full")

    assert (ran.code, listed.code, started.code, unread.code) == (125, 125, 125, 125)
    assert "Bad file descriptor" in ran.err
    assert "Bad file descriptor" in listed.err
    for result in (started, unread):
        found = ID.search(result.err)
        assert found
        assert (await guyline("attach", found[0])).code == 9


async def test_an_output_that_refuses_to_block_is_waited_for(guyline: Command) -> None:
    """Whoever shares a pipe or a terminal may have left it so: a slow reader is no reason to lose anything."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    child = await asyncio.create_subprocess_exec(
        *GUYLINE, "exec", "seq", "200000", env=guyline.environment, stdout=theirs, stderr=asyncio.subprocess.PIPE
    )
    await until(lambda: not select.select([], [theirs], [], 0)[1])
    os.close(theirs)
    with os.fdopen(ours, "rb") as out:
        lines = await asyncio.to_thread(out.readlines)
    _, err = await asyncio.wait_for(child.communicate(), DEADLINE)

    assert (len(lines), child.returncode, err) == (200_000, 0, b"")


async def test_complaints_that_nobody_takes_change_no_exit_code(guyline: Command) -> None:
    """That of a limit is the answer, whether or not its explanation could be written."""
    limited = "$GUYLINE exec --merged --timeout 100ms sleep 60"
    full = await guyline.in_shell(f"{limited} 2>/dev/full")
    unread = await guyline.in_shell(f"{{ {{ {limited}; echo $? >&3; }} 2>&1 >/dev/null | :; }} 3>&1")

    assert full.code == 124
    assert unread.out == "124\n"


async def test_json_that_nobody_reads_on_changes_no_exit_code(guyline: Command) -> None:
    """As without it: the command got SIGPIPE, and what it made of that is the answer."""
    line = "trap 'exit 6' PIPE; echo one; while :; do sleep 0.01; echo more; done"
    result = await guyline.in_shell(f'{{ $GUYLINE exec --json -c "{line}"; echo $? >&2; }} | head -n 1')

    assert json.loads(result.out)["output"]["offset"] == 0
    assert result.err == "6\n"


async def test_characters_that_the_output_cannot_show_are_escaped(guyline: Command) -> None:
    """One odd name in the list must not hide all others."""
    guyline.environment |= {"PYTHONIOENCODING": "ascii"}
    await guyline("exec", "--label", "odd=ä", "true")

    result = await guyline("ps", "-n", "1000", "--labels")

    assert (result.code, result.err) == (0, "")
    assert r"odd=\xe4" in result.out


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT], ids=lambda each: each.name
)
async def test_a_signal_that_was_ignored_stays_ignored(guyline: Command, number: signal.Signals) -> None:
    """`nohup guyline exec` goes on when its terminal is closed, as `nohup` promises."""
    line = "echo ready; read x; exit 8"
    async with guyline.running_in_shell(f"trap '' {number.name[3:]}; exec $GUYLINE exec -i -c '{line}'") as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert await child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        child.stdin.write(b"go\n")

        assert await guyline.code_of(child) == 8


async def test_keys_to_detach_are_typed_and_not_piped(guyline: Command, tmp_path: Path) -> None:
    """In data, any two bytes may stand side by side."""
    is_raw = tmp_path / "is raw"
    os.mkfifo(is_raw)
    reads = f"stty raw -echo; echo > '{is_raw}'; head -c 4 | od -An -c"
    line = f'{{ read x < "{is_raw}"; printf "a\\020\\021b"; }} | $GUYLINE exec -t -c "{reads}"'

    result = await guyline.in_shell(line)

    assert (result.code, result.out.split()) == (0, ["a", "020", "021", "b"])


@pytest.mark.parametrize("asked", ["--help", "ps --help", "--version"])
async def test_help_that_cannot_be_written_is_no_success(guyline: Command, asked: str) -> None:
    """Neither a traceback nor a code that could be anything."""
    full = await guyline.in_shell(f"$GUYLINE {asked} >/dev/full")
    closed = await guyline.in_shell(f"$GUYLINE {asked} >&-")
    unbuffered = await guyline.in_shell(f"PYTHONUNBUFFERED=1 $GUYLINE {asked} >/dev/full")

    assert (full.code, closed.code, unbuffered.code) == (125, 125, 125)
    assert full.err == unbuffered.err == "guyline: No space left on device\n"
    assert closed.err == "guyline: Bad file descriptor\n"


async def test_an_id_that_cannot_be_written_is_said_to_programs_as_well(guyline: Command) -> None:
    """Nobody else knows what was started."""
    result = await guyline.in_shell("$GUYLINE exec -d --json true >/dev/full")
    error = json.loads(result.err)["error"]

    assert result.code == 125
    assert error["facts"]["errno"] == "ENOSPC"
    assert error["facts"]["process_id"] in error["message"]
