"""An HTTP/3 client for tests, over aioquic's or qh3's own QUIC and HTTP/3, on a bare UDP socket: so a test can move it to another
address, keep a flight and send it again, or lose, delay and double what goes in and out.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

PATIENCE = 30.0


class Answer:
    """What came on one stream."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def status(self) -> int:
        return int(self.headers[":status"])


class Client(asyncio.DatagramProtocol):
    """`async with Client("aioquic", port) as client: answer = await client.get("/")`."""

    def __init__(self, library: str, port: int, *, ticket: Any = None, host: str = "127.0.0.1", name: str = "localhost",
                 early: bool = False, cert: tuple[str, str] | None = None, **options: Any) -> None:  # fmt: skip
        self.library = library
        self.address = (host, port)
        self.early = early
        quic = importlib.import_module(f"{library}.quic.connection")
        self.h3 = importlib.import_module(f"{library}.h3.connection")
        configuration = importlib.import_module(f"{library}.quic.configuration").QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], server_name=name, session_ticket=ticket, verify_mode=ssl.CERT_NONE
        )
        configuration.supported_versions = [1]
        for key, value in options.items():
            setattr(configuration, key, value)
        if cert is not None:
            configuration.load_cert_chain(*cert)
        self.tickets: list[Any] = []
        self.quic = quic.QuicConnection(configuration=configuration, session_ticket_handler=self.tickets.append)
        self.tokens: list[bytes] = []  # to come again with (NEW_TOKEN)
        if library == "aioquic":
            self.quic._token_handler = self.tokens.append
        self.answers: dict[int, Answer] = {}
        self.sent: list[bytes] = []
        self.closed: Any = None
        self.resumed = self.early_accepted = False
        self.out: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.heard_from: Callable[[bytes], bool] = lambda data: True
        self.timer: Any = None
        self.transports: list[Any] = []

    # ---- life

    async def __aenter__(self) -> Client:
        self.loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = self.loop.create_future()
        self.over: asyncio.Future[None] = self.loop.create_future()
        await self.move()
        self.quic.connect(self.address, self.loop.time())
        if self.early:
            self.http = self.h3.H3Connection(self.quic)
        self.transmit()
        if not self.early:
            await asyncio.wait_for(self.connected, PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.closed is None:
            self.quic.close(error_code=0x100)
            self.transmit()
        if self.timer is not None:
            self.timer.cancel()
        for transport in self.transports:
            transport.close()

    async def move(self) -> None:
        """Another address of ours, from now on."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        transport, _ = await self.loop.create_datagram_endpoint(lambda: self, sock=sock)
        self.transports.append(transport)

    # ---- requests

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, fields: Any = (), end: bool = True) -> Answer:
        """Say a request; its answer comes."""
        stream = self.quic.get_next_available_stream_id()
        answer = self.answers[stream] = Answer()
        answer.stream = stream  # type: ignore[attr-defined]
        head = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
        self.http.send_headers(stream, [*head, *fields], end_stream=body is None and end)
        if body is not None:
            self.http.send_data(stream, body, end)
        self.transmit()
        return answer

    async def get(self, path: str, **given: Any) -> Answer:
        """A request and its whole answer."""
        answer = self.ask(path, **given)
        await asyncio.wait_for(answer.done, PATIENCE)
        return answer

    async def post(self, path: str, body: bytes) -> Answer:
        return await self.get(path, method="POST", body=body)

    # ---- the wire

    def transmit(self) -> None:
        for data, _ in self.quic.datagrams_to_send(self.loop.time()):
            self.sent.append(data)
            for one in self.out(data):
                self.transports[-1].sendto(one, self.address)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        at = self.quic.get_timer()
        if at is not None and self.closed is None:
            self.timer = self.loop.call_at(at, self.tick)

    def tick(self) -> None:
        self.timer = None
        self.quic.handle_timer(max(self.loop.time(), self.quic.get_timer() or 0))
        self.hear()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.heard_from(data):
            self.quic.receive_datagram(data, self.address, self.loop.time())
            self.hear()

    def hear(self) -> None:
        while (event := self.quic.next_event()) is not None:
            kind = type(event).__name__
            if kind == "HandshakeCompleted":
                self.resumed, self.early_accepted = event.session_resumed, event.early_data_accepted
                if not self.early:
                    self.http = self.h3.H3Connection(self.quic)
                if not self.connected.done():
                    self.connected.set_result(None)
            elif kind == "ConnectionTerminated":
                self.ended(event)
            elif kind == "StreamReset" and event.stream_id in self.answers:
                self.answers[event.stream_id].done.cancel()
            if hasattr(self, "http"):
                for told in self.http.handle_event(event):
                    self.heard(told)
        self.transmit()

    def heard(self, told: Any) -> None:
        answer = self.answers.get(getattr(told, "stream_id", -1))
        if answer is None:
            return
        if hasattr(told, "headers"):
            answer.headers.update({name.decode(): value.decode() for name, value in told.headers})
            if not answer.begun.done():
                answer.begun.set_result(None)
        if hasattr(told, "data"):
            answer.body += told.data
        if getattr(told, "stream_ended", False) and not answer.done.done():
            answer.done.set_result(None)

    def ended(self, event: Any) -> None:
        self.closed = event
        for future in (self.connected, self.over, *(answer.done for answer in self.answers.values())):
            if not future.done():
                if future is self.over:
                    future.set_result(None)
                else:
                    future.set_exception(ConnectionError(f"{int(event.error_code):#x} {event.reason_phrase}"))
                    future.exception()
