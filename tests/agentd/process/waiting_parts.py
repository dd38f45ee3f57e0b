"""What the stories about waiting share."""

import asyncio
from typing import Any

from guyline.agent.v1.process_service_pb2 import (
    ExitCondition,
    FileCondition,
    PatternCondition,
    PortCondition,
    ProcessServiceWaitRequest,
    ProcessServiceWaitResponse,
    WaitCondition,
)
from tests.agentd.process.process_parts import Metadata, attach, printed, seconds
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

EXIT = WaitCondition(exit=ExitCondition())


def pattern(text: str, **fields: Any) -> WaitCondition:
    """It has printed this."""
    return WaitCondition(pattern=PatternCondition(pattern=text, **fields))


def port(number: int) -> WaitCondition:
    """Somebody listens there."""
    return WaitCondition(port=PortCondition(port=number))


def file(path: object) -> WaitCondition:
    """Something is there."""
    return WaitCondition(file=FileCondition(path=str(path)))


def to_wait(process_id: str, *conditions: WaitCondition, timeout: float | None = None) -> ProcessServiceWaitRequest:
    """The request. The timeout is in seconds."""
    return ProcessServiceWaitRequest(
        process_id=process_id, conditions=conditions, timeout=None if timeout is None else seconds(timeout)
    )


async def wait(
    agent: RunningAgent,
    process_id: str,
    *conditions: WaitCondition,
    timeout: float | None = None,
    metadata: Metadata = (),
) -> ProcessServiceWaitResponse:
    """Waits for the first of several."""
    async with asyncio.timeout(DEADLINE):
        return await agent.processes.Wait(to_wait(process_id, *conditions, timeout=timeout), metadata=metadata)


def met(answer: ProcessServiceWaitResponse) -> int | None:
    """Which condition holds."""
    return answer.met if answer.HasField("met") else None


async def has_printed(agent: RunningAgent, process_id: str, text: bytes) -> None:
    """Waits until this is in the journal."""
    await attach(agent, process_id, until=printed(text))
