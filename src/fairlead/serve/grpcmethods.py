"""What standard servicers are made of, and how we read it: method handlers, by name, and the errors that a servicer meets.

`add_TodoServicer_to_server(servicer, server)`, as the generator for grpcio writes it, calls `server.add_generic_rpc_handlers` and
`server.add_registered_method_handlers`. Their handlers are objects with `request_streaming`, `response_streaming`,
`request_deserializer`, `response_serializer` and one of `unary_unary` ... `stream_stream`. Nothing else of grpcio is needed to
serve them; the generated code itself imports it, and needs protobuf. So grpcio is asked for its names only if it is installed:
`grpc.StatusCode` for `context.code()`, `grpc.aio.AbortError` as the base of what `abort` raises, `grpc.aio.EOF` for `read()`.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

import inspect
from collections import namedtuple
from typing import Any

try:
    import grpc
    import grpc.aio as aio
except ImportError:  # our own handlers only: generated code would have failed before us
    grpc = aio = None  # type: ignore[assignment]

Metadatum = namedtuple("Metadatum", ("key", "value"))
CallDetails = namedtuple("CallDetails", ("method", "invocation_metadata"))
CODES: dict[int, Any] = {code.value[0]: code for code in grpc.StatusCode} if grpc is not None else {}
EOF: Any = aio.EOF if aio is not None else None
_Abort: Any = aio.AbortError if aio is not None else Exception
_Usage: Any = aio.UsageError if aio is not None else Exception
ASYNC, SYNC = 0, 1


class Handled:
    """A method handler of our own making, for services that need no generated code. `answer`: the shape of its answers, or None."""

    def __init__(self, behaviour: Any, client_stream: bool, server_stream: bool, decode: Any, encode: Any, answer: Any) -> None:
        self.request_streaming = client_stream
        self.response_streaming = server_stream
        self.request_deserializer = decode
        self.response_serializer = encode
        self.answer = answer if answer is not None else getattr(encode, "__self__", None)
        self.unary_unary = self.unary_stream = self.stream_unary = self.stream_stream = behaviour


def handled(behaviour, client_stream=False, server_stream=False, decode=None, encode=None, answer=None):
    """A handler of an async function or generator; messages are bytes, unless `decode` and `encode` make them something else.
    Those that are of a `Shape` (`decode=ASKED.decode, encode=SAID.encode`) have JSON too; `answer=SAID` where nothing encodes.

    `server.add_registered_method_handlers("fairlead.v1.Topics", {"Read": handled(read, server_stream=True)})`
    """
    return Handled(behaviour, client_stream, server_stream, decode, encode, answer)


class Aborted(_Abort):
    """`context.abort` was called: the servicer ends here. Catch it only to raise it again."""


class Misused(_Usage):
    """The servicer asked for something that the state of its call does not allow."""


class Method:
    """One method, ready to be called. `behaviour(request or iterator, context)`; `kind` ASYNC or SYNC; `generator`: a call of it
    gives an async iterator, not an awaitable. `started` `succeeded` `failed`: calls of it here."""

    def __init__(self, path, handler):
        self.path = path
        self.name = path.decode("latin-1")
        self.client_stream = bool(handler.request_streaming)
        self.server_stream = bool(handler.response_streaming)
        self.decode = handler.request_deserializer
        self.encode = handler.response_serializer
        self.handler = handler
        names = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        self.behaviour = getattr(handler, names[self.client_stream * 2 + self.server_stream])
        function = plain_function(self.behaviour)
        self.generator = inspect.isasyncgenfunction(function)
        self.kind = ASYNC if self.generator or inspect.iscoroutinefunction(function) else SYNC
        self.started = self.succeeded = self.failed = self.messages_in = self.messages_out = 0
        self.last = 0


def plain_function(behaviour: Any) -> Any:
    """The function behind partials, decorators that say what they wrap, and objects with `__call__`."""
    seen = 0
    while seen < 16:
        seen += 1
        if inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour):
            break
        inner = getattr(behaviour, "func", None) or getattr(behaviour, "__wrapped__", None)
        if inner is None and not inspect.isroutine(behaviour) and not inspect.isclass(behaviour):
            inner = inspect.getattr_static(type(behaviour), "__call__", None)
            inner = inner if inspect.isfunction(inner) else None
        if inner is None:
            break
        behaviour = inner
    return behaviour


def number_of(code: Any) -> int:
    """The number of a status given as a `grpc.StatusCode` or as itself. Raises ValueError."""
    value = getattr(code, "value", code)
    number = value[0] if isinstance(value, tuple) else value
    if not isinstance(number, int) or not 0 <= number <= 16:
        raise ValueError(f"{code!r} is no gRPC status")
    return number


def is_async(interceptor: Any) -> bool:
    """Whether an interceptor is one of grpc.aio's."""
    return inspect.iscoroutinefunction(plain_function(interceptor.intercept_service))
