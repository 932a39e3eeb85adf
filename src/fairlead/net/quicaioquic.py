"""QUIC by aioquic (Python): the second engine. See `net.quicverbs` for the verbs and the rules."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from fairlead.net.quicecn import CE, ECT0, ECT1, Marking
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.quicverbs import PROTOCOL_VIOLATION, Engine, Peer, keeper, watch_hello

try:
    import aioquic.quic.connection as aio_connection
    import aioquic.tls as aio_tls
    from aioquic.quic.packet import encode_quic_retry as aio_retry  # noqa: F401
except ImportError:
    aio_connection = None  # type: ignore[assignment]

log = logging.getLogger("fairlead.error")

if aio_connection is not None:

    NEW_TOKEN = aio_connection.QuicFrameType.NEW_TOKEN

    class AioquicConnection(aio_connection.QuicConnection):
        """aioquic's, with ids of ours and credit that can be held back."""

        def __init__(self, engine: AioquicEngine, ids: Any, **given: Any) -> None:
            super().__init__(**given)
            self.engine = engine
            self.ids = ids
            self.proven = False  # a token said where the client is
            self.token = b""  # to be sent
            self.marking = Marking(engine.settings.ecn)
            self.marked = 0  # packets with a mark that an acknowledgement told of
            self.tell_sent = self._loss.on_packet_sent
            self._loss.on_packet_sent = self.count_sent  # type: ignore[method-assign]
            self.most = 65527  # bytes of a datagram that the peer takes
            self.probing = -1
            self.lost = 0
            self.tell_lost = self._loss._on_packets_lost
            self._loss._on_packets_lost = self.count_lost  # type: ignore[method-assign]

        def count_lost(self, *, packets: Any, congestion_event: bool = True, **given: Any) -> None:
            """aioquic tells its log only; a probe's packets (no `congestion_event`) may have arrived."""
            packets = list(packets)
            self.lost += sum([one.in_flight for one in packets]) if congestion_event else 0
            self.tell_lost(packets=packets, congestion_event=congestion_event, **given)

        # ECN (RFC 9000 section 13.4): `space.marks` has how many packets came as ECT(0), ECT(1) and CE

        def count_sent(self, *, packet: Any, space: Any) -> None:
            """As recovery's own; a packet that leaves with a mark tells us what becomes of it."""
            if self.engine.mark:
                self.marking.sent(packet.epoch)
                packet.delivery_handlers.append((self.mark_done, ()))
            self.tell_sent(packet=packet, space=space)

        def mark_done(self, state: Any) -> None:
            """As a delivery handler of aioquic's."""
            if state == aio_connection.QuicDeliveryState.ACKED:
                self.marked += 1
            else:
                self.marking.lost()

        def _payload_received(self, context: Any, *rest: Any, **more: Any) -> Any:
            """Count the marks of a packet that is new and whole."""
            mark = self.engine.hearing
            if mark:
                space = self._spaces[context.epoch if context.epoch != aio_tls.Epoch.ZERO_RTT else aio_tls.Epoch.ONE_RTT]
                marks = space.__dict__.setdefault("marks", [0, 0, 0])
                marks[PLACES[mark]] += 1
            return super()._payload_received(context, *rest, **more)

        def _write_ack_frame(self, builder: Any, space: Any, now: float) -> None:
            """As the original, as ACK_ECN once a packet of the space was marked."""
            marks = space.__dict__.get("marks")
            if marks is None:
                super()._write_ack_frame(builder=builder, space=space, now=now)
                return
            delay = now - space.largest_received_time
            buf = builder.start_frame(
                aio_connection.QuicFrameType.ACK_ECN,
                capacity=aio_connection.ACK_FRAME_CAPACITY + COUNTS,
                handler=self._on_ack_delivery,
                handler_args=(space, space.largest_received_packet),
            )
            encoded = int(delay * 1000000) >> self._local_ack_delay_exponent
            ranges = aio_connection.push_ack_frame(buf, space.ack_queue, encoded, builder.remaining_buffer_space - COUNTS)
            for count in marks:
                buf.push_uint_var(count)
            space.ack_at = None
            if self._quic_logger is not None:
                builder.quic_logger_frames.append(
                    self._quic_logger.encode_ack_frame(ranges=list(space.ack_queue)[-ranges:], delay=delay)
                )
            if ranges > 1 and builder.packet_number % 8 == 0:
                self._write_ping_frame(builder, comment="ACK-of-ACK trigger")

        def heard_marks(self, context: Any, frame_type: int, buf: Any, at: int, largest: int, sent: float) -> None:
            """What an ACK frame, which began at `at` and is read, tells of our marks; `sent`: when the largest was."""
            counts = None
            if frame_type == aio_connection.QuicFrameType.ACK_ECN:
                buf.seek(at)
                aio_connection.pull_ack_frame(buf)
                counts = (buf.pull_uint_var(), buf.pull_uint_var(), buf.pull_uint_var())
            if self.marking.acked(context.epoch, largest, self.marked, counts):
                loss = self._loss
                event: Any = SimpleNamespace(sent_time=sent, sent_bytes=0)
                loss._cc.on_packets_lost(now=context.time, packets=[event])
                loss._pacer.update_rate(congestion_window=loss.congestion_window, smoothed_rtt=loss._rtt_smoothed)

        def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
            super()._parse_transport_parameters(data, from_session_ticket)
            told = aio_connection.pull_quic_transport_parameters(aio_connection.Buffer(data=data))
            self.most = told.max_udp_payload_size or 65527

        def probe(self, size: int, now: float) -> bytes | None:
            """PING and PADDING in a packet of which recovery and congestion control know nothing but whether it arrived."""
            path, epoch = self._network_paths[0], aio_tls.Epoch.ONE_RTT
            if not path.is_validated:
                return None
            builder = aio_connection.QuicPacketBuilder(
                host_cid=self.host_cid, is_client=self._is_client, max_datagram_size=size, packet_number=self._packet_number,
                peer_cid=self._peer_cid.cid, quic_logger=self._quic_logger, spin_bit=self._spin_bit, version=self._version or 1,
            )  # fmt: skip
            builder.start_packet(aio_connection.QuicPacketType.ONE_RTT, self._cryptos[epoch])
            self.probing = self._packet_number
            buf = builder.start_frame(aio_connection.QuicFrameType.PING, handler=self.probe_done, handler_args=(self.probing,))
            buf.push_bytes(bytes(builder.remaining_buffer_space))
            datagrams, packets = builder.flush()
            self._packet_number = builder.packet_number
            packets[0].sent_time = now
            packets[0].in_flight = packets[0].is_ack_eliciting = False
            self._loss.on_packet_sent(packet=packets[0], space=self._spaces[epoch])
            return bytes(datagrams[0])

        def probe_done(self, state: Any, number: int) -> None:
            """As a delivery handler of aioquic's."""
            if self.engine.mtu is not None and number == self.probing:
                self.engine.mtu.verdict(state == aio_connection.QuicDeliveryState.ACKED, self.engine.now)

        def begin_with(self, cid: bytes, token: bytes) -> None:
            """The first id."""
            self._host_cids[0].cid = self.host_cid = self._local_initial_source_connection_id = cid
            self._host_cids[0].stateless_reset_token = token

        def _initialize(self, peer_cid: bytes) -> None:
            super()._initialize(peer_cid)
            if not self._is_client:
                self._network_paths[0].is_validated |= self.proven
                watch_hello(self.engine, self.tls, aio_tls)

        def _replenish_connection_ids(self) -> None:
            while self.ids is not None and len(self._host_cids) < min(4, self._remote_active_connection_id_limit):
                cid, token = self.ids()
                self._host_cids.append(
                    aio_connection.QuicConnectionId(
                        cid=cid, sequence_number=self._host_cid_seq, stateless_reset_token=token
                    )
                )
                self._host_cid_seq += 1
            if self.ids is None:
                super()._replenish_connection_ids()

        # A client whose ids are empty (Chromium) gives no others, so it is called by none at each of its addresses (RFC 9000
        # section 9.5). aioquic waits for a spare one before it says anything at an address that is not the current one.

        def _find_network_path(self, addr: Peer) -> Any:
            path = super()._find_network_path(addr)
            if not (self._is_client or self._peer_cid.cid or path.peer_cid):
                path.peer_cid = self._peer_cid
            return path

        def _retire_peer_cid(self, connection_id: Any) -> None:
            if connection_id.cid:  # who has empty ones takes their end for a violation (section 19.16)
                super()._retire_peer_cid(connection_id)

        def _handle_ack_frame(self, context: Any, frame_type: int, buf: Any) -> None:
            """As the original, but who acknowledges what was never sent is told so (RFC 9000 section 13.1)."""
            at = buf.tell()
            largest = buf.pull_uint_var()
            if largest >= self._packet_number:
                raise aio_connection.QuicConnectionError(
                    PROTOCOL_VIOLATION, frame_type, "an acknowledgement of a packet that was not sent"
                )
            buf.seek(at)
            newest = self._spaces[context.epoch].sent_packets.get(largest)
            sent = (newest and newest.sent_time) or context.time - self._loss._rtt_latest
            self.marked = 0
            super()._handle_ack_frame(context, frame_type, buf)
            self.heard_marks(context, frame_type, buf, at, largest, sent)

        def _write_connection_limits(self, builder: Any, space: Any) -> None:
            if self.token and self._handshake_complete:
                token, size = self.token, len(self.token) + 9
                frame = builder.start_frame(NEW_TOKEN, capacity=size, handler=self._on_token, handler_args=(token,))
                frame.push_uint_var(len(token))
                frame.push_bytes(token)
                self.token = b""
            if not self.engine.paused:
                super()._write_connection_limits(builder, space)

        def _on_token(self, delivery: Any, token: bytes) -> None:
            if delivery != aio_connection.QuicDeliveryState.ACKED:
                self.token = token

        def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
            if not self.engine.paused:
                super()._write_stream_limits(builder=builder, space=space, stream=stream)


