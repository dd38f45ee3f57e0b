"""`guyline ps -w`: what is, then what changes."""

import asyncio
import json
import uuid

from tests.cli.command import Command
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


async def test_a_watch_begins_with_as_many_ended_ones_as_ps_shows(guyline: Command) -> None:
    """A thousand old ones would hide what happens now; what ends later is shown in any case."""
    label = f"run={uuid.uuid4()}"
    ended = [(await guyline("exec", "-d", "--label", label, "-c", f"exit {code}")).out.strip() for code in range(3)]
    for process in ended:
        await guyline("wait", process)

    async with guyline.running("ps", "-w", "-n", "2", "--label", label, "--labels") as child:
        assert child.stdout is not None
        async with asyncio.timeout(DEADLINE):
            first = [(await child.stdout.readline()).decode().split()[0] for _ in range(2)]
            later = (await guyline("exec", "-d", "--label", label, "-c", "exit 9")).out.strip()
            while "exit 9" not in (line := (await child.stdout.readline()).decode()):
                assert line.startswith(later)

    assert sorted(first) == sorted(ended[1:])
    assert line.startswith(later)
    assert line.split()[-3:] == [label, "exit", "9"]


async def test_a_watch_that_begins_anew_shows_no_more_than_before(agent: RunningAgent) -> None:
    """After the worker's death everything comes again: no reason to flood the screen."""
    guyline = Command(agent.address)
    for code in range(3):
        await guyline("exec", "-c", f"exit {code}")

    async with guyline.running("ps", "-w", "-n", "1", "--json") as child, asyncio.timeout(2 * DEADLINE):
        assert child.stdout is not None
        before = [json.loads(await child.stdout.readline()) for _ in range(2)]
        await agent.kill_worker()
        after = [json.loads(await child.stdout.readline()) for _ in range(3)]

    newest = before[0]["put"]
    assert (newest["exit"]["code"], before[1]) == (2, {"synced": {}})
    assert [list(event) for event in after] == [["reset"], ["put"], ["synced"]]
    assert after[1]["put"]["process_id"] == newest["process_id"]
