"""`fairlead.grpc.Server`: what generated code registers its servicers on. It only remembers; a `grpc` route serves it.

It takes the place of `grpc.aio.server()` and `grpc.server()`: the same `add_…_to_server` functions, interceptors, options and
limits. What belongs to a listener (ports, certificates, keepalive) is in the configuration and is refused here by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fairlead.core.errors import AppError

CODINGS = ("identity", "deflate", "gzip", "zstd")  # by grpc.Compression's numbers, and one that it does not have
MIB = 1024 * 1024
ELSEWHERE = {
    "grpc.keepalive_time_ms": "listener.limits.ping",
    "grpc.keepalive_timeout_ms": "listener.limits.ping",
    "grpc.max_connection_age_ms": "listener.limits.age",
    "grpc.max_connection_age_grace_ms": "server.grace",
    "grpc.max_connection_idle_ms": "listener.limits.idle",
    "grpc.max_concurrent_streams": "listener.limits.streams",
    "grpc.so_reuseport": "server.pattern",
}
SIZES = {"grpc.max_receive_message_length": "max_message", "grpc.max_send_message_length": "max_sent"}


class Server:
    """A set of gRPC services.

    max_message   most bytes of a message that comes, inflated; 4 MiB as in grpcio, 0 for no limit
    max_sent      most bytes of a message that goes; 0 for no limit
    compression   of what we send, where the client takes it: a grpc.Compression, "gzip", "deflate", "zstd"
    interceptors  grpc.aio.ServerInterceptor or grpc.ServerInterceptor
    maximum_concurrent_rpcs   calls at once in one worker; above it RESOURCE_EXHAUSTED
    options       grpcio's (name, value) pairs; those that a listener decides are errors that name the setting
    lifespan      a function of this server that gives an async context manager: entered before the first call
    """

    def __init__(
        self,
        *,
        max_message: int = 4 * MIB,
        max_sent: int = 0,
        compression: Any = None,
        interceptors: Iterable[Any] = (),
        handlers: Iterable[Any] = (),
        maximum_concurrent_rpcs: int | None = None,
        options: Iterable[tuple[str, Any]] = (),
        lifespan: Any = None,
    ) -> None:
        self.max_message = max_message
        self.max_sent = max_sent
        self.compression = coding_name(compression)
        self.interceptors = list(interceptors)
        self.limit = maximum_concurrent_rpcs or 0
        self.lifespan = lifespan
        self.handlers: dict[bytes, Any] = {}
        self.services: dict[str, list[str]] = {}
        self.generic: list[Any] = []
        for name, value in options:
            self.option(name, value)
        self.add_generic_rpc_handlers(handlers)

    def option(self, name: str, value: Any) -> None:
        """One of grpcio's options."""
        if name in SIZES:
            setattr(self, SIZES[name], max(int(value), 0))
        elif name in ELSEWHERE:
            raise AppError(f"the option {name} is not the server's", hint=f"set {ELSEWHERE[name]} in the configuration")
        elif not name.startswith("grpc."):
            raise AppError(f"there is no option {name}")

    # ---- what generated code calls

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """The methods of one service by name."""
        for name, handler in method_handlers.items():
            self.handlers[f"/{service_name}/{name}".encode()] = handler
        names = self.services.setdefault(service_name, [])
        names.extend(name for name in method_handlers if name not in names)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Handlers that are asked about each method that is not registered by name."""
        for handler in generic_rpc_handlers:
            if not callable(getattr(handler, "service", None)):
                raise AppError(f"{handler!r} is no generic handler", hint="it has a method `service`")
            if not self.known(handler):
                self.generic.append(handler)

    def known(self, handler: Any) -> bool:
        """Register what is only a dictionary, as older generated code gives it, by name."""
        methods = getattr(handler, "_method_handlers", None)
        if type(handler).__name__ != "DictionaryGenericHandler" or not isinstance(methods, dict):
            return False
        for path, one in methods.items():
            _, service, name = path.split("/")
            self.add_registered_method_handlers(service, {name: one})
        return True

    # ---- what belongs to the configuration

    def add_insecure_port(self, address: str) -> int:
        """Refused: listeners are configured."""
        raise self.listeners(f'bind = "{address}"')

    def add_secure_port(self, address: str, server_credentials: Any = None) -> int:
        """Refused: listeners are configured."""
        raise self.listeners(f'bind = "{address}" and tls')

    async def start(self) -> None:
        """Refused: `fairlead run` starts it."""
        raise AppError("a gRPC server is started by its route", hint='[[route]] grpc = "module:attribute", then fairlead run')

    def listeners(self, what: str) -> AppError:
        """The error of asking for a port."""
        return AppError("a gRPC server has no ports of its own", hint=f"write [[listener]] with {what} in the configuration")

    def running(self) -> AbstractAsyncContextManager[Any] | None:
        """The lifespan, to be entered, or None."""
        return self.lifespan(self) if self.lifespan is not None else None  # type: ignore[no-any-return]


def coding_name(given: Any) -> str:
    """The name of a compression given as a number of grpc.Compression, or by name."""
    value = getattr(given, "value", given)
    name = CODINGS[value] if isinstance(value, int) and 0 <= value < len(CODINGS) else value
    name = {None: "identity", "none": "identity"}.get(name, name)
    if name not in CODINGS:
        raise ValueError(f"{given!r} is no compression: gzip, deflate, zstd or identity")
    return str(name)
