"""Values of a process's environment that views of its output must not show."""

import os
from collections.abc import Mapping, Sequence

from guyline.agentd.journal.gone import GoneJournal
from guyline.agentd.journal.journals import Journals
from guyline.agentd.process.errors import SecretsLost, SecretsNotUsable
from guyline.agentd.process.exhaustion import exhaustion_told
from guyline.agentd.process.process import Process
from guyline.agentd.process.streams.output import Output
from guyline.agentd.process.threads import in_thread
from guyline.agentd.view.redaction import LEAST_BYTES, NOTHING_SECRET, Secret, Secrets
from guyline.agentd.view.rendering import Renderer, context_bytes
from guyline.agentd.view.window import Window


def chosen(names: Sequence[str], env: Mapping[str, str]) -> dict[str, bytes]:
    """The values that the names stand for in a command's environment.

    Raises:
        SecretsNotUsable: Some are not set, or too short.
    """
    problems = {}
    for index, name in enumerate(names):
        if name not in env:
            problems[index] = f"{name[:40]!r} is not set in the environment of the command"
        elif len(os.fsencode(env[name])) < LEAST_BYTES:
            problems[index] = f"the value of {name[:40]!r} is shorter than {LEAST_BYTES} bytes"
    if problems:
        raise SecretsNotUsable(problems)
    return {name: os.fsencode(env[name]) for name in names}


async def kept_secrets(journals: Journals, process: Process) -> Secrets:
    """What must not be shown of a process's output.

    Raises:
        SystemExhausted: They cannot be read now, for want of descriptors or threads.
        SecretsLost: There are values that cannot be read any more, and output that might hold them.
    """
    names = process.origin.redact
    if not names:
        return NOTHING_SECRET
    with exhaustion_told("reading what must stay hidden"):
        values = await in_thread(journals.secrets, process.process_id)
    if isinstance(process.output.journal, GoneJournal):  # they went with the output, in which there is nothing to hide
        return NOTHING_SECRET
    if values is None or not values.keys() >= {*names}:
        raise SecretsLost(process.process_id)
    return await in_thread(Secrets, [Secret(name, values[name]) for name in names])


async def hidden(process: Process, start: int, data: bytes, secrets: Secrets) -> bytes:
    """A stretch of a process's output, with a token for each secret of which it holds any part, as in a RAW view.

    It ends before what may yet become a secret, or may have been one whose end is lost.
    """
    if not secrets:
        return data
    context = context_bytes(secrets)
    stop = start + len(data)
    before, is_torn = await _before(process.output, max(0, start - context), start)
    behind, goes_on = await _behind(process.output, stop, stop + context)
    window = Window(start - len(before), before + data + behind, start, torn=is_torn)
    renderer = Renderer(plain=False, secrets=secrets)
    # Odd output can take long, and nobody else is to wait for it.
    return await in_thread(renderer.excerpt, window, stop, final=not goes_on)


async def _before(output: Output, start: int, end: int) -> tuple[bytes, bool]:
    """What is there between the two offsets, from the last gap on, and whether there is one."""
    parts: list[bytes] = []
    is_torn = False
    while start < end:
        piece = await output.read(start, end - start)
        if piece.gap:
            is_torn = True
            parts.clear()
        parts.append(piece.data[: max(0, end - piece.offset)])  # behind a gap it may reach further
        start = piece.offset + len(piece.data)
    return b"".join(parts), is_torn


async def _behind(output: Output, start: int, end: int) -> tuple[bytes, bool]:
    """What is there between the two offsets, up to the first gap, and whether more was or may yet be printed there."""
    parts: list[bytes] = []
    while start < min(end, output.journal.size):
        piece = await output.read(start, end - start)
        if piece.gap:
            return b"".join(parts), True
        parts.append(piece.data)
        start += len(piece.data)
    return b"".join(parts), output.is_open or start < output.journal.size
