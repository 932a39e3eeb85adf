"""What an HTTP/3 connection says about itself: unidirectional streams, SETTINGS, GOAWAY, pushes, priorities (RFC 9114, 9218).

A stream that is the connection's begins with its type. Three are critical: they may be opened once and never end. A push never
comes, because we never allow one (no MAX_PUSH_ID). A type that is unknown is stopped, and what still comes of it is dropped.

Rules
1. The frame types of a control stream are checked before their payload is waited for. A known one has to fit into 4 KiB.
2. Every frame that is not SETTINGS or GOAWAY is counted (`h2limits`): none of them may make us work more than the peer does.
"""

from __future__ import annotations

from fairlead.core.errors import WireError
from fairlead.wire.h2stream import LONGEST, keep_priority, priority_of
from fairlead.wire.h3ends import Ends
from fairlead.wire.h3rules import reset_by_peer
from fairlead.wire.h3stream import Uni
from fairlead.wire.quicint import varint

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_SETTINGS_FRAME, _GOAWAY, _MAX_PUSH, _CANCEL_PUSH = 4, 7, 13, 3
_PRIORITY_UPDATE, _PRIORITY_PUSH = 0xF0700, 0xF0701
_CONTROL, _PUSH, _ENCODER, _DECODER, _UNREAD, _IGNORED = 0, 1, 2, 3, -1, -2
_USELESS, _PINGS, _EMPTIES, _UPDATES, _PRIORITIES = 1, 2, 3, 4, 5
_MOST = 4096  # bytes of a control frame that is known
_UNIS = 1000  # streams of the connection's own; QUIC lets a peer open about a hundred
_CREATION = 0x103
_FINAL_AFTER = 1_000_000_000  # ns between the two steps of goodbye
_FAR = 0x3FFFFFFFFFFFFFFC  # the first step's stream: all that can ever come is still taken


