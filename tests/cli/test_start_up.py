"""The first tenth of a second of every command."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.support.clock import DEADLINE


@pytest.mark.parametrize("module", ["argparse", "json", "asyncio", "grpc"])
async def test_an_interrupt_while_modules_are_imported_ends_the_command_quietly(tmp_path: Path, module: str) -> None:
    """Who has mistyped a command presses Ctrl-C at once, and wants no traceback."""
    (tmp_path / f"{module}.py").write_text("import os, signal\nos.write(1, b'here\\n')\nwhile True: signal.pause()\n")
    guyline = Command("unix:/no/such/agent.sock")
    guyline.environment |= {"PYTHONPATH": str(tmp_path)}

    async with guyline.running("ps") as child, asyncio.timeout(DEADLINE):
        assert child.stdout is not None
        await child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = await child.communicate()

    assert (child.returncode, err) == (-signal.SIGINT, b"")
