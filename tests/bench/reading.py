"""Reading a gigabyte of output as a model does: a view of it, and waiting for what its last line says."""

import asyncio
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from guyline.client import AsyncAgent, AsyncProcess, OutputStyle, Printed
from tests.bench.harness import Aim, Figure, in_ms, interleaved, seconds
from tests.bench.reference import empty_call
from tests.support.agent import RunningAgent

_KEPT_BYTES = 1100 << 20
_LINES = 16_000_000
_NEEDLE = "needle 4711"
_LOG = f"seq -f '%.0f INFO request served in a short while for someone' 1 {_LINES}; echo {_NEEDLE}"
_SETTINGS = {"journal_bytes": _KEPT_BYTES, "journal_quota_bytes": 2 * _KEPT_BYTES}
_VIEWS, _SEARCHES = 300, 5


async def measure() -> list[Figure]:
    """Returns p50 and p99 of views, plain and raw, and the seconds of a search to the end."""
    async with RunningAgent(settings=_SETTINGS) as running, AsyncAgent(running.address) as agent:
        over = await agent.start(_LOG)
        await over.wait()
        plain, raw, call = await interleaved(
            _VIEWS,
            partial(seconds, over.view),
            partial(seconds, partial(over.view, style=OutputStyle.RAW)),
            partial(seconds, partial(empty_call, running.channel)),
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "log"
            await asyncio.to_thread(_write, over.info.output_bytes, file)
            searched, grepped = await interleaved(
                _SEARCHES, partial(seconds, partial(_search, over)), partial(_grep, file)
            )
    aims = (Aim("value", "<=", 5.0), None)
    return [
        *in_ms("view.plain", plain, call, "empty call", aims=aims),
        *in_ms("view.raw", raw, call, "empty call", aims=aims),
        Figure("wait.pattern", searched.median, "s", grepped.median, "grep -m1"),
    ]


async def _search(process: AsyncProcess) -> None:
    met = await process.wait_for(Printed(f"^{_NEEDLE}$"), timeout=300)
    assert met.match is not None


async def _grep(file: Path) -> float:
    start = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        "grep", "-m1", f"^{_NEEDLE}$", str(file), stdout=asyncio.subprocess.DEVNULL, env={"LC_ALL": "C"}
    )
    assert await child.wait() == 0
    return time.perf_counter() - start


def _write(size: int, file: Path) -> None:
    with file.open("wb") as out:
        subprocess.run(["sh", "-c", _LOG], stdout=out, check=True)
    assert file.stat().st_size == size
