"""A wake-up for one waiter, with a time-out that costs no task."""

import asyncio


class Bell:
    """Rings stay rung until waited for; many rings are one."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._rung = True
        self._wake()

    async def wait(self, at_most: float) -> bool:
        """Returns True once it rang, False after ``at_most`` seconds. Cancelling loses no ring."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(at_most, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        rung, self._rung = self._rung, False
        return rung

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
