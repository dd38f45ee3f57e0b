"""How many may be there at once: processes in all and of one chat, and streams of output."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from guyline.agentd.process.errors import TooManyChatProcesses, TooManyFollowers, TooManyProcesses


class Room:
    """Counts the processes that run or are being started, against the limits.

    One that has ended counts as long as what it left behind can print: its descriptors are still in use.
    """

    def __init__(self, *, most: int, most_of_a_chat: int) -> None:
        self._most = most
        self._most_of_a_chat = most_of_a_chat
        self._chats: dict[str, str | None] = {}  # of each process that has a place
        self._places: Counter[str | None] = Counter()  # by chat

    @contextmanager
    def taken(self, process_id: str, chat_id: str | None) -> Iterator[None]:
        """Takes a place, and gives it back if the block fails.

        Raises:
            TooManyProcesses: There is none left.
            TooManyChatProcesses: There is none left for this chat.
        """
        if len(self._chats) >= self._most:
            raise TooManyProcesses(self._most)
        if chat_id is not None and self._places[chat_id] >= self._most_of_a_chat:
            raise TooManyChatProcesses(self._most_of_a_chat, chat_id)
        self.take(process_id, chat_id)
        try:
            yield
        except BaseException:
            self.give_back(process_id)
            raise

    def take(self, process_id: str, chat_id: str | None) -> None:
        """Takes a place for one that runs already, whatever the limits are."""
        self._chats[process_id] = chat_id
        self._places[chat_id] += 1

    def give_back(self, process_id: str) -> None:
        """It is over. Does nothing if it has no place."""
        if process_id not in self._chats:
            return
        chat_id = self._chats.pop(process_id)
        self._places[chat_id] -= 1
        if not self._places[chat_id]:
            del self._places[chat_id]


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