class Control(Ends):
    """What an HTTP/3 connection does with the streams and frames that are about itself."""

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.unis = {}
        self.critical = [-1, -1, -1, -1]
        self.priorities = None
        self.settled = self.connect_protocol = self.datagrams = False
        self.peer_section = 0
        self.max_push = -1
        self.on_settled = None  # callables waiting for the peer's SETTINGS
        self.behind = 0
        self.greet()

    def greet(self):
        """Our SETTINGS, which begin the control stream. Two that nobody knows keep peers honest (section 7.2.4.1)."""
        limits = self.limits
        settings = bytearray()
        if limits.qpack_table:
            settings += varint(1) + varint(limits.qpack_table) + varint(7) + varint(limits.qpack_blocked)
        if limits.head:
            settings += varint(6) + varint(limits.head)
        if not self.client:
            settings += varint(8) + varint(1)
        settings += varint(0x33) + varint(1) + varint(0x21 + 0x1F * 41) + varint(0)
        self.control += b"\0"
        self.put_control(_SETTINGS_FRAME, bytes(settings))

    def number(self, v, at, end):
        """The QUIC integer at `at`, or -1 when it is not whole; `behind` is where it ends."""
        if at >= end:
            return -1
        value = v[at]
        size = 1 << (value >> 6)
        if end - at < size:
            return -1
        value &= 63
        at += 1
        size -= 1
        while size > 0:
            value = value << 8 | v[at]
            at += 1
            size -= 1
        self.behind = at
        return value

    # ---- streams

    def hear_uni(self, data, stream, fin):
        """Bytes of a stream that is the connection's."""
        uni = self.unis.get(stream)
        if uni is None:
            if len(self.unis) >= _UNIS:
                self.fail("settings-flood")
            uni = self.unis[stream] = Uni()
        self.spend(stream, len(data))
        at = 0
        if uni.type == _UNREAD:
            data = uni.buffer + data
            uni.buffer = b""
            kind = self.number(data, 0, len(data))
            if kind < 0:
                uni.buffer = data
                if fin:
                    del self.unis[stream]
                return
            at = self.behind
            self.hear_type(uni, kind, stream, fin)
        if uni.type == _CONTROL:
            data = uni.buffer + (_fast.piece(data, at, len(data)) if at else data)
            uni.buffer = b""
            at = self.hear_control(uni, data, data, len(data))
            if at < len(data):
                uni.buffer = _fast.piece(data, at, len(data))
        elif uni.type == _ENCODER or uni.type == _DECODER:
            self.hear_qpack(uni, _fast.piece(data, at, len(data)) if at else data)
        if fin:
            if uni.type >= 0:
                self.fail("closed-critical")
            self.unis.pop(stream, None)

    def hear_type(self, uni, kind, stream, fin):
        """The type of a stream was read."""
        if kind == _PUSH:
            self.fail("push" if self.client else "client-push")
        if kind in (_CONTROL, _ENCODER, _DECODER):
            if self.critical[kind] >= 0:
                self.fail("two-critical")
            self.critical[kind] = stream
            uni.type = kind
            return
        uni.type = _IGNORED
        self.count(_USELESS)
        if not fin:
            self.order("stop", stream, _CREATION)

    def uni_reset(self, stream):
        """The peer reset a stream that is the connection's."""
        uni = self.unis.pop(stream, None)
        if uni is not None and uni.type >= 0:
            self.fail("closed-critical")

    def hear_qpack(self, uni, data):
        """Bytes of the peer's encoder or decoder stream."""
        decoder = self.decoder
        try:
            if uni.type == _DECODER:
                self.encoder.heard(data)
                return
            decoder.until = self.awaited()
            decoder.instructions(data)
        except WireError as error:
            self.blame(error)
        if self.waiting:
            self.wake()
        if decoder.halted and not self.dead:
            self.hear_qpack(uni, b"")

    def awaited(self):
        """How many inserts the next of those who wait needs, 0 when nobody waits."""
        least = 0
        for st in self.waiting:
            if least == 0 or st.wants < least:
                least = st.wants
        return least

    def blame(self, error):
        """A QPACK error ends the connection."""
        self.leave(error.code, "bad-qpack")
        error.status = 502 if self.client else 400
        error.side = "upstream" if self.client else "peer"
        raise error

    def wake(self):
        """Inserts came: look at the field sections that waited for them."""

    # ---- the control stream

    def hear_control(self, uni, data, v, end):
        """Every whole frame; where the first that is not whole begins."""
        at = 0
        while at < end and not self.dead and not self.finished:
            if uni.left:
                size = min(uni.left, end - at)
                uni.left -= size
                at += size
                continue
            kind = self.number(v, at, end)
            if kind < 0:
                break
            size = self.number(v, self.behind, end)
            if not self.settled and kind != _SETTINGS_FRAME:
                self.fail("missing-settings")
            known = self.may_come(kind)
            if size < 0:
                break
            if not known:
                at = self.behind
                uni.left = size
                self.count(_EMPTIES)
                continue
            if size > _MOST:
                self.fail("frame-too-long")
            if end - self.behind < size:
                break
            at = self.behind + size
            self.hear_frame(kind, data, v, self.behind, at)
        return at

    def may_come(self, kind):
        """Whether a frame of this type is known on the control stream; some may not be there."""
        if kind == _SETTINGS_FRAME:
            if self.settled:
                self.fail("frame-unexpected")
            return True
        if kind in (_GOAWAY, _CANCEL_PUSH):
            return True
        if kind in (_MAX_PUSH, _PRIORITY_UPDATE, _PRIORITY_PUSH):
            if self.client:
                self.fail("frame-unexpected")
            return True
        if kind == 0 or kind == 1 or kind == 5:
            self.fail("frame-unexpected")
        if kind == 2 or kind == 6 or kind == 8 or kind == 9:
            self.fail("reserved-frame")
        return False

    def hear_frame(self, kind, data, v, at, end):
        """A known frame with its whole payload."""
        if kind == _SETTINGS_FRAME:
            self.hear_settings(v, at, end)
            return
        value = self.number(v, at, end)
        if value < 0:
            self.fail("bad-frame")
        if kind in (_PRIORITY_UPDATE, _PRIORITY_PUSH):
            self.count(_PRIORITIES)
            if kind == _PRIORITY_PUSH or value & 3:
                self.fail("bad-id")
            self.hear_priority(value, _fast.piece(data, self.behind, end))
            return
        if self.behind != end:
            self.fail("bad-frame")
        if kind == _GOAWAY:
            self.hear_goaway(value)
            return
        self.count(_PINGS)
        if kind == _CANCEL_PUSH or value < self.max_push:
            self.fail("bad-id")  # nothing was ever promised
        self.max_push = value

    def hear_settings(self, v, at, end):
        """SETTINGS."""
        seen: set[int] = set()
        while at < end:
            name = self.number(v, at, end)
            value = -1 if name < 0 else self.number(v, self.behind, end)
            if value < 0:
                self.fail("bad-frame")
            at = self.behind
            if name in seen or name == 0 or 2 <= name <= 5 or len(seen) > 256:
                self.fail("bad-setting")
            seen.add(name)
            if name == 6:
                self.peer_section = value
            elif name == 8 or name == 0x33:
                if value > 1:
                    self.fail("bad-setting")
                if name == 8:
                    self.connect_protocol = value == 1
                else:
                    self.datagrams = value == 1
        self.settled = True
        waiting = self.on_settled
        if waiting is not None:
            self.on_settled = None
            for one in waiting:
                one()

    def hear_goaway(self, value):
        """GOAWAY: what the peer did not look at may be asked again elsewhere (section 5.2)."""
        if (self.client and value & 3) or (self.goaway_heard >= 0 and value > self.goaway_heard):
            self.fail("bad-id")
        self.count(_PINGS)
        self.goaway_heard = value
        self.reusable = False
        if self.client:
            self.sink.goaway(max(value - 3, 0))
            for st in list(self.streams.values()):
                if st.id >= value:
                    self.give_up(st, 0x10C, reset_by_peer(0x10B, True))
        else:
            self.sink.goaway(0)
        self.over()

    def hear_priority(self, about, value):
        """PRIORITY_UPDATE of a request (RFC 9218 section 7.2)."""
        if len(value) > LONGEST:
            return
        st = self.streams.get(about)
        if st is not None:
            priority_of(st, value)
        elif about > self.heard_last:
            self.priorities = keep_priority(self.priorities, about, value)

    # ---- goodbye

    def goaway(self, last):
        self.reusable = False
        if self.goaway_sent >= 0 or self.dead:
            return
        if self.client:
            self.goaway_sent = 0
            self.put_control(_GOAWAY, b"\0")
            if not self.streams:
                self.finish()
            return
        self.goaway_sent = _FAR
        self.put_control(_GOAWAY, varint(_FAR))
        self.goaway_at = (self.now or 1) + _FINAL_AFTER

    def last_goaway(self):
        """The second step: the peer knows, or has had time to."""
        self.goaway_at = 0
        self.goaway_sent = self.heard_last + 4 if self.heard_last >= 0 else 0
        self.put_control(_GOAWAY, varint(self.goaway_sent))
        self.over()
