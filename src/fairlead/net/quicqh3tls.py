# cython: annotation_typing=False
"""The TLS of a connection of qh3 (in Python) where `net.quictls` does not take its place: for clients, client certificates, qlog,
what is not plain, and for a version of qh3 that we do not know. And what either means to the core, and transport parameters.
"""

from __future__ import annotations

import hmac
import logging
from typing import Any

import qh3
import qh3.quic.crypto as qh3_crypto
import qh3.tls as qh3_tls
from qh3.quic.connection import QuicConnectionState
from qh3.quic.packet import QuicTransportParameters
from qh3.quic.tls_bridge import QuicTlsBridge

from fairlead.net.quicsettings import VERSION
from fairlead.net.quictls import ONE_RTT, OVER, ServerTls
from fairlead.wire import quicparams
from fairlead.wire.quicframes import integer

KNOWN = ("2.1.0",)  # versions of qh3 whose handshake we know well enough to do it ourselves
WHY_NOT = "" if qh3.__version__ in KNOWN else f"qh3 {qh3.__version__} is not a version we know ({', '.join(KNOWN)})"
SLOWER = "%s: handshakes of HTTP/3 are done by its own TLS, and cost twice as much"
TOLD: list[str] = []  # that it is so, once


def strange() -> bool:
    """Is this a version of qh3 that we do not know? Said in the log, once."""
    if WHY_NOT and not TOLD:
        TOLD.append(WHY_NOT)
        logging.getLogger("fairlead.error").warning(SLOWER, WHY_NOT)
    return bool(WHY_NOT)


def expand_label(algorithm: int, secret: bytes, label: bytes, hash_value: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1), in one call of OpenSSL for what one block holds: all but odd lengths."""
    if length > algorithm >> 3:
        return bytes(qh3_expand(algorithm, secret, label, hash_value, length))
    name = b"tls13 " + label
    info = b"".join(
        (length.to_bytes(2, "big"), bytes((len(name),)), name, bytes((len(hash_value),)), hash_value, b"\1")
    )
    return hmac.digest(secret, info, f"sha{algorithm}")[:length]


qh3_expand = qh3_tls.hkdf_expand_label
probes = [(bits, b"s" * 32, b"quic key", b"h" * 32, 16) for bits in (256, 384)]
if all([expand_label(*one) == qh3_expand(*one) for one in probes]):
    for module in (qh3_tls, qh3_crypto):  # a handshake derives 23 keys, and qh3's own way takes a tenth of its time
        setattr(module, "hkdf_expand_label", expand_label)  # noqa: B010


class Bridge(QuicTlsBridge):
    """qh3's TLS, with a server's transport parameters written at once: its own way takes 64 KiB of memory for each."""

    engine: Any = None

    def next_traffic_secret(self) -> Any:
        """As the original; the last ones are kept, for packets of our own."""
        found = super().next_traffic_secret()
        if found is not None and self.engine is not None and found.epoch == qh3_tls.Epoch.ONE_RTT:
            place = 1 if found.direction == qh3_tls.Direction.ENCRYPT else 0
            self.engine.secrets[place] = (int(found.cipher_suite), found.secret)
        return found

    def serialize_transport_parameters(self) -> bytes:
        configuration = self.configuration
        if not configuration.is_client and self._quic_logger is None:
            return parameters(self, configuration)
        return unbounded(bytes(super().serialize_transport_parameters()))


def unbounded(raw: bytes) -> bytes:
    """Parameters without max_udp_payload_size: qh3's clients say 1,472, and take more (RFC 9000 section 18.2)."""
    out, at = b"", 0
    while at < len(raw):
        kind, end = integer(raw, at)
        length, end = integer(raw, end)
        out += b"" if kind == 0x03 else raw[at : end + length]
        at = end + length
    return out


def parameters(bridge: Any, configuration: Any) -> bytes:
    """What a server says (RFC 9000 section 18.2), as qh3 would."""
    ids = (bridge.local_initial_source_connection_id, bridge.original_destination_connection_id)
    more = (bridge.stateless_reset_token, bridge.retry_source_connection_id)
    return common_parameters(configuration) + own_parameters(*ids, *more)


def own_parameters(local: bytes, original: bytes, token: bytes | None, retried: bytes | None) -> bytes:
    """Those of one connection."""
    return quicparams.told((), ((0x0F, local), (0x00, original), (0x02, token), (0x10, retried)))


def common_parameters(configuration: Any) -> bytes:
    """Those of all connections: streams are as many as qh3's core allows."""
    versions = (VERSION, *configuration.supported_versions)
    window = configuration.max_stream_data
    numbers = (
        (0x04, configuration.max_data), (0x01, int(configuration.idle_timeout * 1000)), (0x07, window), (0x06, window),
        (0x05, window), (0x08, 100), (0x09, 103), (0x0A, 3), (0x0B, 25),
        (0x0E, 8 if configuration.active_connection_id_limit is None else configuration.active_connection_id_limit),
        (0x20, configuration.max_datagram_frame_size),
    )  # fmt: skip
    return quicparams.told(numbers, ((0x11, b"".join([int(one).to_bytes(4, "big") for one in versions])),))


def further(conn: Any, tls: ServerTls, core: Any) -> None:
    """The handshake of a server got further: keys, what is said, and in the end all of it."""
    suite, engine = tls.suite, conn.engine
    for send, epoch, secret in tls.keys:
        key, iv, hp = suite.packet_keys(secret)
        core.install_packet_key("send" if send else "receive", epoch, suite.algorithms, key, iv, hp, 0, secret, VERSION)
        if epoch == ONE_RTT:
            engine.secrets[int(send)] = (suite.number, secret)
    tls.keys.clear()
    if tls.stage == OVER:
        conn._handshake_complete = conn._handshake_confirmed = conn._pre_handshake_state_replayed = True
        conn._pre_handshake_streams.clear()
        conn._pre_handshake_writes.clear()
        conn._state = QuicConnectionState.CONNECTED
        core.handshake_complete()
        return
    for epoch, data in tls.said:
        core.send_crypto(epoch, 0, data)
    tls.said.clear()
    engine.asked_name, engine.alpn = tls.name, tls.protocol
    hear_parameters(conn, tls.heard, core)


def hear_parameters(conn: Any, heard: Any, core: Any) -> None:
    """The client's transport parameters, as `_drain_tls` of qh3's connection hears those of its own TLS."""
    datagram = heard.datagram if heard.datagram >= 0 else None
    payload = heard.payload if heard.payload >= 0 else None
    core.apply_peer_transport_parameters(
        heard.data, heard.local, heard.remote, heard.uni, heard.streams, heard.streams_uni, heard.exponent,
        heard.delay / 1000, heard.idle / 1000 if heard.idle else None, datagram, None, heard.ids, heard.still, payload,
    )  # fmt: skip
    conn._remote_max_datagram_frame_size = datagram
    conn._remote_max_stream_data_bidi_remote = heard.remote
    conn._applied_transport_parameters = QuicTransportParameters(
        max_idle_timeout=heard.idle, max_udp_payload_size=payload, initial_max_data=heard.data,
        initial_max_stream_data_bidi_local=heard.local, initial_max_stream_data_bidi_remote=heard.remote,
        initial_max_stream_data_uni=heard.uni, initial_max_streams_bidi=heard.streams, initial_max_streams_uni=heard.streams_uni,
        ack_delay_exponent=heard.exponent, max_ack_delay=heard.delay, active_connection_id_limit=heard.ids,
        max_datagram_frame_size=datagram,
    )  # fmt: skip
    conn._transport_parameters_applied = True
    conn._replay_pre_handshake_state("transport parameters")
