"""What the command's tests share."""

import pytest

from tests.cli.command import Command
from tests.support.agent import RunningAgent


@pytest.fixture
def guyline(shared_agent: RunningAgent) -> Command:
    """The command, with an agent that other tests use as well."""
    return Command(shared_agent.address)
