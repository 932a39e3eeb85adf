"""Which QUIC engine a connection gets, and what is the same whichever it is. See `net.quicverbs`."""

from __future__ import annotations

from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.net import quicaioquic, quicqh3
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.quicverbs import Engine, Peer


def available(name: str) -> bool:
    """Is this engine installed?"""
    return (quicqh3.qh3_connection if name == "qh3" else quicaioquic.aio_connection) is not None


def require(name: str) -> None:
    """Raises ConfigError that says what to install."""
    if not available(name):
        package = "fairlead[h3]" if name == "qh3" else "aioquic"
        raise ConfigError(f'HTTP/3 needs the QUIC engine "{name}", which is not installed', hint=f"pip install '{package}'")


def server(
    settings: QuicSettings, cid: bytes, token: bytes, original: bytes, retried: bytes | None, ids: Any, proven: bool = False
) -> Engine:
    """The engine of a connection that a client opens. `ids` gives further ids, to an engine that lets us choose them; `proven`: the
    client is where it says it is, though it was not asked to come again.
    """
    engine: Engine
    given: dict[str, Any] = {
        "original_destination_connection_id": original,
        "retry_source_connection_id": retried,
    }
    if settings.engine == "qh3":
        engine = quicqh3.Qh3Engine(settings, token, **given)
        engine.conn.host_cid = cid
    else:
        engine = quicaioquic.AioquicEngine(settings, token, ids, **given)
        engine.conn.begin_with(cid, token)
    engine.conn.proven = proven
    return engine


def client(settings: QuicSettings, peer: Peer, now: float, on_ticket: Any = None) -> Engine:
    """The engine of a connection that we open: its first flight waits in `take`."""
    kind = quicqh3.Qh3Engine if settings.engine == "qh3" else quicaioquic.AioquicEngine
    engine = kind(settings, None, session_ticket_handler=on_ticket)
    engine.guarded(engine.conn.connect, peer, now)
    return engine


def retry_packet(engine: str, source: bytes, destination: bytes, original: bytes, token: bytes) -> bytes:
    """A Retry packet (RFC 9000 section 17.2.5), with its integrity tag."""
    encode = quicqh3.qh3_retry if engine == "qh3" else quicaioquic.aio_retry
    made = encode(
        version=1, source_cid=source, destination_cid=destination, original_destination_cid=original, retry_token=token
    )
    return bytes(made)
