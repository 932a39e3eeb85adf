# cython: annotation_typing=False
"""QUIC by qh3 (Rust): its packets and streams, our way of hearing them. See `net.quicverbs` for the verbs and the rules.

Private names of qh3 2.1 are used (`_core`, `_drain_core`, ...), because its facade makes an object for every event and hides the
core's own word for "nothing to send". The version is pinned for that.
"""

from __future__ import annotations

import logging
from typing import Any

from fairlead.net import quicsize
from fairlead.net.quicbeside import AGAIN, HEAD, STAYS, Beside
from fairlead.net.quicflow import FAR, Flow
from fairlead.net.quicmtu import REORDERED
from fairlead.net.quicseal import initial_keys
from fairlead.net.quicsettings import VERSION, QuicSettings
from fairlead.net.quictls import Refused, ServerTls
from fairlead.net.quicverbs import PROTOCOL_VIOLATION, Peer, keeper, watch_hello
from fairlead.wire.quicframes import PING, acknowledged

try:
    import qh3.quic.connection as qh3_connection
    import qh3.tls as qh3_tls
    from qh3.quic.packet import encode_quic_retry as qh3_retry  # noqa: F401
    from qh3.quic.tls_bridge import QuicTlsBridgeError

    from fairlead.net import quicqh3tls
except ImportError:
    qh3_connection = None  # type: ignore[assignment]

CRYPTO = 6  # the frame's type


