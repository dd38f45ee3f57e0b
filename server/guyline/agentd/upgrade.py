"""Replacing the agent's running code: tried out first, then asked of the keeper."""

import asyncio
import subprocess
import sys
from collections.abc import Callable

from guyline.agentd.info.info import Upgrade
from guyline.agentd.keeper import messages, records
from guyline.agentd.keeper.config import MODULE
from guyline.errors import WrongState

_TRIAL_TIMEOUT = 20.0  # seconds
_PROGRAM = (
    f"from {MODULE}.__main__ import main; from importlib.metadata import version; import guyline.agentd.main; "
    "print(version('guyline')); main(['--formats'])"
)
"""Imports all that the new agent needs, and says its version and its formats."""


class UpgradeRefused(WrongState):
    """The new code does not run, or cannot take the present state over."""

    reason = "UPGRADE_REFUSED"


class Upgrader:
    """Replaces keeper and worker by what an interpreter has installed, under running processes."""

    def __init__(self, *, version: str, ask_keeper: Callable[[str], None]) -> None:
        self._version = version
        self._ask_keeper = ask_keeper

    async def upgrade(self, interpreter: str) -> Upgrade:
        """Returns once the new code has been tried and the keeper been asked.

        Raises:
            UpgradeRefused: Nothing has changed.
        """
        interpreter = interpreter or sys.executable
        new_version, formats = await asyncio.to_thread(_try_out, interpreter)
        ours = f"{messages.FORMAT} {records.VERSION}"
        if formats != ours:
            raise UpgradeRefused(
                f"version {new_version} has other formats ({formats}) than the running one ({ours}) and cannot take "
                "its processes over; stop the agent and start the new one",
                interpreter=interpreter,
            )
        self._ask_keeper(interpreter)
        return Upgrade(from_version=self._version, to_version=new_version)


def _try_out(interpreter: str) -> tuple[str, str]:
    try:
        trial = subprocess.run(
            [interpreter, "-P", "-c", _PROGRAM],
            capture_output=True,
            text=True,
            timeout=_TRIAL_TIMEOUT,
            check=True,
            cwd="/",
        )
        version, formats = trial.stdout.splitlines()
    except subprocess.CalledProcessError as why:
        problem = why.stderr.strip().rpartition("\n")[2] or f"exit code {why.returncode}"
        raise UpgradeRefused(f"the code of {interpreter} does not run: {problem}", interpreter=interpreter) from why
    except (OSError, ValueError, subprocess.TimeoutExpired) as why:
        raise UpgradeRefused(f"the code of {interpreter} does not run: {why}", interpreter=interpreter) from why
    return version, formats
