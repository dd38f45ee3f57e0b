"""Who calls, read from metadata: any keys and values give a caller or an InvalidInput, never anything else."""

from guyline.errors import GuylineError, InvalidInput
from guyline.rpc.authentication import MOST_ANCESTORS, owner
from guyline.rpc.errors import to_status
from guyline.rpc.metadata import Metadata

_MOST_METADATA_BYTES = 8_192


def one_input(data: bytes) -> None:
    """Takes lines ``KEY: VALUE``, as text of any kind."""
    lines = data.decode("utf-8", errors="surrogateescape").split("\n")
    metadata = Metadata([(key, value.lstrip(" ")) for key, _, value in (line.partition(":") for line in lines)])
    assert 1 <= len(metadata.request_id()) <= 128
    try:
        caller = owner(metadata, request_id="r")
    except InvalidInput as error:
        _fits(error)
        return
    assert caller.chat_id is None or caller.chat_id == caller.chat_id.lower()
    assert caller.chat_id is not None or not caller.ancestor_chat_ids
    assert len(caller.ancestor_chat_ids) <= MOST_ANCESTORS
    assert caller.sees(caller.chat_id)
    assert caller.chat_id is None or not caller.sees(None)


def _fits(error: GuylineError) -> None:
    status = to_status(error)
    assert status.details
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message.encode()) < _MOST_METADATA_BYTES
