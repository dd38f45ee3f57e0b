"""Prints a stream of bytes that a seed determines, so that who receives it can tell whether all came, in order.

    noise.py SEED BYTES [--chunk BYTES] [--stderr-every N] [--exit CODE]

``--chunk`` is the size of each write (default 64 KiB). With ``--stderr-every N`` each Nth write goes to standard error.
"""

import argparse
import hashlib
import os
import random
from collections.abc import Iterator

_BLOCK_BYTES = 64 * 1024


def stream(seed: int, size: int) -> Iterator[bytes]:
    """Yields the stream in blocks of 64 KiB, the last one shorter."""
    source = random.Random(seed)
    for start in range(0, size, _BLOCK_BYTES):
        yield source.randbytes(_BLOCK_BYTES)[: size - start]


def digest(seed: int, size: int) -> str:
    """Returns the SHA-256 of the whole stream, in hex."""
    total = hashlib.sha256()
    for block in stream(seed, size):
        total.update(block)
    return total.hexdigest()


def pieces(seed: int, size: int, chunk: int) -> Iterator[bytes]:
    """Yields the same bytes cut anew: ``chunk`` each, the last one shorter."""
    waiting = bytearray()
    for block in stream(seed, size):
        waiting += block
        while len(waiting) >= chunk:
            yield bytes(waiting[:chunk])
            del waiting[:chunk]
    if waiting:
        yield bytes(waiting)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("bytes", type=int)
    parser.add_argument("--chunk", type=int, default=_BLOCK_BYTES)
    parser.add_argument("--stderr-every", type=int, default=0)
    parser.add_argument("--exit", type=int, default=0)
    wanted = parser.parse_args()
    for number, piece in enumerate(pieces(wanted.seed, wanted.bytes, wanted.chunk), start=1):
        to_stderr = wanted.stderr_every and number % wanted.stderr_every == 0
        _write_all(2 if to_stderr else 1, piece)
    raise SystemExit(wanted.exit)


if __name__ == "__main__":
    _main()
