"""What can be wrong with a request for output."""

from guyline.errors import OutOfRange


class OffsetOutOfRange(OutOfRange):
    """A position in a process's output that it has not reached yet."""

    reason = "OFFSET_OUT_OF_RANGE"

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(
            f"offset {offset} is beyond the {size} bytes printed so far; go on from at most {size}",
            offset=str(offset),
            output_bytes=str(size),
        )
