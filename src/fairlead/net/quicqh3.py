# cython: annotation_typing=False
"""QUIC by qh3 (Rust): its packets and streams, our way of hearing them. See `net.quicverbs` for the verbs and the rules.

Private names of qh3 2.1 are used (`_core`, `_drain_core`, ...), because its facade makes an object for every event and hides the
core's own word for "nothing to send". The version is pinned for that.
"""

from __future__ import annotations

import hmac
import logging
from typing import Any

from fairlead.net.quicsettings import VERSION, QuicSettings
from fairlead.net.quicverbs import PROTOCOL_VIOLATION, Engine, Peer, keeper, watch_hello
from fairlead.wire.h3frames import varint

try:
    import qh3.quic.connection as qh3_connection
    import qh3.quic.crypto as qh3_crypto
    import qh3.tls as qh3_tls
    from qh3.quic.packet import encode_quic_retry as qh3_retry  # noqa: F401
    from qh3.quic.tls_bridge import QuicTlsBridge, QuicTlsBridgeError
except ImportError:
    qh3_connection = None  # type: ignore[assignment]

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")  # of version 1


if qh3_connection is not None:
    logging.getLogger("quic").setLevel(logging.CRITICAL)  # what peers do wrong is told in our own log

    def expand_label(algorithm: int, secret: bytes, label: bytes, hash_value: bytes, length: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446 section 7.1), in one call of OpenSSL for what one block holds: all but odd lengths."""
        if length > algorithm >> 3:
            return bytes(qh3_expand(algorithm, secret, label, hash_value, length))
        name = b"tls13 " + label
        info = b"".join((length.to_bytes(2, "big"), bytes((len(name),)), name, bytes((len(hash_value),)), hash_value, b"\1"))
        return hmac.digest(secret, info, f"sha{algorithm}")[:length]

    qh3_expand = qh3_tls.hkdf_expand_label
    probes = [(bits, b"s" * 32, b"quic key", b"h" * 32, 16) for bits in (256, 384)]
    if all([expand_label(*one) == qh3_expand(*one) for one in probes]):
        for module in (qh3_tls, qh3_crypto):  # a handshake derives 23 keys, and qh3's own way takes a tenth of its time
            setattr(module, "hkdf_expand_label", expand_label)  # noqa: B010

    class Bridge(QuicTlsBridge):
        """qh3's TLS, with a server's transport parameters written at once: its own way takes 64 KiB of memory for each."""

        def serialize_transport_parameters(self) -> bytes:
            configuration = self.configuration
            if configuration.is_client or self._quic_logger is not None:
                return bytes(super().serialize_transport_parameters())
            return parameters(self, configuration)

    def parameters(bridge: Any, configuration: Any) -> bytes:
        """What a server says (RFC 9000 section 18.2), as qh3 would: streams are as many as its core allows."""
        versions = (bridge.version, *configuration.supported_versions)
        window = configuration.max_stream_data
        numbers = (
            (0x04, configuration.max_data), (0x01, int(configuration.idle_timeout * 1000)), (0x07, window), (0x06, window),
            (0x05, window), (0x08, 100), (0x09, 103), (0x0A, 3), (0x0B, 25),
            (0x0E, 8 if configuration.active_connection_id_limit is None else configuration.active_connection_id_limit),
            (0x20, configuration.max_datagram_frame_size),
        )  # fmt: skip
        strings = (
            (0x0F, bridge.local_initial_source_connection_id),
            (0x00, bridge.original_destination_connection_id),
            (0x02, bridge.stateless_reset_token),
            (0x10, bridge.retry_source_connection_id),
            (0x11, b"".join([int(one).to_bytes(4, "big") for one in versions])),
        )
        out: list[bytes] = []
        for kind, number in numbers:
            if number is not None:
                body = varint(number)
                out += (varint(kind), varint(len(body)), body)
        for kind, text in strings:
            if text is not None:
                out += (varint(kind), varint(len(text)), text)
        return b"".join(out)

    class Qh3Connection(qh3_connection.QuicConnection):
        """qh3's facade with our own way of hearing its core."""

        def __init__(self, engine: Qh3Engine, reset_token: bytes | None, **given: Any) -> None:
            super().__init__(**given)
            self.engine = engine
            self.reset_token = reset_token
            self.nameless = False

        def _create_tls(self, remote_source_cid: bytes | None) -> Any:
            made = self._tls = Bridge(
                self._configuration,
                version=self._version or 1,
                local_initial_source_connection_id=self.host_cid,
                remote_initial_source_connection_id=remote_source_cid,
                original_destination_connection_id=self._original_destination_connection_id,
                retry_source_connection_id=self._retry_source_connection_id,
                stateless_reset_token=self.reset_token,
                session_ticket_fetcher=self._session_ticket_fetcher,
                session_ticket_handler=self._session_ticket_handler,
                quic_logger=self._quic_logger,
                version_change_handler=self._set_version,
            )
            if not self._is_client:
                watch_hello(self.engine, made.tls, qh3_tls)
            return made

        # qh3 2.1 takes a client that uses no connection id, as browsers do, for one whose id is not known yet, and goes on to call
        # it by the id that the client made up for us. So we tell the core that its peer has no id, and give it the keys of that
        # made-up one. The core then takes packets with ids of its own only: the made-up one is our first.

        def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
            if self._core is None and not self._is_client and data[0] & 0x80:
                at = 6 + data[5]
                self.nameless = at < len(data) and data[at] == 0
            super().receive_datagram(data, addr, now)

        def _create_core(self, remote_addr: Any, initial_dcid: bytes, now: float) -> None:
            if not self.nameless:
                super()._create_core(remote_addr, initial_dcid, now)
                return
            self.host_cid = initial_dcid
            super()._create_core(remote_addr, b"", now)
            for direction, label in (("receive", "client in"), ("send", "server in")):
                secret, key, iv, hp = initial_keys(initial_dcid, label)
                self._require_core().install_packet_key(
                    direction, 0, ("aes-128-gcm", "aes-128-ecb"), key, iv, hp, 0, secret, VERSION
                )

        def _learn_remote_source_cid(self, data: bytes) -> None:
            super()._learn_remote_source_cid(data)
            if self.nameless and self._tls is not None:
                self._tls.remote_initial_source_connection_id = b""

        def _drain_core(self) -> None:
            """As the original, but events stay tuples, and none is pulled while the engine is paused."""
            engine, core = self.engine, self._require_core()
            queue = engine.queue
            while not engine.paused or core.state in ("draining", "terminated"):
                native = core.next_event()
                if native is None:
                    return
                kind = native[0]
                if kind == "stream_data":
                    queue.append(("data", native[1], native[2], native[3]))
                elif kind == "crypto_data":
                    self.heard_crypto(native)
                elif kind == "stream_reset":
                    queue.append(("reset", native[1], native[2]))
                elif kind == "stop_sending":
                    queue.append(("stop", native[1], native[2]))
                elif kind == "stream_finished":
                    self._created_local_stream_ids.discard(native[1])
                elif kind == "datagram":
                    queue.append(("datagram", native[1]))
                elif kind == "connection_id_issued":
                    queue.append(("issued", native[1]))
                elif kind == "connection_id_retired":
                    queue.append(("retired", native[1]))
                elif kind == "handshake_done":
                    self._handshake_confirmed = True
                    core.handshake_confirmed()
                elif kind == "new_token":
                    self._peer_token = native[1]
                elif kind == "peer_closed":
                    self.ended(native[2], native[4])
                elif kind in ("protocol_error", "connection_terminated"):
                    self.ended(native[1], native[3])

        def heard_crypto(self, native: tuple[Any, ...]) -> None:
            tls, core = self._tls, self._require_core()
            if tls is None:  # a client says nothing of TLS once its handshake is over (RFC 9001 section 4.1.3, 6)
                core.close(PROTOCOL_VIOLATION, 6, b"CRYPTO after the handshake")
                return
            try:
                tls.receive_crypto(qh3_tls.Epoch(native[1]), native[3], native[2], version=core.version)
                self._drain_tls()
            except QuicTlsBridgeError as error:
                core.close(error.error_code, int(error.frame_type), error.reason_phrase.encode())
                self.ended(error.error_code, error.reason_phrase)

        def ended(self, code: int, reason: Any) -> None:
            """The connection is closing, or closed: told once."""
            self.end_log()
            if self._close_event is None:
                text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason or "")
                self._close_event = qh3_connection.events.ConnectionTerminated(code, None, text)
                self.engine.queue.append(("closed", code, text))

        def end_log(self) -> None:
            """The qlog file is written when the connection is over; a disk that does not take it is no fault of the connection."""
            try:
                self._end_trace()
            except OSError as error:
                logging.getLogger("fairlead.error").warning("no qlog: %s", error)


