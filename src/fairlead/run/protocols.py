"""Which codec a new connection gets: by ALPN where there is TLS, by the first bytes where there is none.

A listener whose `protocols` have "h1" and "h2": over TLS the client chooses by ALPN (RFC 7301); a client without ALPN gets
HTTP/1.1. In plain text a connection that begins with HTTP/2's preface speaks HTTP/2 (prior knowledge, RFC 9113 section
3.3), everything else HTTP/1.1. An upstream speaks what its `protocol` says; "auto" is what ALPN gave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fairlead.core.codec import Codec
from fairlead.core.errors import NetError
from fairlead.wire.h1 import H1

ALPN = {"h2": "h2", "h1": "http/1.1"}  # in our order of preference
UPSTREAM_ALPN = {"h1": ("http/1.1",), "h2": ("h2",), "auto": ("h2", "http/1.1"), "h3": ("h3",)}


def server_codec(protocols: Sequence[str], limits: Any, common: Any) -> Callable[[Any, Any], Any]:
    """`make_codec(conn, alpn)` of a listener; alpn is None without TLS."""

    def h1(conn: Any) -> Any:
        return H1(conn, limits, common=common, scheme=conn.scheme)

    if "h3" in protocols:
        return with_h3(server_codec([one for one in protocols if one != "h3"], limits, common), limits, common)
    if "h2" not in protocols:
        return lambda conn, alpn: h1(conn)
    from fairlead.wire.h2 import H2
    from fairlead.wire.h2choice import Choice

    def h2(conn: Any) -> Any:
        codec = H2(conn, limits, common=common)
        codec.scheme = conn.scheme
        return codec

    if "h1" not in protocols:
        return lambda conn, alpn: h2(conn)

    def make_codec(conn: Any, alpn: Any) -> Any:
        if alpn == "h2":
            return h2(conn)
        if alpn is not None or conn.tls is not None:
            return h1(conn)
        return Choice(conn, limits, lambda: h1(conn), lambda: h2(conn), conn.carrier.use)

    return make_codec


def with_h3(others: Callable[[Any, Any], Any], limits: Any, common: Any) -> Callable[[Any, Any], Any]:
    """The same, with HTTP/3 for what QUIC carries."""
    from fairlead.wire.h3 import H3

    return lambda conn, alpn: H3(conn, limits, common=common) if alpn == "h3" else others(conn, alpn)


def client_codec(protocol: str) -> Callable[[Any], Any]:
    """`make_codec(conn)` of an upstream that speaks `protocol` ("h1", "h2", "h2c", "h3" or "auto")."""
    if protocol == "h3":
        from fairlead.wire.h3 import H3

        return lambda conn: H3(conn, conn.service.limits, client=True)

    def h1(conn: Any) -> Any:
        return H1(conn, conn.service.limits, client=True)

    if protocol == "h1":
        return h1
    from fairlead.wire.h2 import H2

    def h2(conn: Any) -> Any:
        if protocol == "h2" and conn.tls is not None and conn.tls.alpn != "h2":
            hint = 'write protocol = "auto"'
            conn.carrier.close(NetError("it does not offer HTTP/2 by ALPN", step="tls", side="upstream", hint=hint))
            return Codec(conn, conn.service.limits, client=True)  # of a connection that is closed
        return H2(conn, conn.service.limits, client=True)

    if protocol == "auto":
        return lambda conn: h2(conn) if conn.tls is not None and conn.tls.alpn == "h2" else h1(conn)
    return h2