if qh3_connection is not None:
    logging.getLogger("quic").setLevel(logging.CRITICAL)  # what peers do wrong is told in our own log

    class Qh3Connection(qh3_connection.QuicConnection):
        """qh3's facade with our own way of hearing its core."""

        def __init__(self, engine: Qh3Engine, reset_token: bytes | None, **given: Any) -> None:
            super().__init__(**given)
            self.engine = engine
            self.reset_token = reset_token
            self.nameless = False
            self.proven = False  # a token said where the client is
            self.quick: ServerTls | None = None

        def _create_tls(self, remote_source_cid: bytes | None) -> Any:
            """Ours (`net.quictls`) for a server that it can serve, else qh3's."""
            settings = self.engine.settings
            if self._is_client or settings.trust is not None or self._quic_logger is not None or self._version != VERSION:
                return self.thorough(remote_source_cid)
            if quicqh3tls.strange():
                return self.thorough(remote_source_cid)
            if not settings.told:
                settings.told = quicqh3tls.common_parameters(self._configuration)
            original = self._original_destination_connection_id or b""
            own = quicqh3tls.own_parameters(self.host_cid, original, self.reset_token, self._retry_source_connection_id)
            self._tls = self.quick = ServerTls(settings, settings.told + own)  # type: ignore[assignment]
            return self.quick

        @property
        def tls(self) -> Any:
            """qh3's, where it is used."""
            return None if self._tls is None or self.quick is not None else self._tls.tls

        def thorough(self, remote_source_cid: bytes | None) -> Any:
            """qh3's TLS."""
            self.quick = None
            made = self._tls = quicqh3tls.Bridge(
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
            made.engine = self.engine
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
            retried = self._retry_source_connection_id
            if self.proven:
                self._retry_source_connection_id = b"proven"  # there is no other way to tell it that the address is
            if self.nameless:
                self.host_cid = initial_dcid
            super()._create_core(remote_addr, b"" if self.nameless else initial_dcid, now)
            self._retry_source_connection_id = retried
            if not self.nameless:
                return
            for direction, label in (("receive", "client in"), ("send", "server in")):
                secret, key, iv, hp = initial_keys(initial_dcid, label)
                suite = ("aes-128-gcm", "aes-128-ecb")
                self._require_core().install_packet_key(direction, 0, suite, key, iv, hp, 0, secret, VERSION)

        def _learn_remote_source_cid(self, data: bytes) -> None:
            if self.quick is not None:
                if not self.quick.source and not self.nameless and data[0] & 0x80:
                    at = 6 + data[5]
                    self.quick.source = data[at + 1 : at + 1 + data[at]]
                return
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
                    engine.credit.finished(native[1])
                elif kind in ("stream_credit", "connection_credit"):
                    engine.credit.heard(native)
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
                elif kind == "ping_acknowledged" and native[1] == engine.awaited:
                    engine.token = b""
                elif kind == "peer_closed":
                    self.ended(native[2], native[4])
                elif kind in ("protocol_error", "connection_terminated"):
                    self.ended(native[1], native[3])

        def heard_crypto(self, native: tuple[Any, ...]) -> None:
            tls, core = self._tls, self._require_core()
            if tls is None:  # a client says nothing of TLS once its handshake is over (RFC 9001 section 4.1.3, 6)
                core.close(PROTOCOL_VIOLATION, CRYPTO, b"CRYPTO after the handshake")
                return
            _, epoch, offset, data = native[:4]
            quick = self.quick
            if quick is not None:
                if self.heard_quick(quick, core, epoch, data):
                    return
                offset, data = 0, quick.held
                tls = self.thorough(quick.source if quick.source or self.nameless else None)
            try:
                tls.receive_crypto(qh3_tls.Epoch(epoch), data, offset, version=core.version)
                self._drain_tls()
            except QuicTlsBridgeError as error:
                core.close(error.error_code, int(error.frame_type), error.reason_phrase.encode())
                self.ended(error.error_code, error.reason_phrase)

        def heard_quick(self, tls: ServerTls, core: Any, epoch: int, data: bytes) -> bool:
            """For our own TLS; False when qh3's is to have it."""
            try:
                if tls.receive(epoch, data):
                    if tls.keys:
                        quicqh3tls.further(self, tls, core)
                    return True
            except Refused as error:
                core.close(error.code, CRYPTO, str(error).encode())
                self.ended(error.code, str(error))
                return True
            return False

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


class Qh3Engine(Beside):
    """On qh3."""

    bare_fin = False  # 2.1: a STREAM frame with nothing but FIN is not sent again when it is lost

    def __init__(self, settings: QuicSettings, reset_token: bytes | None, **given: Any) -> None:
        super().__init__(settings)
        self.probed = -1  # the number of a probe that is under way
        handler = given.pop("session_ticket_handler", None) or keeper(self, qh3_tls)
        fetcher = (lambda _: None) if handler is not None and not settings.client else None
        self.credit = Flow(settings.client)
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
        if not self.settings.client:
            if self.at is None:
                self.shown = self.at = peer
            elif self.done:
                datagrams = self.placed(datagrams, peer, now)
            peer = self.shown  # type: ignore[assignment]
        else:
            self.got += len(datagrams)
        if self.done:
            if self.probed >= 0:
                self.look(datagrams, now)
            if conn._quic_logger is not None:
                for one in datagrams:
                    conn._log_packets("packet_received", one)
            flying = conn._core.bytes_in_flight if self.room else 0
            had = conn._core.get_send_buffer_size(None)
            if len(datagrams) == 1:
                conn._core.receive_datagram(datagrams[0], peer, now, len(datagrams[0]))
            else:
                conn._core.receive_many_datagrams(datagrams, peer, now)
            if self.room:
                self.widen(flying)
            self.credit.sum -= had - conn._core.get_send_buffer_size(None)  # what a STOP_SENDING made it drop
            if self.shaky:
                self.ready = self.take(now)
                if self.shaky and now < self.held_until:
                    return
            conn._drain_core()
            return
        for one in datagrams:
            before = len(self.queue)
            conn.receive_datagram(one, peer, now)
            if conn._handshake_complete and not self.done:
                self.given = now + STAYS - AGAIN
                self.finish(before)

    def finish(self, place: int) -> None:
        """The handshake is over: said before what the same datagram brought."""
        conn, tls, quick = self.conn, self.conn.tls, self.conn.quick
        self.done = True
        if quick is not None:
            self.resumed, self.early, self.cipher = quick.resumed, quick.early, quick.suite.name
            self.cid_size = len(quick.source)
        else:
            self.alpn = tls.alpn_negotiated or ""
            self.cid_size = len(conn._tls.remote_initial_source_connection_id or b"")
            self.resumed, self.early = tls.session_resumed, tls.early_data_accepted
            self.cipher = f"TLS_{tls.key_schedule.cipher_suite.name}" if tls.key_schedule is not None else ""
        if self.cipher.startswith("TLS_TLS_"):
            self.cipher = self.cipher[4:]
        conn._events.clear()
        self.queue.insert(place, ("done",))
        if not self.settings.client and conn._quic_logger is None:
            conn._tls = conn.quick = None

    def run_timer(self, now: float) -> None:
        core = self.conn._core
        if core is not None:
            self.spare = 2
            core.handle_timer(now)
            self.conn._drain_core()
            if self.paths is not None:
                self.paths.tick(now)

    def resume(self) -> None:
        """Not paused any more: pull what waits."""
        self.paused = False
        if self.conn._core is not None:
            self.guarded(self.conn._drain_core)

    def take(self, now: float) -> list[tuple[bytes, Peer]]:
        """Datagrams to send."""
        core, at = self.conn._core, self.at
        out: list[tuple[bytes, Peer]] = []
        if core is None or self.failed is not None:
            return out
        if self.ready:
            out, self.ready = self.ready, []
        mtu = self.mtu if self.done else None
        if mtu is not None:
            mtu.before(now)
        poll = core.poll_transmit
        try:
            while not self.room or self.has_room(core):
                one = poll(now)
                if one is None:
                    break
                out.append((one[0], at or one[1]))
        except RuntimeError as error:
            if "capacity" not in str(error):  # rule 4
                self.fail(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.fail(error)
        self.look_at_window(core, now)
        if self.token and self.done and self.failed is None and now >= self.given + AGAIN:
            self.guarded(self.give, now, out)
        if out:
            self.head = out[-1][0][:HEAD]
            self.said += len(out)
            if mtu is not None and self.failed is None:
                self.guarded(mtu.after, now, out)
        if self.paths is not None and self.paths.replies and self.failed is None:
            out += self.guarded(self.paths.flush, now) or ()
        if self.conn._quic_logger is not None:
            for one, _ in out:
                self.conn._log_packets("packet_sent", one)
        if core.state == "terminated":
            self.over = True
            self.conn.end_log()
        return out

    def say(self, stream: int, data: bytes, fin: bool) -> None:
        conn = self.conn
        if not self.done:
            conn.send_stream_data(stream, data, fin)
        elif conn._core.can_send_stream(stream):
            conn._record_local_stream(stream)
            conn._core.send_stream(stream, data, fin)
        else:
            return
        self.credit.said(stream, len(data))

    def reset(self, stream: int, code: int) -> None:
        self.credit.sum -= self.unsent(stream)
        super().reset(stream, code)

    def flow(self, stream: int | None = None) -> int:
        told = self.conn._applied_transport_parameters
        return self.credit.of_all(told, self.unsent()) if stream is None else self.credit.left(told, stream)

    def timer(self) -> float | None:
        core = self.conn._core
        if core is None or self.failed is not None:
            return None
        found = core.get_timer()
        at = None if found is None else float(found[1])
        if self.shaky and self.held_until and core.has_events:
            at = self.held_until if at is None else min(at, self.held_until)
        if self.paths is not None and (due := self.paths.due()) is not None:
            at = due if at is None else min(at, due)
        return self.soonest(at)

    # ---- path MTU discovery: a probe is sealed beside the core, with a number that the core is made to skip

    def resize(self, size: int) -> None:
        core, mtu = self.conn._core, self.mtu
        if core is None or mtu is None:
            return
        if quicsize.resize(core, (self.made_of, self.settings.size), size):
            self.made_of = size
        else:
            mtu.off = True

    def trouble(self) -> tuple[int, int, int]:
        core = self.conn._core
        return core.pto_count, core.loss_total, min(core.congestion_window, self.room or core.congestion_window)

    def bound(self) -> int:
        return int(self.conn._applied_transport_parameters.max_udp_payload_size or 65527)

    def probe(self, size: int, now: float) -> bytes | None:
        core, mtu = self.conn._core, self.mtu
        if mtu is not None and quicsize.place(type(core)) < 0:
            mtu.off = True
            return None
        self.turned()
        packet = self.sealed(bytes((PING,)), size)
        self.probed = -1 if packet is None else self.said - 1
        return packet

    def look(self, datagrams: list[bytes], now: float) -> None:
        """Is the probe acknowledged, or what was sent behind it?"""
        self.turned()
        for one in datagrams:
            found = self.opened(one)
            ranges = acknowledged(found[2]) if found is not None else []
            arrived = any([first <= self.probed <= last for first, last in ranges])
            if arrived or (ranges and ranges[0][1] >= self.probed + REORDERED):
                self.probed = -1
                if self.mtu is not None:
                    self.mtu.verdict(arrived, now)
                return

    def unsent(self, stream: int | None = None) -> int:
        """Bytes that were not sent for the first time yet, of a stream or of all."""
        if self.failed is not None or self.over:
            return 0
        conn = self.conn
        if conn._pre_handshake_state_replayed and conn._close_event is None:
            return int(conn._core.get_send_buffer_size(stream))
        return int(conn.get_send_buffer_size(stream))

    def window(self, now: float) -> int:
        core = self.conn._core
        if core is None or not self.done or self.failed is not None:
            return 0
        if (due := core.get_timer()) is not None and due[0] == "pacing" and due[1] > now:
            return 0
        return int(min(core.congestion_window, self.room or FAR)) - int(core.bytes_in_flight)

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
        return self.at

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
