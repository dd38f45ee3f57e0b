"""Where UTF-8 may be cut. What is no UTF-8 may be cut anywhere."""

_LONGEST = 4


def unfinished(data: bytes) -> int:
    """How many bytes at the end are the beginning of a character whose rest is missing: 0 to 3."""
    for back in range(1, min(_LONGEST, len(data) + 1)):
        length = _length(data[-back])
        if length:
            return back if length > back else 0
    return 0


def begin_of(data: bytes, at: int) -> int:
    """Where the character begins in whose middle ``at`` lies; ``at`` itself if it lies between two."""
    for back in range(1, min(_LONGEST, at + 1)):
        if length := _length(data[at - back]):
            inside = length > back and _is_character(data[at - back : at - back + length])
            return at - back if inside else at
    return at


def end_of(data: bytes, at: int) -> int:
    """Where the character ends in whose middle ``at`` lies; ``at`` itself if it lies between two."""
    begin = begin_of(data, at)
    return at if begin == at else begin + _length(data[begin])


def _length(first: int) -> int:
    """How long a character is that begins with this byte; 0 if none of more than zero bytes does."""
    if first < 0x80:
        return 1
    if first < 0xC2 or first > 0xF4:
        return 0
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def _is_character(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False
