# cython: annotation_typing=False
"""Beside the core of a qh3 connection: packets of ours, and what its core cannot do, done around it.

Rules
1. Packets are opened and sealed with the connection's own keys (`net.quicseal`); who seals takes a number that the core has not
   used and makes it skip that one. So nothing of the core's waits to be sent meanwhile.
2. The core is shown one address of a client for ever; where the client is, `net.quicpaths` finds out.
3. A NEW_TOKEN frame goes out in the place of a PING of the core's.
4. The core is not asked for events while it may forget a stream too early (`look_at_window`).
"""

from __future__ import annotations

from typing import Any

from fairlead.net.quicpaths import Paths
from fairlead.net.quicseal import Keys
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.quicverbs import Engine, Peer
from fairlead.wire.quicframes import NEW_TOKEN, PING
from fairlead.wire.quicint import varint

HEAD = 48  # bytes of a short packet that tell its number: with an id of 20 bytes they are 41
ALONE = 20  # bytes of a packet with a PING alone, behind the id: a number of two, and what is protected
PING_ALONE = bytes((PING,))
GIVEN = 1 << 32  # pings with a token are numbered from here
AGAIN = 1.0  # seconds until a token is given again that was not acknowledged
STAYS = 0.02  # seconds until a token is given: a connection for a single answer nearby does not pay for it
TRIES = 4
NARROW = 12_000  # bytes in flight on a path that nobody knows (RFC 9002 section 7.2)


