# cython: annotation_typing=False
"""How a QUIC connection of ours ends (RFC 9000 section 10): a part of `net.quicconn`, whose rules 9 and 11 are kept here."""

from __future__ import annotations

from typing import Any

from fairlead.core.errors import FairleadError, NetError
from fairlead.net.poll import Watcher

NO_ERROR = 0x100  # H3_NO_ERROR (RFC 9114 section 8.1)
INTERNAL = 0x102  # H3_INTERNAL_ERROR


class Ending(Watcher):
    """See the module. The rest is `QuicConn`'s."""

    home: Any
    poller: Any
    engine: Any
    limits: Any
    conn: Any
    codec: Any
    why: Any
    on_close: Any
    make_codec: Any
    packed: bytes
    until: int
    closed: bool
    closing: bool
    gone: bool
    inbox: list[bytes]
    outbox: list[tuple[bytes, Any]]
    parting: list[tuple[bytes, Any]]
    asked: int

    def arm(self) -> None:
        raise NotImplementedError

    def touch(self) -> None:
        raise NotImplementedError

    def transmit(self) -> int:
        raise NotImplementedError

    def close(self, why: Any) -> None:
        """Close once everything said is sent and acknowledged."""
        if self.closed:
            return
        self.why = self.why or why
        if self.codec is None:
            self.shut(NO_ERROR, "")
            return
        self.codec.finished = True
        self.touch()

    def close_when_told(self) -> None:
        """Rule 9."""
        if self.closing or self.closed:
            return
        self.closing = True
        if self.engine.idle():
            self.shut(NO_ERROR, "")
            return
        self.until = self.poller.now() + self.limits.linger
        self.arm()

    def acknowledged(self) -> None:
        """We are closing: is everything acknowledged?"""
        if self.closing and not self.closed and self.engine.idle():
            self.shut(NO_ERROR, "")

    def shut(self, code: int, reason: str, application: bool = True) -> None:
        """CONNECTION_CLOSE, now."""
        if self.closed:
            return
        self.engine.close(code, reason[:200], application)
        self.lost(self.why)
        if self.outbox or self.gone:
            self.transmit()
        else:
            self.part(self.engine.take(self.poller.now() / 1e9))
        if self.engine.over and not self.gone:
            self.lost(self.why)

    def abort(self, why: Any) -> None:
        """Close at once."""
        if self.closed:
            return
        self.why = why if isinstance(why, FairleadError) or why is None else NetError(str(why), step="io", status=499)
        self.shut(NO_ERROR if why is None or getattr(why, "status", 0) == 503 else INTERNAL, str(why or ""))

    def lost(self, why: Any) -> None:
        """Nothing more is said or heard. The engine may still answer packets that come late (RFC 9000 section 10.2)."""
        if not self.closed:
            self.closed = True
            self.inbox = []
            self.poller.wheel.remove(self)
            self.conn.gone(why)
            if self.on_close is not None:
                self.on_close(self)
                self.on_close = None
            self.make_codec = None
        if self.engine.failed is not None and not self.parting:
            self.part(self.engine.farewell(self.poller.now() / 1e9))
        if self.parting or not (self.engine.over or self.engine.failed is not None):
            self.home.linger(self)
        else:
            self.leave()

    def part(self, last: list[tuple[bytes, Any]]) -> None:
        """Datagrams with CONNECTION_CLOSE. Rule 11: aioquic says it once, and qh3 counts the time from when it last heard."""
        if last:
            self.parting, self.asked = last, 0
            self.part_again()

    def part_again(self) -> None:
        """After the 1st, 2nd, 4th, 8th, ... packet that came since."""
        if not self.asked & self.asked - 1:
            for data, peer in self.parting:
                self.home.udp.send([data], peer, self.packed)
        self.asked += 1

    def leave(self) -> None:
        """The engine is done, too."""
        if not self.gone:
            self.gone = True
            self.home.leave(self)
