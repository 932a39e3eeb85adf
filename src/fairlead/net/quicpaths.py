"""Where the client of a connection is: addresses that it is heard from, and which of them it has proven (RFC 9000 sections 8.2, 9).

The core of qh3 2.1 knows four addresses in a connection's life, does not follow a client back to one that it left, and says nothing
more to anybody when one that it challenged does not answer. So it is shown one address for ever, its client's first, and all of
this is ours.

Rules
1. What comes from another address than the current one is opened here first (`net.quicseal`). A packet that probes moves nobody
   (section 9.1); its PATH_CHALLENGE is answered where it came from (section 8.2.2), and the engine sees a PING in its place.
2. The newest packet that does not only probe says where the client wants to be (section 9.3). That address is challenged, with at
   most three times the bytes that came from it until it answers (section 8.1), and so is the current one (section 9.3.3). Until it
   answers everything goes on at the current one: an address that is dead or somebody else's costs nobody anything (section 9.3.2).
3. A challenge is sent again after each probe timeout, doubled, each time with other data (section 8.2.1), and given up after three
   of the longest (section 8.2.4). It fills `LEAST` bytes; when the credit was too small for that, a full one follows the answer.
4. An address that was proven within `RECENT` is gone back to at once (section 9.3).
5. At most `MOST` addresses are remembered, those from which something opened; the oldest unproven one is forgotten first.
6. Moving to another host begins with a small window (section 9.4; `Qh3Engine.has_room`); to another port it keeps the window. Who
   called us by another id is called by another one (section 9.5).
"""

from __future__ import annotations

import os
from typing import Any

from fairlead.wire.quicframes import PATH_CHALLENGE, PATH_RESPONSE, PING, PROBING, frames

Peer = tuple[str, int]
LEAST = 1200  # bytes of a datagram with a challenge (section 8.2.1)
SMALL = 60  # bytes of one that is not filled, at most
RECENT = 10.0  # seconds
MOST = 8
INITIAL_PTO = 1.0  # seconds: three times the RTT that a path has until it is known (RFC 9002 section 6.2.2)
QUICKEST = 0.1  # seconds
BEHIND = 64  # packets that the number of those heard may be off


class Path:
    """One address."""

    __slots__ = ("again", "cid", "datas", "end", "full", "got", "peer", "proven", "sent", "tries")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.got = self.sent = self.tries = 0
        self.proven = 0.0  # when it last was
        self.datas: list[bytes] = []
        self.again = self.end = 0.0  # `end` 0 when no challenge is out
        self.full = False  # a challenge of `LEAST` bytes was among those
        self.cid = b""

    @property
    def credit(self) -> int:
        """Bytes that may still be sent."""
        return 1 << 20 if self.proven else 3 * self.got - self.sent


