"""Responses that are encoded by hand must be what protobuf would have made of them."""

from typing import cast

from hypothesis import example, given
from hypothesis import strategies as st

from guyline.agent.v1.process_pb2 import Exit
from guyline.agent.v1.process_service_pb2 import AttachResponse
from guyline.rpc.encoded import with_bytes


@given(data=st.binary(max_size=300), offset=st.integers(0, 2**64 - 1), code=st.integers(0, 255))
@example(data=b"", offset=0, code=0)
@example(data=bytes(127), offset=0, code=0)
@example(data=bytes(128), offset=0, code=0)
@example(data=bytes(128 * 1024), offset=1, code=1)
def test_a_message_with_a_field_added_by_hand_reads_as_if_it_had_been_set(data: bytes, offset: int, code: int) -> None:
    """Any parser reads it, whatever the field's size and its neighbours."""
    message = AttachResponse(offset=offset, exit=Exit(code=code))
    encoded = cast("bytes", with_bytes(message, "data", data))

    message.data = data
    assert AttachResponse.FromString(encoded) == message
