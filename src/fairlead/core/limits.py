"""Every cap on what a peer may make us hold, wait for or do: its default, and who else uses that number.

Sizes are bytes, times are nanoseconds (as everywhere on the hot path), 0 means "no limit". One `Limits` object belongs
to one listener or upstream and is shared by all of its connections; codecs read it and never change it.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1_000_000_000
KIB = 1024


@dataclass(slots=True)
class Limits:
    """Caps of one listener (server role) or one upstream (client role)."""

    line: int = 16 * KIB  # request or status line; nginx large_client_header_buffers 8k, HAProxy 16k
    head: int = 64 * KIB  # whole head; uvicorn/h11 64k, HAProxy 16k, node 16k
    headers: int = 128  # fields in a head; Apache and gunicorn 100, HAProxy 101
    name: int = 256  # one field name
    chunk_line: int = 4 * KIB  # one chunk-size line with its extensions
    chunk_ext: int = 16 * KIB  # chunk extensions in one body, together (Go's CVE-2023-39326)
    trailer: int = 16 * KIB  # trailer section of one body
    body: int = 0  # request body; bodies stream with back-pressure, so none by default
    window: int = 64 * KIB  # body bytes given to a reader that has not credited them yet
    lookahead: int = 64 * KIB  # pipelined bytes kept while an answer is being made
    drain: int = 256 * KIB  # unread request body read and dropped to keep a connection; Apache 256k
    outgoing: int = 64 * KIB  # bytes waiting for the peer before a writer is told to wait
    informational: int = 16  # 1xx heads before a final one (client role)
    streams: int = 100  # concurrent streams of one connection (h2, h3), abandoned work included; Envoy's edge 100
    requests: int = 0  # requests on one connection

    # h2: windows start small and grow while a reader keeps up; floods are counted, a tenth of each is forgiven a second
    connection_window: int = 1024 * KIB  # all streams of a connection together; Envoy's edge 1 MiB
    window_most: int = 4096 * KIB  # what a stream's window may grow to
    connection_window_most: int = 16384 * KIB
    resets: int = 200  # streams reset by the peer, or by us for what it did; nginx and Go count like this since 2023
    settings: int = 100  # SETTINGS frames
    pings: int = 1000  # PING frames: gRPC peers measure with them
    empties: int = 100  # frames without payload that end nothing
    updates: int = 2000  # WINDOW_UPDATE frames beyond ten for each DATA frame that we sent; Envoy's 10
    priorities: int = 1000  # PRIORITY and PRIORITY_UPDATE frames
    continuations: int = 16  # CONTINUATION frames of one header block; nghttp2 8, h2 64
    qpack_table: int = 4 * KIB  # h3: what the peer's heads may keep here, 0 for nothing; the 4096 of HPACK
    qpack_blocked: int = 16  # h3: streams whose heads may wait for that table; nginx 128, quiche and aioquic 16
    control: int = 32 * KIB  # answers to control frames that wait because the peer does not read

    handshake: int = 10 * SECOND  # TLS handshake
    header: int = 10 * SECOND  # first byte of a head to its end; HAProxy's usual http-request 10s
    body_idle: int = 30 * SECOND  # between two reads of a body
    body_rate: int = 240  # least bytes per second of a body, after `body_grace`; Kestrel 240 B/s after 5 s
    body_grace: int = 5 * SECOND
    write_idle: int = 60 * SECOND  # peer takes nothing; nginx send_timeout 60s
    request: int = 0  # whole request, head to last byte of the answer
    idle: int = 75 * SECOND  # between two requests; nginx keepalive_timeout 75s
    ping: int = 0  # h2: silence with streams open before a PING asks whether the peer lives; grpc-go 2 h, Envoy none
    age: int = 0  # h2: a connection's life, then it is told goodbye; grpc-go and Envoy none
    linger: int = 2 * SECOND  # reading on after we closed our side, so that the answer is not lost to a reset


MIB = 1024 * KIB


@dataclass(slots=True)
class WebSocketLimits:
    """Caps of the WebSockets of one route; `wire.ws` reads them. Precedents: `websockets` and uvicorn where not said."""

    message: int = 16 * MIB  # one message, inflated: also the limit of a decompression bomb; uvicorn 16 MiB
    fragments: int = 131072  # frames of one message; Autobahn 9.3 sends 65536
    queue: int = 64 * KIB  # bytes of whole messages waiting for their reader
    ping: int = 20 * SECOND  # silence before we ask whether the peer is alive
    pong: int = 20 * SECOND  # and how long it may take to say anything
    close: int = 10 * SECOND  # for the other half of the closing handshake
    idle: int = 0  # without a message in either direction
    total: int = 0  # a WebSocket's whole life