class Beside(Engine):
    """See the module. What `net.quicqh3` is made on."""

    def __init__(self, settings: QuicSettings) -> None:
        super().__init__(settings)
        self.made_of = settings.size  # bytes of the datagrams that the core makes
        self.shown: Peer | None = None  # the only address that a server's core knows of, see `net.quicpaths`
        self.at: Peer | None = None  # where its client is
        self.paths: Paths | None = None
        self.secrets: list[Any] = [None, None]  # what we hear with, what we say with: (suite, secret), then `Keys`
        self.phase: int | None = 0
        self.updates = 0  # of the keys
        self.said = self.got = 0  # datagrams
        self.head = b""  # the first bytes of the last one said
        self.cid = b""  # by which the client called us last
        self.cid_size = 0  # bytes of the client's own ids
        self.token = b""  # to be given to the client
        self.awaited = self.asked = 0  # see `give`
        self.given = 0.0  # when it was
        self.ready: list[tuple[bytes, Peer]] = []  # made before we were asked for it
        self.shaky, self.troubles, self.timeouts, self.held_until = False, 0, 0, 0.0  # see `look_at_window`
        self.clock = 0.0
        self.room = self.spare = self.losses = 0  # see `has_room`; `room` 0 when the core's window is the only one

    def look_at_window(self, core: Any, now: float) -> None:
        """2.1 forgets a stream that is over though a second copy of what it said, made by a timeout, waits for room in the window,
        or a STOP_SENDING; then it raises "reserved stream is missing", with packets half made. It forgets when it is asked
        for events. So while such may wait it is asked for packets first, and for events only once they have left, or after a round
        trip in which they must have.
        """
        self.clock = now
        lost, timeouts = core.loss_total, core.pto_total
        if lost + timeouts != self.troubles:
            if timeouts != self.timeouts:
                self.timeouts = timeouts
                self.held_until = now + max(1.5 * self.rtt(), 0.02)
            self.troubles = lost + timeouts
            self.shaky = True
        if self.shaky and core.bytes_in_flight + self.made_of <= core.congestion_window:
            self.shaky = False
            self.held_until = 0.0

    def stop(self, stream: int, code: int) -> None:
        super().stop(stream, code)
        self.shaky = True
        self.held_until = self.clock + max(1.5 * self.rtt(), 0.02)

    def grant(self, token: bytes) -> None:
        self.token = token

    def give(self, now: float, out: list[tuple[bytes, Peer]]) -> None:
        """NEW_TOKEN, for which the core has no word: it is asked for a PING alone, and sent is a packet of ours with that number
        and the token behind the PING. Nothing else was in it, so nothing is lost, and the core tells when it is acknowledged.
        """
        core = self.conn._core
        self.asked += 1
        if self.asked > TRIES or core.state != "connected":
            self.token = b""
            return
        self.given = now
        core.send_ping(GIVEN + self.asked)
        one = core.poll_transmit(now)
        if one is None:
            return
        packet = one[0]
        if len(packet) == 1 + self.cid_size + ALONE and not packet[0] & 0x80:
            kept, size = self.secrets[1], 1 + self.cid_size
            keys = kept if isinstance(kept, Keys) else Keys(*kept)
            keys.advance(self.updates)
            made = keys.open(packet, size, self.said, self.updates)
            if made is not None and made[2].rstrip(b"\0") == PING_ALONE:  # no HANDSHAKE_DONE, which is as short
                self.awaited = GIVEN + self.asked
                said = PING_ALONE + bytes((NEW_TOKEN,)) + varint(len(self.token)) + self.token
                packet = keys.seal(0x40 | core.send_key_phase << 2, packet[1:size], made[1], said, 2)
        out.append((packet, self.at or one[1]))

    # ---- paths: what `net.quicpaths` asks of us

    def placed(self, datagrams: list[bytes], peer: Peer, now: float) -> list[bytes]:
        """What came from an address of the client, as the core is to see it."""
        self.got += len(datagrams)
        self.turned()
        if self.paths is None:
            if peer == self.at:
                self.cid = datagrams[-1][1:9]
                return datagrams
            self.paths = Paths(self, self.at, self.got, self.cid, now)  # type: ignore[arg-type]
        if peer != self.at or self.paths.busy:
            return self.paths.look(datagrams, peer, now)
        return datagrams

    def turned(self) -> None:
        """Were the keys updated?"""
        phase = self.conn._core.receive_key_phase
        if phase != self.phase:
            self.phase = phase
            self.updates += 1

    def keys(self, place: int, generation: int) -> Keys:
        """Of a direction."""
        found = self.secrets[place]
        if not isinstance(found, Keys):
            found = self.secrets[place] = Keys(*found)
        found.advance(generation)
        return found

    def opened(self, data: bytes) -> tuple[int, int, bytes] | None:
        """(first byte, packet number, payload) of what the peer sent, or None."""
        found = self.keys(0, self.updates).open(data, 1 + len(self.conn.host_cid), self.got, self.updates)
        if found is not None:
            self.got = max(self.got, found[1])
        return found

    def closed_again(self, data: bytes, first: int, number: int, payload: bytes) -> bytes:
        """A client's packet with another payload, for the core."""
        keys = self.keys(0, self.updates)
        size = 1 + len(self.conn.host_cid)
        return keys.of(self.updates + ((first >> 2 ^ self.updates) & 1)).seal(first, data[1:size], number, payload, (first & 3) + 1)

    def sealed(self, said: bytes, least: int) -> bytes | None:
        """A packet of ours with these frames, filled up to `least` bytes; None when none can be said now. Nothing waits in the core
        to be sent: its next packet number is the one after the last it used, and it is made to skip it.
        """
        core = self.conn._core
        if core.state != "connected" or not self.done or not self.head or self.head[0] & 0x80:
            return None
        phase = core.send_key_phase
        keys = self.keys(1, self.updates + ((self.updates ^ phase) & 1))
        size = 1 + self.cid_size
        number = keys.number(self.head, size, self.said)
        for sent in core.outstanding_application_packets:
            number = max(number, sent[0])
        number += 1
        said += bytes(max(0, least - size - 4 - len(said) - 16))
        packet = keys.seal(0x40 | phase << 2, self.head[1:size], number, said)
        core.restore_send_packet_number(2, number + 1)
        self.head, self.said = packet[:HEAD], number + 1
        return packet

    def rtt(self) -> float:
        """Seconds."""
        return float(self.conn._core.smoothed_rtt or 0.333)

    def follow(self, peer: Peer, far: bool, renamed: bool) -> None:
        """The client is at `peer` from now on; `far`: on another host; `renamed`: it calls us by another id."""
        self.at = peer
        if far:
            self.room = NARROW
            self.losses = self.conn._core.loss_total
        if renamed:
            self.attempt(self.conn._core.change_connection_id)

    def has_room(self, core: Any) -> bool:
        """May another packet be asked for? The core keeps the window of the path before, so on a new one ours is smaller: it begins
        as every path does and grows with each byte that is acknowledged (RFC 9002 section 7.3.1), until it is the core's. Whatever
        it is, a timer is worth two packets and a turn that brought something one, or nothing would ever be heard to be lost.
        """
        if core.bytes_in_flight < self.room:
            return True
        self.spare -= 1
        return self.spare >= 0

    def widen(self, before: int) -> None:
        """After something came; `before`: bytes in flight until then."""
        core = self.conn._core
        self.spare = max(self.spare, 1)
        if core.loss_total != self.losses:
            self.losses = core.loss_total
            self.room = max(self.room // 2, NARROW // 5)
        else:
            self.room += max(0, before - core.bytes_in_flight)
        if self.room >= core.congestion_window:
            self.room = 0
