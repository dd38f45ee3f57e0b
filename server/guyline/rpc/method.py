"""A method that is served, with all that can be known of it before the first call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from guyline.errors import InvalidInput, Violation
from guyline.rpc.access import Access, access_to
from guyline.rpc.last import must_end_with_last
from guyline.rpc.moments import to_duration
from guyline.rpc.waiting import does_only_wait
from guyline.stream.v1.stream_pb2 import Retry, StreamControl


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of a service: how to call it, who may, and how its messages are read and written."""

    rpc: str
    """``package.Service/Method``."""

    access: Access
    handler: Callable[..., Any]
    request_streams: bool
    response_streams: bool
    parse: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]

    control: type[Message] | None
    """The response's class if it has the field ``control`` that says when to come back."""

    ends_with_last: bool = False
    """Whether its stream of responses ends with one that is marked so; see ``guyline.rpc.last``."""

    only_waits: bool = False
    """Whether it is cut as soon as the server ends, as a stream is; see ``guyline.rpc.waiting``."""

    served_while_draining: bool = False
    """Whether it goes on, and may be called, while the server ends."""

    def to_request(self, data: bytes) -> Any:
        """The request's bytes as a message.

        Raises:
            InvalidInput: If they are none.
        """
        try:
            return self.parse(data)
        except Exception as why:  # whatever the parser says, the sender is told what is wrong
            raise InvalidInput(Violation("request", f"{len(data)} bytes that are no message of {self.rpc}")) from why

    def retry(self, after: float) -> bytes | None:
        """The message that tells a stream's reader to come back in ``after`` seconds, if the stream has such."""
        if self.control is None:
            return None
        return self.control(control=StreamControl(retry=Retry(after=to_duration(after)))).SerializeToString()


def to_methods(
    service_name: str,
    handlers: dict[str, "grpc.RpcMethodHandler[Any, Any]"],
    *,
    served_while_draining: bool = False,
) -> list[Method]:
    """The methods of a service, from what its generated code registers.

    Raises:
        MethodWithoutRight: If one does not say which right it needs.
    """
    service: ServiceDescriptor = Default().FindServiceByName(service_name)
    return [
        _to_method(service.methods_by_name[name], handler, served_while_draining) for name, handler in handlers.items()
    ]


def _to_method(
    descriptor: MethodDescriptor,
    handler: "grpc.RpcMethodHandler[Any, Any]",
    served_while_draining: bool,
) -> Method:
    function = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    assert function is not None
    return Method(
        rpc=f"{descriptor.containing_service.full_name}/{descriptor.name}",
        access=access_to(descriptor),
        handler=function,
        request_streams=bool(handler.request_streaming),
        response_streams=bool(handler.response_streaming),
        parse=cast("Callable[[bytes], Any]", handler.request_deserializer),
        serialize=cast("Callable[[Any], bytes]", handler.response_serializer),
        control=_control(descriptor.output_type) if handler.response_streaming else None,
        ends_with_last=must_end_with_last(function),
        only_waits=does_only_wait(function),
        served_while_draining=served_while_draining,
    )


def _control(response: Descriptor) -> type[Message] | None:
    field = response.fields_by_name.get("control")
    if field is None or field.message_type is not StreamControl.DESCRIPTOR:
        return None
    return GetMessageClass(response)
