# cython: annotation_typing=False
"""How large a datagram may be: path MTU discovery by probes (RFC 8899; RFC 9000 section 14.3), for either engine and role.

    state       what is so                                     what ends it
    base        `size` is what passes everywhere               bulk is sent: `BULK` full datagrams
    searching   one probe at a time, `TRIES` of each size      nothing between `size` and `high` is worth a probe: complete
    complete    `size` is the path's                           `AGAIN` seconds, for a path that takes more by now
    in doubt    `size` itself is probed                        an answer: complete; `TRIES` lost: black hole
    black hole  back to base, searching below what was         (as searching)

Rules
1. A probe is a packet of PING and PADDING. It is outside congestion control: its loss says that it was too large, no more (RFC
   9000 section 14.4). It is lost when packets sent after it are acknowledged and it is not, or after `WAIT`.
2. Nothing is probed for a connection that says little: a probe costs a packet, and is worth it from the next few packets on.
3. A search begins with the upper bound: the least of the setting, the peer's max_udp_payload_size and the MTU of our own way to it
   (`Udp.room`). Below that it halves what is left, until that is less than `GRAIN` bytes.
4. Black holes (RFC 8899 section 4.3): two probe timeouts in a row, or `LOSSES` packets lost since the size was last confirmed and
   then `TRIES` probes of the size. What ICMP says is not needed, and not heard.
5. Another address of the peer is another path, and begins with the base (RFC 9000 section 14.3: each path has its own).
6. A size is used while the congestion window holds `ROOM` packets of it: a window smaller than a packet would let nothing out.
"""

from __future__ import annotations

from typing import Any

TRIES = 3  # MAX_PROBES (RFC 8899 section 5.1.2)
WAIT = 1.0  # seconds; PROBE_TIMER (section 5.1.1) is at least this
AGAIN = 600.0  # seconds; PMTU_RAISE_TIMER
GRAIN = 8
ETHERNET = 1452  # what 1,500 bytes leave over IPv6
BULK = 10
FULL = 1100  # bytes from which a datagram counts as full
LOSSES = 10
ROOM = 4
REORDERED = 3  # kPacketThreshold (RFC 9002 section 6.1.1)


class Search:
    """The search of one path, without clock and packets: sizes in bytes of UDP payload, seconds of one clock."""

    def __init__(self, base: int, most: int) -> None:
        self.base = self.size = base
        self.most = most
        self.high = most
        self.whole = True  # the upper bound itself was not tried yet
        self.ether = False
        self.asked = self.tries = 0
        self.until = self.again = 0.0
        self.complete = most - base < GRAIN
        self.doubt = False

    def ask(self, now: float) -> int:
        """The size to probe, or 0."""
        if self.asked:
            return 0
        if self.doubt:
            return self.size
        if self.complete:
            if now < self.again or self.most - self.size < GRAIN:
                return 0
            self.complete, self.high, self.whole = False, self.most, True
        if self.whole:
            return self.high
        if not self.ether and self.size < ETHERNET <= self.high:
            return ETHERNET
        return (self.size + self.high + 1) // 2

    def sent(self, size: int, now: float, rtt: float) -> None:
        """A probe has left."""
        self.asked = size
        self.until = now + max(WAIT, 3 * rtt)

    def acked(self, now: float) -> None:
        """The probe was acknowledged."""
        size, self.asked, self.tries = self.asked, 0, 0
        if self.doubt:
            self.doubt = False
            return
        self.size = max(self.size, size)
        self.judge(now)

    def lost(self, now: float) -> bool:
        """It was not; whether that showed a black hole."""
        size, self.asked = self.asked, 0
        self.tries += 1
        if self.tries < TRIES:
            return False
        self.tries = 0
        if self.doubt:
            self.fell(now)
            return True
        self.high = size - 1
        self.whole = False
        self.ether = self.ether or size == ETHERNET
        self.judge(now)
        return False

    def judge(self, now: float) -> None:
        if self.high - self.size < GRAIN:
            self.complete = True
            self.again = now + AGAIN

    def fell(self, now: float) -> None:
        """A black hole: back to base, and search below."""
        self.high, self.size = self.size - 1, self.base
        self.asked = self.tries = 0
        self.doubt = self.whole = self.ether = self.complete = False
        self.judge(now)


class Discovery:
    """The search of a connection's path. The engine tells `before` and `after` each take, `ticked`, and what became of a probe
    (`verdict`); it is asked `peer`, `resize`, `probe`, `trouble`, `bound` and `way` (`net.quicverbs`).
    """

    def __init__(self, engine: Any, base: int, most: int) -> None:
        self.engine = engine
        self.base = self.current = base
        self.most = most
        self.search: Search | None = None
        self.at: Any = None  # where the peer is
        self.full = 0
        self.lost = 0  # packets, when the size was last confirmed
        self.holes = 0
        self.off = False  # this engine cannot

    def use(self, size: int) -> None:
        if size != self.current:
            self.current = size
            self.engine.resize(size)

    def before(self, now: float) -> None:
        """Something may be sent: rules 4 to 6."""
        peer = self.engine.peer()
        if peer != self.at:
            self.at, self.search, self.full = peer, None, 0
            self.use(self.base)
        search = self.search
        if search is None or search.size <= self.base:
            return
        timeouts, lost, window = self.engine.trouble()
        if timeouts >= 2:
            search.fell(now)
            self.hole(lost)
        elif lost - self.lost >= LOSSES and not search.asked:
            search.doubt, self.lost = True, lost
        self.fit(window)

    def fit(self, window: int) -> None:
        """Rule 6."""
        size = self.search.size  # type: ignore[union-attr]
        self.use(size if window >= ROOM * size else max(self.base, window // ROOM))

    def hole(self, lost: int) -> None:
        self.holes += 1
        self.lost = lost

    def after(self, now: float, out: list[Any]) -> None:
        """`out` was taken: a probe may follow it."""
        search = self.search
        if self.off or not out or (search is not None and search.asked):
            return
        if search is None or not search.complete:
            self.full += len([1 for one in out if len(one[0]) >= FULL])
            if self.full < BULK:
                return
        if search is None:
            search = self.begin(self.at or out[-1][1])
        size = search.ask(now)
        if not size:
            return
        packet = self.engine.probe(size, now)
        if packet is None:
            return
        search.sent(size, now, self.engine.facts().get("rtt_us", 0) / 1e6)
        out.append((packet, self.at or out[-1][1]))

    def begin(self, peer: Any) -> Search:
        """Rule 3."""
        bounds = [self.most, self.engine.bound()]
        if self.engine.way is not None:
            bounds.append(self.engine.way(peer))
        self.search = Search(self.base, min(one for one in bounds if one))
        self.lost = self.engine.trouble()[1]
        return self.search

    def verdict(self, arrived: bool, now: float) -> None:
        """What became of the probe."""
        search = self.search
        if search is None or not search.asked:
            return
        _, lost, window = self.engine.trouble()
        if arrived:
            search.acked(now)
            self.lost = lost
        elif search.lost(now):
            self.hole(lost)
        self.fit(window)

    def deadline(self) -> float | None:
        """When `ticked` is due."""
        return self.search.until if self.search is not None and self.search.asked else None

    def ticked(self, now: float) -> None:
        if self.search is not None and self.search.asked and now >= self.search.until:
            self.verdict(False, now)
