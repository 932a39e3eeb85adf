"""HTTP/3 (RFC 9114), server and client role, on QUIC streams that a transport carries. The seam with that transport:

    feed(data, now, stream, fin)      bytes of a stream, in order; `fin`: its last. Both kinds of stream, by their QUIC ids
    stream_reset(stream, code, now)   the peer's RESET_STREAM           stop_sending(stream, code, now)  its STOP_SENDING
    datagram(data, now)               a QUIC DATAGRAM's payload         eof(now)      the connection is over
    opened()                          the peer allows more streams      drained(now)  the transport has room again
    blocked(stream), unblocked(stream)  its buffer of a stream passed the high mark, or is below the low one again

    take()    -> [(stream, bytes, fin)] or None      orders() -> [("reset" | "stop", stream, code), ("datagram", bytes),
    credit()  -> [(stream, bytes taken)]                          ("close", code, reason)]

Rules of the seam
1. After each of the verbs above, and when the rest said something: `take`, then `orders`, then `credit`. `more` is true after
   `take` when bodies wait for their turn: take again when the buffers of the transport are below their mark.
2. Peers are credited (MAX_DATA, MAX_STREAM_DATA) only what `credit` gives: what was read here, or by a body's reader.
3. The transport answers STOP_SENDING with RESET_STREAM itself (RFC 9000 section 3.5). A stream whose both sides are over is
   its own to forget.
4. ("close", 0x100, "") means: when all that was taken is acknowledged. Any other code: at once, and no verb after it.
5. `opener(unidirectional)` -> a new stream's id, -1 when the peer allows none now; then `opened()` when it does.
6. Exchanges are numbered by their QUIC stream's id plus one, because 0 is no stream to the rest (`Codec.open_stream`).
7. What breaks the connection raises WireError with `code`; `take` and `orders` still hold what goes out.
"""

from __future__ import annotations

from fairlead.core.codec import Codec


class H3(Codec):
    """One HTTP/3 connection. `opener` is set by the transport before the first `take`."""

    def __init__(self, sink, limits, client=False, common=None):
        super().__init__(sink, limits, client)
        self.multiplexed = True
        self.common = common
        self.scheme = "https"
        self.opener = None

    def stream_reset(self, stream, code, now):
        """The peer ended its side of a stream with RESET_STREAM."""

    def stop_sending(self, stream, code, now):
        """The peer reads no more of what we send on a stream (STOP_SENDING)."""

    def datagram(self, data, now):
        """The payload of a QUIC DATAGRAM frame (RFC 9221)."""

    def opened(self):
        """The peer allows more streams."""

    def blocked(self, stream):
        """The transport's buffer of a stream is over its high mark."""

    def unblocked(self, stream):
        """The transport's buffer of a stream is under its low mark again."""

    def orders(self):
        """What the transport is to do, in order; giving it away empties it."""
        return []

    def credit(self):
        """What the peer may be credited: (stream, bytes) that were taken; giving it away empties it."""
        return []
