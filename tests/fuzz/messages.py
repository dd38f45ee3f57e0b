"""What keeper and worker say: any bytes are a message, which encodes to what it was, or MalformedMessage."""

from guyline.agentd.keeper.messages import MalformedMessage, decode, encode


def one_input(data: bytes) -> None:
    """Takes one packet."""
    try:
        message = decode(data)
    except MalformedMessage:
        return
    again = decode(encode(message))
    assert repr(again) == repr(message)  # not ==: JSON's NaN differs from itself