PLACES = {ECT0: 0, ECT1: 1, CE: 2}  # of the counts in a frame (RFC 9000 section 19.3.2)
COUNTS = 3 * 8  # bytes, at most


class AioquicEngine(Engine):
    """On aioquic. `ids()` gives (id, reset token) for each further id."""

    def __init__(self, settings: QuicSettings, reset_token: bytes | None, ids: Any = None, **given: Any) -> None:
        super().__init__(settings)
        handler = given.pop("session_ticket_handler", None) or keeper(self, aio_tls)
        fetcher = (lambda _: None) if handler is not None and not settings.client else None
        self.conn = AioquicConnection(
            self,
            ids,
            configuration=settings.aioquic(),
            session_ticket_handler=handler,
            session_ticket_fetcher=fetcher,
            **given,
        )
        self.conn._logger.setLevel(logging.CRITICAL) if hasattr(self.conn._logger, "setLevel") else None
        self.first = None if settings.client else reset_token
        self.now = 0.0
        self.marked_to: Any = None

    def take_in(self, datagrams: list[bytes], peer: Peer, now: float) -> None:
        self.now = now
        for one in datagrams:
            self.conn.receive_datagram(one, peer, now)
        if self.hearing == CE:  # to be told at once (RFC 9000 section 13.2.1)
            for space in self.conn._loss.spaces:
                space.ack_at = now if space.ack_at is not None else None
        self.hear()

    def hear(self) -> None:
        """aioquic's events, as ours."""
        kinds = aio_connection.events
        while not self.paused and (event := self.conn.next_event()) is not None:
            if isinstance(event, kinds.StreamDataReceived):
                self.queue.append(("data", event.stream_id, event.data, event.end_stream))
            elif isinstance(event, kinds.StreamReset):
                self.queue.append(("reset", event.stream_id, event.error_code))
            elif isinstance(event, kinds.StopSendingReceived):
                self.queue.append(("stop", event.stream_id, event.error_code))
            elif isinstance(event, kinds.DatagramFrameReceived):
                self.queue.append(("datagram", event.data))
            elif isinstance(event, kinds.HandshakeCompleted):
                self.finish(event)
            elif isinstance(event, kinds.ConnectionIdIssued):
                self.queue.append(("issued", event.connection_id))
            elif isinstance(event, kinds.ConnectionIdRetired):
                self.queue.append(("retired", event.connection_id))
            elif isinstance(event, kinds.ConnectionTerminated):
                self.over = True
                self.queue.append(("closed", event.error_code, event.reason_phrase))

    def finish(self, event: Any) -> None:
        self.done = True
        self.alpn = event.alpn_protocol or ""
        self.resumed, self.early = event.session_resumed, event.early_data_accepted
        suite = self.conn.tls.key_schedule.cipher_suite if self.conn.tls.key_schedule is not None else None
        self.cipher = f"TLS_{suite.name}" if suite is not None else ""
        self.queue.append(("done",))

    def say(self, stream: int, data: bytes, fin: bool) -> None:
        try:
            self.conn.send_stream_data(stream, data, fin)
        except (RuntimeError, ValueError) as error:  # the peer has stopped it, and we have not heard that yet
            log.debug("QUIC: %s", error)

    def grant(self, token: bytes) -> None:
        self.conn.token = token

    def run_timer(self, now: float) -> None:
        self.now = now
        self.conn.handle_timer(now)
        self.hear()

    def resume(self) -> None:
        """Not paused any more."""
        self.paused = False
        self.guarded(self.hear)

    def take(self, now: float) -> list[tuple[bytes, Peer]]:
        """Datagrams to send."""
        mtu = self.mtu if self.done and not self.over else None
        if mtu is not None:
            mtu.before(now)
        if self.conn._network_paths and self.conn._network_paths[0].addr != self.marked_to:
            self.marked_to = self.conn._network_paths[0].addr
            self.conn.marking.restart()
        self.mark = self.conn.marking.mark
        found = self.guarded(self.conn.datagrams_to_send, now) or []
        if mtu is not None and found:
            self.guarded(mtu.after, now, found)
        self.guarded(self.hear)
        return found  # type: ignore[no-any-return]

    def resize(self, size: int) -> None:
        loss = self.conn._loss
        self.conn._max_datagram_size = size
        for one in (loss._pacer, loss._cc):
            one._max_datagram_size = size

    def probe(self, size: int, now: float) -> bytes | None:
        return self.conn.probe(size, now)  # type: ignore[no-any-return]

    def trouble(self) -> tuple[int, int, int]:
        loss = self.conn._loss
        return loss._pto_count, self.conn.lost, loss.congestion_window

    def bound(self) -> int:
        return int(self.conn.most)

    def timer(self) -> float | None:
        return None if self.failed is not None or self.over else self.soonest(self.conn.get_timer())

    def unsent(self, stream: int | None = None) -> int:
        """Bytes that were not sent yet, of a stream or of all."""
        streams = self.conn._streams
        some = streams.values() if stream is None else [streams[stream]] if stream in streams else []
        senders = [one.sender for one in some if one.sender._reset_error_code is None]
        return sum([part.stop - part.start for one in senders for part in one._pending])

    def flow(self, stream: int | None = None) -> int:
        conn = self.conn
        if stream is not None:
            one = conn._streams.get(stream)
            return one.max_stream_data_remote - one.sender._buffer_stop if one is not None else conn._remote_max_data
        senders = [one.sender for one in conn._streams.values() if one.sender._reset_error_code is None]
        fresh = sum([one._buffer_stop - one.highest_offset for one in senders])
        return int(conn._remote_max_data - conn._remote_max_data_used - fresh)

    def window(self, now: float) -> int:
        conn = self.conn
        if not self.done or (conn._pacing_at is not None and conn._pacing_at > now):
            return 0
        return int(conn._loss.congestion_window) - int(conn._loss.bytes_in_flight)

    def opener(self, unidirectional: bool) -> int:
        """A new stream of ours, or -1 while the peer allows none."""
        conn = self.conn
        if self.failed is not None or self.over:
            return -1
        number = conn.get_next_available_stream_id(unidirectional)
        most = conn._remote_max_streams_uni if unidirectional else conn._remote_max_streams_bidi
        if number // 4 >= most and self.done:
            return -1
        conn._get_or_create_stream_for_send(number)
        return int(number)

    def peer(self) -> Peer | None:
        paths = self.conn._network_paths
        return paths[0].addr[:2] if paths else None

    def idle(self) -> bool:
        return self.conn._loss.bytes_in_flight == 0 and self.unsent() == 0

    def facts(self) -> dict[str, Any]:
        loss = self.conn._loss
        return {
            "rtt_us": round(loss._rtt_smoothed * 1e6),
            "lost": self.conn.lost,
            "in_flight": loss.bytes_in_flight,
            "window": loss.congestion_window,
        }