class Paths:
    """`Paths(engine, at)`: `engine` opens packets, `say`s frames to an address, `follow`s; `at` is where the client is now."""

    def __init__(self, engine: Any, at: Peer, heard: int, cid: bytes, now: float) -> None:
        self.engine = engine
        first = Path(at)
        first.proven, first.cid = now, cid
        self.known: dict[Peer, Path] = {at: first}
        self.at = first
        self.wanted = first
        self.newest = max(-1, heard - BEHIND)  # the number of the newest packet that did not only probe
        self.replies: list[tuple[Path, bytes]] = []  # what is to be said where

    # ---- in

    @property
    def busy(self) -> bool:
        """Every packet is to be looked at."""
        return any(path.end for path in self.known.values())

    def look(self, datagrams: list[bytes], peer: Peer, now: float) -> list[bytes]:
        """What came from an address, as the engine is to see it."""
        path = self.known.get(peer) or Path(peer)
        out = [self.seen(data, path, now) for data in datagrams]
        if self.wanted is not self.at:
            if self.wanted.proven and now - self.wanted.proven < RECENT:
                self.move()
            elif not self.wanted.end:
                self.begin(self.wanted, now)
                self.begin(self.at, now)
        return out

    def met(self, path: Path) -> None:
        """A new address, from which the client was heard. Rule 5."""
        if len(self.known) >= MOST:
            others = [one for one in self.known.values() if one is not self.at]
            gone = min(others, key=lambda one: one.proven)
            del self.known[gone.peer]
            if self.wanted is gone:
                self.wanted = self.at
        self.known[path.peer] = path

    def seen(self, data: bytes, path: Path, now: float) -> bytes:
        """One datagram. Rule 1."""
        opened = self.engine.opened(data)
        if opened is None:
            return data
        if path.peer not in self.known:
            self.met(path)
        first, number, payload = opened
        path.got += len(data)
        path.cid = data[1:9]
        try:
            found = frames(payload)
        except ValueError:
            return data
        probing, changed = True, payload
        for kind, begin, end in found:
            if kind not in PROBING:
                probing = False
            elif kind == PATH_RESPONSE:
                self.answered(payload[begin + 1 : end], now)
            elif kind == PATH_CHALLENGE and path is not self.at:
                self.replies.append((path, bytes((PATH_RESPONSE,)) + payload[begin + 1 : end]))
                changed = changed[:begin] + bytes((PING,)) + bytes(8) + changed[end:]
        if not probing and number > self.newest:
            self.newest = number
            self.wanted = path
        return data if changed is payload else self.engine.closed_again(data, first, number, changed)

    def answered(self, data: bytes, now: float) -> None:
        """A PATH_RESPONSE, on whichever path (section 8.2.3)."""
        for path in self.known.values():
            if data in path.datas:
                path.proven = now
                path.datas.clear()
                path.end = 0.0
                if not path.full:
                    path.full = True
                    self.begin(path, now)
                return

    def begin(self, path: Path, now: float) -> None:
        """Challenge an address."""
        path.tries = 0
        path.end = now + 3 * max(self.timeout(), INITIAL_PTO)
        self.challenge(path, now)

    def challenge(self, path: Path, now: float) -> None:
        """Rule 3."""
        data = os.urandom(8)
        path.datas = [*path.datas[-2:], data]
        path.again = now + self.timeout() * (1 << path.tries)
        path.tries += 1
        self.replies.append((path, bytes((PATH_CHALLENGE,)) + data))

    def timeout(self) -> float:
        """A probe timeout, of the current path."""
        return max(QUICKEST, 3 * self.engine.rtt())

    def move(self) -> None:
        """Rules 4 and 6."""
        old, new = self.at, self.wanted
        self.at = new
        self.engine.follow(new.peer, old.peer[0] != new.peer[0], bool(old.cid) and old.cid != new.cid)

    # ---- out

    def flush(self, now: float) -> list[tuple[bytes, Peer]]:
        """Datagrams of ours; those for which an address has no credit are left out, the next try may have it."""
        out = []
        replies, self.replies = self.replies, []
        for at, (path, said) in enumerate(replies):
            credit = path.credit
            if credit < SMALL:
                continue
            full = credit >= LEAST
            data = self.engine.sealed(said, LEAST if full else 0)
            if data is None:  # the engine cannot say anything now
                self.replies = replies[at:][:MOST]
                break
            path.sent += len(data)
            path.full = path.full or (full and said[0] == PATH_CHALLENGE)
            out.append((data, path.peer))
        return out

    # ---- time

    def due(self) -> float | None:
        """When `tick` is, or None."""
        found = [min(path.again, path.end) for path in self.known.values() if path.end]
        return min(found) if found else None

    def tick(self, now: float) -> None:
        for path in list(self.known.values()):
            if path.end and now >= path.end:
                self.failed(path)
            elif path.end and now >= path.again:
                self.challenge(path, now)

    def failed(self, path: Path) -> None:
        """Nobody answers there (section 8.2.4)."""
        path.end = 0.0
        path.datas.clear()
        if path is self.at:
            return
        if not path.proven:
            del self.known[path.peer]
        path.proven = 0.0
        if self.wanted is path:
            self.wanted = self.at
