"""HTTP/3 on a listener: from its settings to a `net.quic.QuicListener`, and from a plan to the next one.

Rules
1. The QUIC side of a listener has a Service of its own: the same handlers behind the gate for early data, the same limits.
2. Answers over TCP say `Alt-Svc` (RFC 7838) once the QUIC side is there, so that clients come over by themselves.
3. Address tokens, reset tokens and tickets are made with a key in the slab, so every worker accepts what another gave out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fairlead.core.handler import Service
from fairlead.run import config as c
from fairlead.serve.early import EarlyGate

AGE = 86_400  # seconds a client may remember the alternative


def speaks(listener: c.Listener) -> bool:
    """Does it have a QUIC side?"""
    return listener.kind == "http" and "h3" in listener.protocols


def settings(listener: c.Listener, share: Any) -> Any:
    """The `QuicSettings` of a listener. Raises ConfigError, also when the engine is not installed."""
    from fairlead.net import quicengine
    from fairlead.net.quicsettings import QuicSettings
    from fairlead.net.quictickets import Lone, Tickets

    given = listener.quic
    quicengine.require(given.engine)
    assert listener.tls is not None
    made = QuicSettings(given.engine)
    made.load(listener.tls)
    made.early_data = listener.early_data
    made.idle = (listener.limits.idle or 600.0) + 5.0
    made.congestion, made.size, made.most = given.congestion, given.datagram, given.largest
    made.ecn = given.ecn
    if listener.tls.tickets and made.trust is None:
        made.tickets = Tickets(share or Lone())
    if given.qlog:
        Path(given.qlog).mkdir(parents=True, exist_ok=True)
        made.qlog = given.qlog
    return made


def service(builder: Any, listener: c.Listener, handler: Any) -> Service:
    """Rule 1."""
    made: Service = builder.service(listener, EarlyGate(handler) if listener.early_data else handler)
    made.scheme = "https"
    return made


def share_of(builder: Any) -> Any:
    """What the workers share for QUIC; None for a lone process."""
    if builder.slab is None:
        return None
    from fairlead.net.quicshare import Share

    return Share(builder.slab.quic(), builder.slab.fd)


def hub_of(builder: Any) -> Any:
    """What all QUIC sockets of this worker have in common, across plans."""
    if builder.quic_hub is None:
        from fairlead.net.quicforward import Hub

        builder.quic_hub = Hub()
    return builder.quic_hub


def number_of(address: str) -> int:
    """The number of a UDP socket on its port, as the master wrote it before the address."""
    return int(address.split(":", 2)[1]) if address.startswith("udp:") else 0


class Side:
    """The QUIC side of one listener of a plan."""

    def __init__(self, builder: Any, listener: c.Listener, handler: Any) -> None:
        self.builder = builder
        self.listener = listener
        self.share = share_of(builder)
        self.settings = settings(listener, self.share)
        self.service = service(builder, listener, handler)

    def listen(self, sock: Any, address: str, make_codec: Any, tcp: Service) -> Any:
        """A QuicListener on a UDP socket, not started."""
        from fairlead.net.quic import QuicListener
        from fairlead.net.quictoken import Tokens
        from fairlead.net.udp import say_buffer

        builder = self.builder
        share = self.share
        tokens = Tokens(os.urandom(32)) if share is None else Tokens(share.key, share.previous, share.lasting)
        made = QuicListener(builder.poller, sock, self.service, make_codec, self.settings, tokens, self.share, hub_of(builder))
        made.place = number_of(address)
        made.region = builder.region.index
        made.idle = builder.idle
        say_buffer(made.own)
        self.configure(made, tcp)
        return made

    def configure(self, made: Any, tcp: Service) -> None:
        """What may change with a plan."""
        made.retry, made.half_open = self.listener.quic.retry, self.listener.quic.half_open
        if tcp.alt_svc is None:
            tcp.alt_svc = b'h3=":%d"; ma=%d' % (made.udp.name[1], AGE)

    def renew(self, made: Any, make_codec: Any, tcp: Service) -> None:
        """A QuicListener goes on with this plan."""
        made.service, made.settings, made.make_codec = self.service, self.settings, make_codec
        self.configure(made, tcp)
