"""The ``guyline`` command as a subprocess: what it prints, and the code it exits with."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.clock import DEADLINE

GUYLINE = (sys.executable, "-m", "guyline.cli.main")


@dataclass(frozen=True)
class Result:
    """What a command that has ended left."""

    code: int
    out: str
    err: str


class Command:
    """Runs ``guyline`` against one agent."""

    def __init__(self, address: str) -> None:
        self.environment = os.environ | {"GUYLINE_AGENT_ADDRESS": address}
        self.directory: Path | None = None  # where it runs; None: here

    async def __call__(self, *arguments: str) -> Result:
        """Runs it to its end."""
        async with self.running(*arguments) as child:
            out, err = await asyncio.wait_for(child.communicate(), DEADLINE)
            assert child.returncode is not None
            return Result(child.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Runs it for the length of the block; its standard output and error are pipes."""
        child = await asyncio.create_subprocess_exec(
            *GUYLINE,
            *arguments,
            env=self.environment,
            cwd=self.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()

    async def code_of(self, child: asyncio.subprocess.Process) -> int:
        """Waits for the exit code of a command that is running."""
        await asyncio.wait_for(child.communicate(), DEADLINE)
        assert child.returncode is not None
        return child.returncode
