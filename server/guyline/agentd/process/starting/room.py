"""How many may be there at once: processes in all and of one chat, and streams of output."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from guyline.agentd.process.errors import TooManyChatProcesses, TooManyFollowers, TooManyProcesses


class Room:
    """Counts the processes that run or are being started, against the limits."""

    def __init__(self, *, most: int, most_of_a_chat: int) -> None:
        self._most = most
        self._most_of_a_chat = most_of_a_chat
        self._taken: Counter[str | None] = Counter()

    @contextmanager
    def taken(self, chat_id: str | None) -> Iterator[None]:
        """Takes a place, and gives it back if the block fails.

        Raises:
            TooManyProcesses: There is none left.
            TooManyChatProcesses: There is none left for this chat.
        """
        if self._taken.total() >= self._most:
            raise TooManyProcesses(self._most)
        if chat_id is not None and self._taken[chat_id] >= self._most_of_a_chat:
            raise TooManyChatProcesses(self._most_of_a_chat, chat_id)
        self.take(chat_id)
        try:
            yield
        except BaseException:
            self.give_back(chat_id)
            raise

    def take(self, chat_id: str | None) -> None:
        """Takes a place for one that runs already, whatever the limits are."""
        self._taken[chat_id] += 1

    def give_back(self, chat_id: str | None) -> None:
        """It has ended."""
        self._taken[chat_id] -= 1
        if not self._taken[chat_id]:
            del self._taken[chat_id]


class Seats:
    """Counts the streams of output that are open, against the limit."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A seat for the length of the block.

        Raises:
            TooManyFollowers: There is none left.
        """
        if self._taken >= self._most:
            raise TooManyFollowers(self._most)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
