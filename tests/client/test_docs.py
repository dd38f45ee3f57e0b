"""The examples of docs/client.md do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from guyline.client import GuylineError
from tests.client.test_errors import ERRORS
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

_EXAMPLES = re.findall(r"```python\n(.*?)```", Path("docs/client.md").read_text(), re.DOTALL)
_AROUND = """\
import asyncio
from guyline.client import *

{example}

async def _main():
    async with AsyncAgent() as agent:
        await {name}(agent)

asyncio.run(_main())
"""


def _run(agent: RunningAgent, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"GUYLINE_AGENT_ADDRESS": agent.address},
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_failure_is_shown_as_the_first_example_says(shared_agent: RunningAgent) -> None:
    """It is what people copy."""
    assert _run(shared_agent, _EXAMPLES[0]).endswith("exit code 2; its output ends with:\ncompiling\noops\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("follow", "0 line 1\n7 line 2\n14 line 3\nexit code 7\n"), ("careful", "ENOENT mkae\n")],
)
def test_an_example_runs(shared_agent: RunningAgent, name: str, expected: str) -> None:
    """As it stands, with nothing but the names of the package around it."""
    [example] = [each for each in _EXAMPLES if f"async def {name}(" in each]

    assert _run(shared_agent, _AROUND.format(example=example, name=name)) == expected


def test_every_error_is_in_the_table() -> None:
    """Whoever looks up what to catch finds it there, or does without."""
    table = set(
        re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|.*", Path("docs/client.md").read_text(), re.MULTILINE)))
    )

    assert {kind.__name__ for kind in ERRORS if kind is not GuylineError} <= table


def test_every_example_is_python() -> None:
    """Also those that take longer than a test may."""
    assert len(_EXAMPLES) == 6
    for example in _EXAMPLES:
        compile(example, "docs/client.md", "exec")
