"""``guyline prune``."""

from argparse import Namespace
from asyncio import Semaphore, gather
from datetime import UTC, datetime, timedelta

from guyline.cli.dial import agent_of
from guyline.cli.failure import report
from guyline.cli.removal import remove
from guyline.cli.say import say, say_json
from guyline.cli.text import to_size
from guyline.client.agent import AsyncAgent
from guyline.client.enums import ProcessState
from guyline.client.errors import GuylineError, ProcessNotFound, ProcessRunning
from guyline.client.values import ProcessInfo

_ENDED = (ProcessState.EXITED, ProcessState.UNKNOWN)
_AT_ONCE = 16
_HEAD_BYTES = 16 * 1024  # is kept of each process, whatever else is dropped


async def run(options: Namespace) -> int:
    """Has all processes forgotten that have ended, and says what that gained, even if it fails halfway."""
    latest = datetime.now(UTC) - timedelta(seconds=options.older_than)
    async with agent_of(options) as agent:
        listing = await agent.list(labels=options.label, states=_ENDED, max_ended=None)
        pruning = _Pruning(agent)
        await gather(*(pruning.remove(each) for each in listing.processes if _ended_before(each, latest)))
    _say(pruning.removed, as_json=options.json)
    return report(pruning.failure, as_json=options.json) if pruning.failure else 0


class _Pruning:
    """Removes processes, some at once. Somebody else may be tidying up as well."""

    def __init__(self, agent: AsyncAgent) -> None:
        self.removed: list[ProcessInfo] = []
        self.failure: GuylineError | None = None  # behind it no more are begun
        self._agent = agent
        self._turns = Semaphore(_AT_ONCE)

    async def remove(self, process: ProcessInfo) -> None:
        async with self._turns:
            if self.failure:
                return
            try:
                await remove(self._agent, process.process_id)
            except (ProcessNotFound, ProcessRunning):
                return
            except GuylineError as error:
                self.failure = error
            else:
                self.removed.append(process)


def _say(removed: list[ProcessInfo], *, as_json: bool) -> None:
    kept_bytes = sum(map(_kept_bytes, removed))
    if as_json:
        say_json({"removed": [process.process_id for process in removed], "output_bytes": kept_bytes})
    else:
        processes = "1 process" if len(removed) == 1 else f"{len(removed)} processes"
        say(f"{processes} forgotten, with {to_size(kept_bytes)} of output")


def _ended_before(process: ProcessInfo, latest: datetime) -> bool:
    if process.state not in _ENDED:  # an agent that does not know the filter lists all
        return False
    ended_at = process.exit.ended_at if process.exit is not None else None
    return (ended_at or process.started_at) <= latest


def _kept_bytes(process: ProcessInfo) -> int:
    return process.output_bytes - process.kept_from + min(process.kept_from, _HEAD_BYTES)
