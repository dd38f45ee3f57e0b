"""What people, programs and models do with an agent all day, each kind as one round of it."""

import asyncio
import random

from guyline.client import AsyncAgent, Exited, InputMode, Key, Printed, ProcessState, Terminal, TimeLimit
from tests.support.program import program


async def short_commands(agent: AsyncAgent, number: int) -> None:
    """Hundreds of them, as a build or a model runs them."""
    over = await agent.run(f"echo {number}; exit {number % 5}", labels={"kind": "short"})
    assert (over.output, over.exit.code) == (b"%d\n" % number, number % 5)


async def loud_commands(agent: AsyncAgent, number: int) -> None:
    """Megabytes of output, followed to the last byte, then looked at as a model does."""
    process = await agent.open(program("noise", number, 8 << 20, "--exit", 0))
    length = sum([len(chunk.data) async for chunk in process.output()])
    view = await process.view()
    assert length == 8 << 20
    assert len(view.text) <= 32 * 1024


async def terminals(agent: AsyncAgent, number: int) -> None:
    """A shell that somebody types into, and drags the window of."""
    shell = await agent.open(["bash", "--norc", "-i"], terminal=Terminal(80, 24, "dumb"), env={"PS1": "> "})
    await shell.write(b"echo answer-$((%d * 7))\r" % number)
    await shell.wait_for(Printed(f"answer-{number * 7}"), timeout=60)
    await shell.resize(80 + number % 40, 24)
    await shell.write(b"exit\r")
    assert (await shell.wait()).code == 0


async def inputs(agent: AsyncAgent, number: int) -> None:
    """A program that reads megabytes."""
    data = random.Random(number).randbytes(3 << 20)
    over = await agent.run("wc -c", input=data)
    assert int(over.output) == len(data)


async def limits(agent: AsyncAgent, number: int) -> None:
    """Commands that would never end."""
    over = await agent.run("echo x; sleep 1000 & wait", timeout=0.3, idle_timeout=0.2 if number % 2 else None)
    assert over.exit.time_limit in {TimeLimit.TIMEOUT, TimeLimit.IDLE_TIMEOUT}


async def cancels(agent: AsyncAgent, _number: int) -> None:
    """Some before their start, some after."""
    key = Key.new()
    start, cancel = await asyncio.gather(
        agent.start(["sleep", "1000"], key=key), agent.cancel(key, grace=0.1), return_exceptions=True
    )
    assert not isinstance(cancel, BaseException), cancel
    if not isinstance(start, BaseException):
        await start.wait_for(Exited(), timeout=60)


async def lists(agent: AsyncAgent, _number: int) -> None:
    """Somebody looks at what there is, and tidies up."""
    listing = await agent.list(labels={"kind": "short"}, states=[ProcessState.EXITED], usage=True, max_ended=5)
    for process in listing.processes:
        await agent.remove(process.process_id)
    async for _ in agent.watch():
        break
    await asyncio.sleep(0.2)


async def secrets(agent: AsyncAgent, number: int) -> None:
    """Values that no view shows."""
    over = await agent.start(
        "echo $TOKEN; cat", env={"TOKEN": f"secret-{number}"}, redact=["TOKEN"], stdin=InputMode.PIPE
    )
    await over.write(b"more", eof=True)
    await over.wait()
    assert (await over.view()).text == "[redacted TOKEN]\nmore"


KINDS = (short_commands, loud_commands, terminals, inputs, limits, cancels, lists, secrets)
