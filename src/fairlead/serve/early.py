"""Requests that came as early data (0-RTT): they may be copies, so only what is safe to do twice is done at once (RFC 8470).

Rules
1. A request that was heard before the handshake was over is early. A safe method (RFC 9110 section 9.2.1) is answered, and carries
   `Early-Data: 1` (section 5.1), so that an application or an upstream can say 425 itself.
2. Any other method is answered 425 Too Early (section 5.2): the client sends it again when the handshake is over.
3. Replay of whole flights is refused before anything is heard (`net.quictickets`); this is the second line.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.errors import Refused
from fairlead.core.handler import Handler

SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "QUERY"))


class EarlyGate(Handler):
    """Before the handlers of a listener that accepts early data."""

    def __init__(self, inner: Handler) -> None:
        self.inner = inner

    def open(self, exchange: Any) -> None:
        if exchange.conn.carrier.early:
            if exchange.request.method not in SAFE:
                raise Refused("this request came before the handshake was over; send it again", status=425)
            exchange.request.headers.append((b"early-data", b"1"))
        self.inner.open(exchange)
