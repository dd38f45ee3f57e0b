"""What the system refuses for want of room is told as something that passes, and nothing else is."""

import errno
import os
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import pytest

from guyline.agentd.process.errors import SystemExhausted
from guyline.agentd.process.process import Process
from tests.agentd.process.simulated import simulated


def failing(process: Process, number: int) -> AbstractContextManager[object]:
    """What reads a process's output meets this error."""
    why = OSError(number, os.strerror(number))
    return mock.patch.object(process.output.journal, "read", side_effect=why)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
async def test_want_of_room_in_reading_output_passes(tmp_path: Path, number: int) -> None:
    """Whoever reads tries again in a moment."""
    async with simulated(tmp_path) as world:
        process = await world.run()
        with failing(process, number), pytest.raises(SystemExhausted) as told:
            await process.output.read(0)

    assert told.value.facts["errno"] == errno.errorcode[number]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
async def test_what_need_not_pass_is_told_as_a_defect(tmp_path: Path, number: int) -> None:
    """Told as want of room it would be tried again for ever; a defect is logged, and tried again by no client."""
    async with simulated(tmp_path) as world:
        process = await world.run()
        with failing(process, number), pytest.raises(OSError, match=os.strerror(number)):
            await process.output.read(0)
