"""The ``guyline`` command as a subprocess: what it prints, and the code it exits with."""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.clock import DEADLINE

GUYLINE = (sys.executable, "-P", "-m", "guyline.cli.main")


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
        return await self._result(*GUYLINE, *arguments)

    async def in_shell(self, line: str) -> Result:
        """Runs a line of a shell, in which `$GUYLINE` is the command, to its end."""
        return await self._result(*_shell(line))

    async def _result(self, *command: str) -> Result:
        async with self._started(*command) as child:
            out, err = await asyncio.wait_for(child.communicate(), DEADLINE)
            assert child.returncode is not None
            return Result(child.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Runs it for the length of the block; its standard output and error are pipes."""
        async with self._started(*GUYLINE, *arguments) as child:
            yield child

    @asynccontextmanager
    async def running_in_shell(self, line: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """As above, of a line; its standard input is a pipe as well."""
        async with self._started(*_shell(line), stdin=asyncio.subprocess.PIPE) as child:
            yield child

    @asynccontextmanager
    async def _started(
        self, *command: str, stdin: int = asyncio.subprocess.DEVNULL
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        child = await asyncio.create_subprocess_exec(
            *command,
            env=self.environment,
            cwd=self.directory,
            stdin=stdin,
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


def _shell(line: str) -> tuple[str, ...]:
    return "bash", "-c", f"GUYLINE='{shlex.join(GUYLINE)}'; {line}"
