"""What is wrong with a request, collected."""

from collections.abc import Iterable

from google.protobuf.message import Message

from guyline.errors import InvalidInput, Violation
from guyline.rpc.moments import to_seconds


class Problems:
    """Collects everything that is wrong with a request, so that the caller hears of all of it at once."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        self._found.append(Violation(field, description))

    def check_text(self, field: str, text: str, *, at_most: int) -> None:
        if "\0" in text:
            self.add(field, "holds a NUL byte")
        if (length := len(text.encode())) > at_most:
            self.add(field, f"has {length} bytes, at most {at_most} are allowed")

    def check_enum(self, field: str, value: int, known: Iterable[int]) -> None:
        if value not in known:
            self.add(field, f"{value} is no value of its enum")

    def raise_if_any(self) -> None:
        if self._found:
            raise InvalidInput(*self._found)

    def seconds(self, message: Message, path: str, *, least: float, most: float) -> float | None:
        """The duration in the message's field of that name (the path's last part); None if it is not set."""
        field = path.rpartition(".")[2]
        if not message.HasField(field):
            return None
        seconds = to_seconds(getattr(message, field))
        if not least <= seconds <= most:
            self.add(path, f"{seconds:g} s is not between {least:g} s and {most:g} s")
        return seconds
