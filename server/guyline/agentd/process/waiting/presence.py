"""Whether a file is there, asked without ever hanging on a dead network mount."""

import asyncio
import os
from pathlib import Path

from guyline.agentd.process.errors import SystemExhausted
from guyline.agentd.process.threads import OwnThreads

_THREADS = 16
"""So many look-ups may hang at once. Other files then seem not to be there."""
_MOST_LOOKS = 256
_ANSWER_WITHIN = 1.0
"""Seconds. What has not answered by then is not there, for now."""


class Presence(OwnThreads):
    """Looks for files; ``close`` ends it.

    The threads are its own: nobody else waits when all of them hang. Whoever asks for a file whose look-up hangs waits
    for that one, so asking again and again takes no more threads.
    """

    def __init__(self, *, home: Path) -> None:
        super().__init__("presence", threads=_THREADS)
        self._home = home
        self._looks: dict[str, asyncio.Future[bool]] = {}

    async def is_there(self, path: str, directory: str) -> bool:
        """Whether there is anything at ``path``, as seen from ``directory``. ``~`` is the home directory.

        What cannot be looked up, or not in time, is not there. Takes no longer than a second.
        """
        look = self._look(os.path.join(directory, self._expanded(path)))  # noqa: PTH118 - keeps "../" and links as they are
        if look:
            await asyncio.wait([look], timeout=_ANSWER_WITHIN)
        return look is not None and look.done() and look.result()

    def _expanded(self, path: str) -> str:
        return str(self._home) + path[1:] if path == "~" or path.startswith("~/") else path

    def _look(self, path: str) -> asyncio.Future[bool] | None:
        """The look-up that is under way, or a new one; None if there are too many, or no thread for it."""
        look = self._looks.get(path)
        if look is None and len(self._looks) < _MOST_LOOKS:
            # os.path.exists follows links, and takes whatever the system does not answer for absence.
            try:
                look = self._ask(os.path.exists, path)
            except SystemExhausted:  # whoever waits for the file asks again in a moment
                return None
            self._looks[path] = look
            look.add_done_callback(lambda _: self._looks.pop(path))
        return look
