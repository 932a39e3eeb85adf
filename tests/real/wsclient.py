"""A WebSocket client of our own codec on a plain socket: the client role for the tests that need one."""

import os
import socket
from types import TracebackType
from typing import Self

from fairlead.core.limits import WebSocketLimits
from fairlead.core.message import Response
from fairlead.wire import wsdeflate, wshand
from fairlead.wire.ws import Ear, WebSocket


class Client(Ear):
    """`with Client(port, "/path") as client:`; `say`, `receive`, or `echo` until the end. `ended`: (code, reason)."""

    def __init__(self, port: int, target: str = "/", *, compress: bool = False, headers: tuple = (),
                 echo: bool = False) -> None:  # fmt: skip
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.messages: list[str | bytes] = []
        self.ended: tuple[int, str] | None = None
        self.echoing = echo
        wanted = wsdeflate.Settings(takeover=True, least=0, bits=15)
        extension = wsdeflate.offer(wanted) if compress else b""
        authority = f"127.0.0.1:{port}".encode()
        request = wshand.ask(authority, target.encode(), os.urandom(16), headers=headers, extension=extension)
        fields = b"".join(b"%b: %b\r\n" % pair for pair in [(b"host", authority), *request.headers])
        self.sock.sendall(b"GET %b HTTP/1.1\r\n%b\r\n" % (request.target, fields))
        self.response, rest = self.head()
        wshand.verify(request, self.response)
        agreed = wsdeflate.agreed(wshand.field(self.response, b"sec-websocket-extensions"), wanted) if compress else None
        limits = WebSocketLimits(message=64 << 20, fragments=0, ping=0)
        self.ws = WebSocket(self, limits, True, agreed, lambda: int.from_bytes(os.urandom(4), "big"), 1)
        self.feed(rest)

    def head(self) -> tuple[Response, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            assert more, f"the server closed inside its head: {data!r}"
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        return Response(int(first.split()[1]), fields), rest

    def text(self, message: str) -> bool:
        return self.heard(message)

    def binary(self, message: bytes) -> bool:
        return self.heard(message)

    def heard(self, message: str | bytes) -> bool:
        if self.echoing:
            self.ws.text(message) if isinstance(message, str) else self.ws.binary(message)
        else:
            self.messages.append(message)
        return True

    def closed(self, code: int, reason: str) -> None:
        self.ended = (code, reason)

    def feed(self, data: bytes) -> None:
        self.ws.feed(data, 2)
        self.flush()

    def flush(self) -> None:
        out = b"".join(self.ws.take() or [])
        try:
            self.sock.sendall(out)
        except OSError:
            pass  # it left in the middle: what it said last is still read

    def say(self, *messages: str | bytes) -> None:
        for message in messages:
            self.ws.text(message) if isinstance(message, str) else self.ws.binary(message)
        self.flush()

    def step(self) -> bool:
        """One read; False at the end."""
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            data = b""
        if data:
            self.feed(data)
        else:
            self.ws.eof(2)
        return bool(data) and not self.ws.finished

    def receive(self) -> str | bytes | None:
        """The next message, None at the end."""
        while not self.messages and self.step():
            pass
        return self.messages.pop(0) if self.messages else None

    def echo(self) -> None:
        """Say back what comes, until the end. With `echo=True` from the start, which may be in the handshake's read."""
        self.echoing = True
        while self.step():
            pass

    def close(self, code: int = 1000, reason: str = "") -> tuple[int, str]:
        """The closing handshake; how it ended."""
        self.ws.close(code, reason)
        self.flush()
        while self.ended is None and self.step():
            pass
        assert self.ended is not None
        return self.ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(65536):  # or a reset would overtake what we said last
                pass
        except OSError:
            pass
        self.sock.close()
