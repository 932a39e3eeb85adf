# cython: annotation_typing=False
"""What a QUIC engine is to us: one set of verbs over qh3 (Rust, the default) and aioquic (Python; the second opinion).

    receive(datagrams, peer, now)     take(now) -> [(datagram, peer)]     timer() -> when `tick(now)` is due, or None
    events() -> ("data", stream, bytes, fin) ("reset", stream, code) ("stop", stream, code) ("datagram", bytes) ("done",)
                ("issued", cid) ("retired", cid) ("closed", code, reason)
    send(stream, bytes, fin)  reset(stream, code)  stop(stream, code)  datagram(bytes)  close(code, reason)  ping()
    grant(token) for a client to come again with
    opener(unidirectional) -> stream or -1    unsent(stream or None) -> bytes    key_update()    facts()
    window(now) -> bytes    flow(stream or None) -> bytes

Rules
1. An engine knows no socket and no clock: datagrams and seconds of one monotonic clock go in, datagrams come out.
2. Nothing an engine raises gets out, be it for what a peer sent or of its own making: `failed` says what it was, the connection is
   closed with INTERNAL_ERROR, and every later verb does nothing.
3. While `paused`, stream data stays inside the engine, and it credits the peer nothing (RFC 9000 section 4): the one
   back-pressure there is. Acknowledgements go on.
4. qh3 2.1.0 raises "packet builder capacity exhausted" when it is out of anti-amplification credit (RFC 9000 section 8.1) and
   drops what it had built. Asked packet by packet, that answer means: nothing to send now.
5. qh3's core is shown one address of a client for ever; where the client really is, is ours to find out (`net.quicpaths`).
6. Ids that qh3 makes up itself are random, and told by "issued"; those of aioquic are ours (`Ids`).
7. Once the handshake is over its state is dropped: it is the larger part of a connection's memory.
8. qh3 tells what the peer's flow control takes, and we count what it was handed. While it is paused that is not heard, so who was
   blocked goes on, too, when its bytes are gone; and the count yields to what must have been sent.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from fairlead.net.quicmtu import Discovery
from fairlead.net.quicsettings import QuicSettings
from fairlead.wire.offer import Offered, offered

INTERNAL_ERROR = 0x1
PROTOCOL_VIOLATION = 0xA
AROUND = 48  # bytes of a packet around a DATAGRAM frame's payload: head with an id of 20, number, type and length, tag
log = logging.getLogger("fairlead.error")
Peer = tuple[str, int]


class Engine:
    """One connection. See the module."""

    bare_fin = True  # the end of a stream may be said without bytes

    def __init__(self, settings: QuicSettings) -> None:
        self.settings = settings
        self.queue: deque[tuple[Any, ...]] = deque()
        self.paused = False
        self.failed: BaseException | None = None
        self.parted = False
        self.over = False  # closed, and it will say nothing more
        self.done = False
        self.alpn = ""
        self.asked_name = ""
        self.cipher = ""
        self.resumed = self.early = False
        self.peer_cert: bytes | None = None  # in DER, of a client that showed one
        self.conn: Any = None
        self.mark = 0  # the ECN bits (RFC 3168) of what was taken last
        self.hearing = 0  # and of what is being received
        self.way: Callable[[Peer], int] | None = None  # bytes of a datagram that our own way to a peer takes
        self.mtu = Discovery(self, settings.size, settings.most) if settings.most > settings.size else None

    def protocol(self) -> str:
        """The ALPN that was agreed on; known before the handshake is done, when early data comes."""
        tls = None if self.done else self.conn.tls
        return self.alpn or (tls.alpn_negotiated if tls is not None else "") or ""

    def guarded(self, work: Callable[..., Any], *args: Any) -> Any:
        """Rule 2."""
        if self.failed is not None:
            return None
        try:
            return work(*args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Rust code is no Exception
            self.fail(error)
            return None

    def fail(self, error: BaseException) -> None:
        self.failed = error
        self.over = True
        log.error("the QUIC engine failed: %s: %s", type(error).__name__, error)
        self.queue.append(("closed", INTERNAL_ERROR, f"the QUIC engine failed ({type(error).__name__})"))

    def receive(self, datagrams: list[bytes], peer: Peer, now: float, mark: int = 0) -> None:
        """Datagrams from one peer, with these ECN bits."""
        self.hearing = mark
        self.guarded(self.take_in, datagrams, peer, now)

    def take_in(self, datagrams: list[bytes], peer: Peer, now: float) -> None:
        raise NotImplementedError

    def events(self) -> deque[tuple[Any, ...]]:
        """What happened, to be popped from the left."""
        return self.queue

    def tick(self, now: float) -> None:
        """The timer is due."""
        if self.mtu is not None:
            self.mtu.ticked(now)
        self.guarded(self.run_timer, now)

    def soonest(self, at: float | None) -> float | None:
        """The engine's own deadline, or that of a probe."""
        probe = self.mtu.deadline() if self.mtu is not None else None
        return at if probe is None or (at is not None and at < probe) else probe

    def run_timer(self, now: float) -> None:
        self.conn.handle_timer(now)

    def send(self, stream: int, data: bytes, fin: bool) -> None:
        """Queue bytes of a stream. A stream that the peer has stopped takes nothing."""
        self.guarded(self.say, stream, data, fin)

    def say(self, stream: int, data: bytes, fin: bool) -> None:
        self.conn.send_stream_data(stream, data, fin)

    def reset(self, stream: int, code: int) -> None:
        """RESET_STREAM."""
        self.attempt(self.conn.reset_stream, stream, code)

    def stop(self, stream: int, code: int) -> None:
        """STOP_SENDING."""
        self.attempt(self.conn.stop_stream, stream, code)

    def attempt(self, work: Callable[..., Any], *args: Any) -> None:
        """For verbs that an engine refuses when the stream is over already: then there is nothing to do."""
        if self.failed is not None or self.over:
            return
        try:
            work(*args)
        except Exception as error:
            log.debug("QUIC: %s", error)

    def datagram(self, data: bytes) -> None:
        """A DATAGRAM frame (RFC 9221); lost when the peer takes none, or when no packet can hold it."""
        if len(data) <= self.size() - AROUND:
            self.attempt(self.conn.send_datagram_frame, data)

    def ping(self) -> None:
        """Something that must be acknowledged."""
        self.attempt(self.conn.send_ping, 1)

    def grant(self, token: bytes) -> None:
        """NEW_TOKEN (RFC 9000 section 8.1.3), sent again when it is lost."""
        raise NotImplementedError

    def key_update(self) -> None:
        """New keys (RFC 9001 section 6)."""
        self.attempt(self.conn.request_key_update)

    def close(self, code: int, reason: str, application: bool = True) -> None:
        """CONNECTION_CLOSE, of the application or of the transport."""
        self.attempt(self.conn.close, code, None if application else 0, reason)

    def facts(self) -> dict[str, Any]:
        """What the engine tells of the path: rtt_us, lost, in_flight, window; missing where it does not say."""
        return {}

    def farewell(self, now: float) -> list[tuple[bytes, Peer]]:
        """What a failed engine still makes: CONNECTION_CLOSE with INTERNAL_ERROR, so that the peer comes again at once."""
        if self.failed is None or self.parted or not self.done:
            return []
        self.parted = True
        try:
            self.conn.close(INTERNAL_ERROR, 0, "the server failed")
            return [(data, self.peer() or peer) for data, peer in self.conn.datagrams_to_send(now)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # it does not even say that
            return []

    def take(self, now: float) -> list[tuple[bytes, Peer]]:
        raise NotImplementedError

    def timer(self) -> float | None:
        raise NotImplementedError

    # ---- what path MTU discovery asks (`net.quicmtu`)

    def resize(self, size: int) -> None:
        """Datagrams are of at most `size` bytes from now on."""
        raise NotImplementedError

    def probe(self, size: int, now: float) -> bytes | None:
        """A datagram of exactly `size` bytes that must be acknowledged; `mtu.verdict` is told whether it was. None: not now."""
        raise NotImplementedError

    def trouble(self) -> tuple[int, int, int]:
        """Probe timeouts in a row (RFC 9002 section 6.2), packets lost in all, and the congestion window in bytes."""
        raise NotImplementedError

    def bound(self) -> int:
        """The peer's max_udp_payload_size (RFC 9000 section 18.2)."""
        raise NotImplementedError

    def unsent(self, stream: int | None = None) -> int:
        raise NotImplementedError

    def window(self, now: float) -> int:
        """Bytes that congestion control lets out now: what is left of the window, 0 while the pacer waits (RFC 9002 section 7.7)
        or before the handshake is over.
        """
        raise NotImplementedError

    def size(self) -> int:
        """Bytes of its datagrams, now."""
        return self.mtu.current if self.mtu is not None else self.settings.size

    def flow(self, stream: int | None = None) -> int:
        """Bytes that the peer's flow control takes beyond what was handed in, of a stream or of all; below 0 when more was."""
        raise NotImplementedError

    def opener(self, unidirectional: bool) -> int:
        raise NotImplementedError

    def idle(self) -> bool:
        """Everything that was sent is acknowledged."""
        raise NotImplementedError

    def peer(self) -> Peer | None:
        """The peer's address on the validated path."""
        raise NotImplementedError

    def resume(self) -> None:
        """Not paused any more: pull what waits."""
        raise NotImplementedError


# ---- what both have in common: a TLS context whose hello we look at first


def watch_hello(engine: Engine, context: Any, module: Any) -> None:
    """Choose the certificate by the name in the ClientHello, and let the tickets judge it, before TLS goes on."""
    original = context._server_handle_hello
    settings = engine.settings

    def hello(buffer: Any, *rest: Any) -> Any:
        engine.asked_name, age, early = first_look(buffer, module)
        pair = settings.choose(engine.asked_name)
        context.certificate, context.certificate_chain, context.certificate_private_key = pair
        if settings.tickets is not None:
            judge = settings.tickets.judge(module, engine.asked_name, age, early, settings.early_data)
            context.get_session_ticket_cb = judge
        auth = settings.asking(engine, context, module, rest[1]) if settings.trust is not None else None
        found = original(buffer, *rest)
        if auth is not None:
            auth.over()
        return found

    context._server_handle_hello = hello
    context._max_early_data = 0xFFFFFFFF if settings.early_data else None


def first_look(buffer: Any, module: Any) -> Offered:
    """Name, age of the ticket and early data of the ClientHello in an engine's buffer, which stays where it is."""
    at = buffer.tell()
    plain = offered(bytes(buffer.data_slice(at, buffer.capacity)))
    if plain is not None:
        return plain
    told = module.pull_client_hello(buffer)
    buffer.seek(at)
    found = told.pre_shared_key.identities if told.pre_shared_key is not None else []
    return told.server_name or "", found[0][1] if len(found) == 1 else 0, bool(told.early_data)


def keeper(engine: Engine, module: Any) -> Any:
    """Who is given each ticket that was issued, or None when there are none."""
    tickets = engine.settings.tickets
    if tickets is None:
        return None
    return lambda ticket: tickets.keep(ticket, engine.asked_name, module)