def initial_keys(cid: bytes, label: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Secret, key, iv and header protection key of one side's Initial packets (RFC 9001 section 5.2)."""

    def expand(secret: bytes, label: str, size: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0\1"
        return hmac.digest(secret, info, "sha256")[:size]

    secret = expand(hmac.digest(SALT, cid, "sha256"), label, 32)
    return secret, expand(secret, "quic key", 16), expand(secret, "quic iv", 12), expand(secret, "quic hp", 16)


class Qh3Engine(Engine):
    """On qh3."""

    bare_fin = False  # 2.1: a STREAM frame with nothing but FIN is not sent again when it is lost
    most_moves = 3

    def __init__(self, settings: QuicSettings, reset_token: bytes | None, **given: Any) -> None:
        super().__init__(settings)
        handler = given.pop("session_ticket_handler", None) or keeper(self, qh3_tls)
        fetcher = (lambda _: None) if handler is not None and not settings.client else None
        self.heard_from: Peer | None = None
        self.strange = False  # packets came from more than one address
        self.conn = Qh3Connection(
            self,
            reset_token,
            configuration=settings.qh3(),
            session_ticket_handler=handler,
            session_ticket_fetcher=fetcher,
            **given,
        )

    def take_in(self, datagrams: list[bytes], peer: Peer, now: float) -> None:
        conn = self.conn
        if peer != self.heard_from:
            self.strange, self.heard_from = self.heard_from is not None, peer
        if self.done:
            if conn._quic_logger is not None:
                for one in datagrams:
                    conn._log_packets("packet_received", one)
            if len(datagrams) == 1:
                conn._core.receive_datagram(datagrams[0], peer, now, len(datagrams[0]))
            else:
                conn._core.receive_many_datagrams(datagrams, peer, now)
            conn._drain_core()
            return
        for one in datagrams:
            before = len(self.queue)
            conn.receive_datagram(one, peer, now)
            if conn._handshake_complete and not self.done:
                self.finish(before)

    def finish(self, place: int) -> None:
        """The handshake is over: said before what the same datagram brought."""
        conn, tls = self.conn, self.conn._tls.tls
        self.done = True
        self.alpn = tls.alpn_negotiated or ""
        self.resumed, self.early = tls.session_resumed, tls.early_data_accepted
        self.cipher = f"TLS_{tls.key_schedule.cipher_suite.name}" if tls.key_schedule is not None else ""
        if self.cipher.startswith("TLS_TLS_"):
            self.cipher = self.cipher[4:]
        conn._events.clear()
        self.queue.insert(place, ("done",))
        if not self.settings.client and conn._quic_logger is None:
            conn._tls = None

    def run_timer(self, now: float) -> None:
        core = self.conn._core
        if core is not None:
            core.handle_timer(now)
            self.conn._drain_core()

    def resume(self) -> None:
        """Not paused any more: pull what waits."""
        self.paused = False
        if self.conn._core is not None:
            self.guarded(self.conn._drain_core)

    def take(self, now: float) -> list[tuple[bytes, Peer]]:
        """Datagrams to send."""
        core = self.conn._core
        out: list[tuple[bytes, Peer]] = []
        if core is None or self.failed is not None:
            return out
        poll = core.poll_transmit
        try:
            while True:
                one = poll(now)
                if one is None:
                    break
                out.append((one[0], one[1]))
        except RuntimeError as error:
            if "capacity" not in str(error):  # rule 4
                self.fail(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.fail(error)
        if self.strange and not out and self.stalled(now, out):
            self.fail(RuntimeError("it waits for an address that does not answer"))
        if self.conn._quic_logger is not None:
            for one, _ in out:
                self.conn._log_packets("packet_sent", one)
        if core.state == "terminated":
            self.over = True
            self.conn.end_log()
        return out

    def stalled(self, now: float, out: list[tuple[bytes, Peer]]) -> bool:
        """Rule 5's end: qh3 2.1 sends a PATH_CHALLENGE again for each that is lost, and when a path has no credit left for one
        (RFC 9000
        section 8.2.1) it sends nothing at all any more, to nobody. Seen by a PING that does not leave though nothing is in flight.
        """
        core = self.conn._core
        if core.state != "connected" or core.bytes_in_flight or not self.done or not self.unsent():
            return False
        due = core.get_timer()
        if due is not None and due[0] != "idle":
            return False
        core.send_ping(1)
        one = core.poll_transmit(now)
        if one is not None:
            out.append((one[0], one[1]))
        return one is None

    def say(self, stream: int, data: bytes, fin: bool) -> None:
        conn = self.conn
        if not self.done:
            conn.send_stream_data(stream, data, fin)
        elif conn._core.can_send_stream(stream):
            conn._record_local_stream(stream)
            conn._core.send_stream(stream, data, fin)

    def timer(self) -> float | None:
        core = self.conn._core
        if core is None or self.failed is not None:
            return None
        found = core.get_timer()
        return None if found is None else float(found[1])

    def unsent(self, stream: int | None = None) -> int:
        """Bytes that were not sent for the first time yet, of a stream or of all."""
        if self.failed is not None or self.over:
            return 0
        conn = self.conn
        if conn._pre_handshake_state_replayed and conn._close_event is None:
            return int(conn._core.get_send_buffer_size(stream))
        return int(conn.get_send_buffer_size(stream))

    def opener(self, unidirectional: bool) -> int:
        """A new stream of ours, or -1 while the peer allows none."""
        conn, core = self.conn, self.conn._core
        if core is None or self.failed is not None or self.over:
            return -1
        number = conn.get_next_available_stream_id(unidirectional)
        if conn._transport_parameters_applied and number // 4 >= core.stream_limits[1 if unidirectional else 0]:
            return -1
        conn._open_stream(unidirectional)
        return int(number)

    def peer(self) -> Peer | None:
        core = self.conn._core
        return None if core is None else core.active_path[2]

    def idle(self) -> bool:
        core = self.conn._core
        return core is None or (core.bytes_in_flight == 0 and self.unsent() == 0)

    def facts(self) -> dict[str, Any]:
        core = self.conn._core
        if core is None:
            return {}
        return {
            "rtt_us": round((core.smoothed_rtt or 0.0) * 1e6),
            "lost": core.loss_total,
            "timeouts": core.pto_total,
            "in_flight": core.bytes_in_flight,
            "window": core.congestion_window,
        }
