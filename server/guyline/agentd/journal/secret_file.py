"""Values that must not be shown with a journal's output, in a file beside it."""

import base64
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.system.files import is_want, open_private

SECRETS_SUFFIX = ".secrets"
"""What a journal's name ends in to name its secrets."""


def write_values(path: Path, pool: FilePool, values: Mapping[str, bytes]) -> None:
    """Writes values by name; the file is its owner's alone.

    Raises:
        OSError: There is no room, or no descriptor. There is no file then.
    """
    text = json.dumps({name: base64.b64encode(value).decode() for name, value in values.items()}).encode()
    file = pool.take(path)
    try:
        if os.pwrite(file, text, 0) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        pool.recycle(path)
        raise
    finally:
        os.close(file)


def read_values(path: Path) -> dict[str, bytes] | None:
    """What was written; None if there is no such file, or if it is not whole.

    Raises:
        OSError: There is no descriptor or no memory for it now.
    """
    try:
        return _read(path)
    except (ValueError, AttributeError, TypeError):  # torn, by a loss of power
        return None
    except OSError as why:
        if is_want(why):
            raise
        return None


def _read(path: Path) -> dict[str, bytes]:
    file = open_private(path)
    try:
        text = os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)
    return {name: base64.b64decode(value) for name, value in json.loads(text).items()}
