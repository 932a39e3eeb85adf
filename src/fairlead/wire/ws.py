"""WebSocket: one socket's frames and messages, both roles (RFC 6455), with permessage-deflate (RFC 7692) if agreed.

It runs inside a byte tunnel (an exchange after 101, or after 200 to an extended CONNECT), so it is one for all HTTP
versions. Bytes and time in, words to an `Ear` out; our words become bytes for `take`.

    OPEN -> (a Close said or heard) CLOSING -> (both) OVER          a broken rule, a lost tunnel: OVER at once

Rules
1. Strict and early (section 7.1.7): reserved bits and opcodes, masking of the wrong role, lengths not in their shortest
   form, control frames that are cut or long, continuations out of place: failed as soon as the byte is there. Text is
   checked while it arrives (section 8.1), a size before its bytes come. The code and the rule's name stay in `failed`.
2. A message is heard whole. Its pieces are joined as they come, so memory is the message's size, however it is cut.
3. A Ping is answered at once, a Close is answered with its code (section 5.5). Data behind a Close of ours is read past.
4. An ear that answers False has enough: nothing more is heard until the next `feed`, `more` is true, and whoever carries
   the bytes holds back credit. Meanwhile the peer's silence is not counted against it, for it may be ours.
5. Silence of `limits.ping` is answered with a Ping, and `limits.pong` without any byte after it is a loss (1011). Any
   byte is a sign of life. `idle` counts messages only, in either direction.
6. The server ends the tunnel when both Closes are through, the client waits `limits.close` for it (section 7.1.1).
7. Masking keys (client role, section 5.3) come from `keys()`: 32 bits nobody can guess. There is no random source here.
"""

from __future__ import annotations

from fairlead.core.codec import Cast
from fairlead.core.exchange import Answer
from fairlead.wire.wsdeflate import BadDeflate, TooLong

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NORMAL, AWAY, PROTOCOL, NO_CODE, LOST, INVALID, TOO_BIG, INTERNAL = 1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011
RULES = {
    "reserved-bit": (1002, "a reserved bit is set"),
    "reserved-opcode": (1002, "a reserved opcode"),
    "not-masked": (1002, "a client's frame is not masked"),
    "masked": (1002, "a server's frame is masked"),
    "control-fragmented": (1002, "a control frame is fragmented"),
    "control-long": (1002, "a control frame is longer than 125 bytes"),
    "continues-nothing": (1002, "a continuation without a message"),
    "interrupts-message": (1002, "a new message inside another"),
    "long-form": (1002, "a length is not in its shortest form"),
    "close-short": (1002, "a close frame of one byte"),
    "close-code": (1002, "a close code that may not be sent"),
    "utf-8": (1007, "text that is not UTF-8"),
    "deflate": (1007, "a message that cannot be inflated"),
    "message-too-big": (1009, "the message is too big"),
    "too-many-fragments": (1009, "the message has too many fragments"),
    "no-pong": (1011, "no answer to a ping"),
    "idle": (1001, "no message for too long"),
    "too-old": (1001, "open for too long"),
}
_NO_BODY = b""


class Ear(Answer):
    """Who hears a WebSocket. `text` and `binary` answer whether more may follow at once.

    It derives from Answer because a compiled class has one base, and who hears a WebSocket mostly hears its exchange too.
    """

    def text(self, message):
        """A whole text message."""
        return True

    def binary(self, message):
        """A whole binary message."""
        return True

    def ping(self, payload):
        """A Ping, answered already."""

    def pong(self, payload):
        """A Pong."""

    def closed(self, code, reason):
        """Nothing more comes, heard once: the peer's code and reason, 1005 for none given, 1006 without a Close."""


class WebSocket:
    """One WebSocket. Attributes everybody may read:

    more      True: the ear had enough; `feed(b"", now)` goes on, other bytes are kept until then
    finished  True: end the tunnel once `take()` is empty and sent
    failed    "" or the name of the broken rule (one of RULES)
    said_close, heard_close    how far the closing handshake is
    messages_in, messages_out  whole messages
    """

    def __init__(self, ear, limits, client=False, deflate=None, keys=None, now=0):
        self.ear = ear
        self.client = client
        self.deflate = deflate
        self.keys = keys
        self.more = self.finished = self.said_close = self.heard_close = self.over = self.ended = self.paused = False
        self.failed = ""
        self.messages_in = self.messages_out = 0
        self.now = now
        self.opened = self.heard_at = self.message_at = now
        self.pinged_at = self.close_at = 0
        self.out = []
        self.late = []
        self.buffer = _NO_BODY
        self.mask_bit = 0 if client else 128
        self.kind = self.left = self.size = self.phase = self.checked = self.frames = 0
        self.key = 0
        self.in_frame = self.fin = self.packed = False
        self.first = _NO_BODY
        self.rest = None
        self.limits = limits
        self.max_message = limits.message
        self.ping_after = limits.ping

    # ---- bytes in

    def feed(self, data, now):
        """Bytes from the peer; b"" to go on after a pause."""
        self.now = now
        if data:
            self.heard_at = now
            self.pinged_at = 0
        if self.over:
            return
        if self.paused:
            if data:
                self.late.append(data)  # joined once: one by one would copy what is there for every byte that comes
                return
            self.paused = self.more = False
            self.heard_at = now
        if self.late:
            data = b"".join(self.late)
            self.late = []
        if self.buffer:
            data = self.buffer + data
            self.buffer = _NO_BODY
        if data:
            self.hear(data, data, 0, len(data))
        if self.ended and not self.paused and not self.over:
            self.lose()

    def hear(self, data, v, at, end):
        """Frames, as far as they are here and wanted."""
        while at < end and not self.over and not self.paused:
            if self.in_frame:
                at = self.hear_payload(data, at, end)
                continue
            was = at
            at = self.hear_frame(data, v, at, end)
            if at == was:
                break
        if self.over:
            return
        if at < end:
            self.buffer = _fast.piece(data, at, end)
        self.more = self.paused

    def hear_frame(self, data, v, at, end):
        """A frame's head (section 5.2), and its payload if that is all here; `at` itself: more bytes are needed."""
        if end - at < 2:
            return at
        first = v[at]
        size = v[at + 1] & 127
        if (v[at + 1] & 128) != self.mask_bit or first & 0x70 or self.kind or (first != 0x81 and first != 0x82):
            rule = self.unfit(first, v[at + 1])
            if rule:
                self.fail(rule)
                return end
        head = 2
        if size > 125:
            head = 4 if size == 126 else 10
            if end - at < head:
                return at
            size = self.long_size(v, at, head)
            if size < 0:
                return end
        if self.max_message and size > self.max_message - self.size and not self.said_close and not first & 8:
            self.fail("message-too-big")
            return end
        start = at + head
        key = 0
        if self.mask_bit:
            if end - start < 4:
                return at
            for _ in range(4):
                key = key << 8 | v[start]
                start += 1
        if first & 8:
            if end - start < size:
                return at
            self.hear_control(first & 15, _fast.masked(data, start, start + size, key, 0))
            return start + size
        if (first == 0x81 or first == 0x82) and end - start >= size and not self.said_close:
            self.hear_whole(first, data, start, start + size, key)
            return start + size
        self.begin_frame(first, size, key)
        return start

    def long_size(self, v, at, head):
        """A length of 16 or 64 bits; -1 when it is not in its shortest form."""
        size = 0
        if v[at + 2] < 128 or head == 4:
            for i in range(2, head):
                size = size << 8 | v[at + i]
        if size < 126 or (head == 10 and size < 65536):
            self.fail("long-form")
            return -1
        return size

    def unfit(self, first, second):
        """The rule that a frame's first two bytes break, or ""."""
        opcode = first & 15
        if first & 0x30 or (first & 0x40 and (self.deflate is None or opcode not in (TEXT, BINARY))):
            return "reserved-bit"
        if 2 < opcode < 8 or opcode > 10:
            return "reserved-opcode"
        if (second & 128) != self.mask_bit:
            return "masked" if self.client else "not-masked"
        if opcode >= 8:
            if not first & 128:
                return "control-fragmented"
            return "control-long" if second & 127 > 125 else ""
        if opcode == 0:
            return "" if self.kind else "continues-nothing"
        return "interrupts-message" if self.kind else ""

    def hear_whole(self, first, data, start, end, key):
        """A message of one frame that is all here, not compressed: the common case."""
        ear = self.ear
        if first == 0x82:
            self.count_in()
            go_on = ear.binary(_fast.masked(data, start, end, key, 0))
        else:
            text = _fast.masked_text(data, start, end, key)
            if text is None:
                self.fail("utf-8")
                return
            self.count_in()
            go_on = ear.text(text)
        if not go_on:
            self.paused = True

    def count_in(self):
        """A whole message came."""
        self.messages_in += 1
        self.message_at = self.now

    def begin_frame(self, first, size, key):
        """A data frame whose payload comes in pieces, or is a piece of a message."""
        if first & 15:
            self.kind = first & 15
            self.packed = first & 0x40 != 0
            self.size = self.frames = self.checked = 0
        self.frames += 1
        self.fin = first & 128 != 0
        self.left = size
        self.key = key
        self.phase = 0
        self.in_frame = True
        if self.limits.fragments and self.frames > self.limits.fragments:
            self.fail("too-many-fragments")
        elif size == 0:
            self.frame_over()

    def hear_payload(self, data, at, end):
        """The next piece of a data frame's payload."""
        take = end - at
        if take > self.left:
            take = self.left
        self.left -= take
        if not self.said_close:
            chunk = _fast.masked(data, at, at + take, self.key, self.phase)
            self.phase = (self.phase + take) & 3
            if self.packed:
                self.inflated(chunk, False)
            else:
                self.keep(chunk)
        if self.left == 0 and not self.over:
            self.frame_over()
        return at + take

    def frame_over(self):
        """A data frame is whole."""
        self.in_frame = False
        if not self.fin:
            return
        if self.said_close or (self.packed and not self.inflated(_NO_BODY, True)):
            self.forget()
            return
        kind = self.kind
        if kind == TEXT and self.checked:
            self.fail("utf-8")
            return
        body = self.first
        if self.rest is not None:
            body = bytes(self.rest)
        self.forget()
        self.count_in()
        if kind == TEXT:
            go_on = self.ear.text(body.decode())
        else:
            go_on = self.ear.binary(body)
        if not go_on:
            self.paused = True

    def keep(self, chunk):
        """Payload of the message that is coming; False when it breaks a rule."""
        size = len(chunk)
        if not size:
            return True
        self.size += size
        if self.max_message and self.size > self.max_message:
            self.fail("message-too-big")
            return False
        if self.kind == TEXT:
            self.checked = _fast.utf8(chunk, self.checked)
            if self.checked < 0:
                self.fail("utf-8")
                return False
        if self.rest is not None:
            self.rest += chunk
        elif self.first:
            self.rest = bytearray(self.first)
            self.rest += chunk
        else:
            self.first = chunk
        return True

    def inflated(self, chunk, end):
        """The same for compressed payload; `end`: the message is over."""
        most = self.max_message - self.size if self.max_message else -1
        try:
            chunk = self.deflate.finish(most) if end else self.deflate.unpack(chunk, most)
        except TooLong:
            self.fail("message-too-big")
            return False
        except BadDeflate:
            self.fail("deflate")
            return False
        return self.keep(chunk)

    def forget(self):
        """Between messages."""
        self.kind = self.size = self.checked = 0
        self.packed = False
        self.first = _NO_BODY
        self.rest = None

    def hear_control(self, opcode, payload):
        """A whole control frame (section 5.5)."""
        if opcode == PING:
            if not self.said_close:
                self.write(PONG, payload)
            self.ear.ping(payload)
        elif opcode == PONG:
            self.ear.pong(payload)
        else:
            self.hear_close(payload)

    def hear_close(self, payload):
        """The peer's Close (section 5.5.1)."""
        code = NO_CODE
        reason = ""
        if len(payload) == 1:
            self.fail("close-short")
            return
        if payload:
            code = payload[0] << 8 | payload[1]
            if not may_be_sent(code):
                self.fail("close-code")
                return
            if _fast.utf8(payload[2:], 0) != 0:
                self.fail("utf-8")
                return
            reason = payload[2:].decode()
        self.heard_close = True
        if not self.said_close:
            self.say_close(code, "")
        self.stop(code, reason)
        if not self.client:
            self.finished = True

    def stop(self, code, reason):
        """Nothing more is heard."""
        if self.over:
            return
        self.over = True
        self.more = self.paused = False
        self.buffer = _NO_BODY
        self.late = []
        self.forget()
        self.ear.closed(code, reason)

    def fail(self, rule):
        """A rule is broken: fail the connection (section 7.1.7)."""
        code, words = RULES[rule]
        self.failed = rule
        if not self.said_close:
            self.say_close(code, words)
        self.finished = True
        self.stop(LOST, words)

    def eof(self, now):
        """The tunnel ended on the peer's side."""
        self.now = now
        self.ended = True
        if self.over:
            self.finished = True
        elif not self.paused:
            self.lose()

    def lose(self):
        """The tunnel is gone without a whole closing handshake."""
        self.finished = True
        self.stop(LOST, "")

    # ---- words out

    def take(self):
        """What to send now: a list of bytes, or None."""
        out = self.out
        if not out:
            return None
        self.out = []
        return out

    def write(self, opcode, payload):
        """A control frame."""
        self.out.append(_fast.frame(128 | opcode, payload, self.next_key()))

    def next_key(self):
        """The masking key of the next frame, -1 for none."""
        return self.keys() if self.client else -1

    def text(self, message):
        """Say a text message. UnicodeEncodeError when it has lone surrogates; nothing is said then."""
        if self.said_close or self.over:
            return
        if self.deflate is not None and len(message) >= self.deflate.least:
            self.out.append(_fast.frame(0xC1, self.deflate.pack(message.encode()), self.next_key()))
        else:
            self.out.append(_fast.frame_text(0x81, message, self.next_key()))
        self.messages_out += 1
        self.message_at = self.now

    def cast(self, cast, now):
        """Say `cast.data`, UTF-8, as a text message, framed (and deflated, where nothing is remembered between messages) once
        for all who do: the Cast to send at once, or None: say it by `text`.
        """
        if self.said_close or self.over or self.out or self.client:
            return None
        deflate = self.deflate
        if deflate is not None and len(cast.data) >= deflate.least:
            if deflate.takeover:
                return None
            if cast.packed is None:
                cast.packed = {}
            made = cast.packed.get(deflate.bits)
            if made is None:
                made = cast.packed[deflate.bits] = Cast(_fast.frame(0xC1, deflate.pack(cast.data), -1))
        else:
            if cast.frame is None:
                cast.frame = Cast(_fast.frame(0x81, cast.data, -1))
            made = cast.frame
        self.messages_out += 1
        self.now = self.message_at = now
        return made

    def binary(self, message):
        """Say a binary message."""
        if self.said_close or self.over:
            return
        if self.deflate is not None and len(message) >= self.deflate.least:
            self.out.append(_fast.frame(0xC2, self.deflate.pack(message), self.next_key()))
        else:
            self.out.append(_fast.frame(0x82, message, self.next_key()))
        self.messages_out += 1
        self.message_at = self.now

    def fragment(self, opcode, payload, fin):
        """Say a piece of a message, uncompressed: its opcode first (TEXT, BINARY), then 0."""
        if self.said_close or self.over:
            return
        self.out.append(_fast.frame((128 if fin else 0) | opcode, payload, self.next_key()))
        if fin:
            self.messages_out += 1
        self.message_at = self.now

    def ping(self, payload):
        """Say a Ping, of at most 125 bytes."""
        if not self.said_close and not self.over:
            self.write(PING, payload[:125])

    def close(self, code, reason):
        """Begin the closing handshake. `code` 1005: say none. A reason over 123 bytes is cut."""
        if not self.said_close and not self.over:
            self.say_close(code, reason)

    def say_close(self, code, reason):
        payload = _NO_BODY
        if code != NO_CODE:
            payload = bytes((code >> 8, code & 255)) + cut(reason)
        self.write(CLOSE, payload)
        self.said_close = True
        self.close_at = self.now + self.limits.close if self.limits.close else 0

    # ---- time

    def deadline(self):
        """Monotonic ns at which `tick` wants to be called, 0 for never."""
        if self.finished:
            return 0
        if self.said_close:
            return self.close_at
        due = 0
        if not self.paused:
            if self.pinged_at:
                due = self.pinged_at + self.limits.pong
            elif self.ping_after:
                due = self.heard_at + self.ping_after
        limits = self.limits
        if limits.idle and (due == 0 or self.message_at + limits.idle < due):
            due = self.message_at + limits.idle
        if limits.total and (due == 0 or self.opened + limits.total < due):
            due = self.opened + limits.total
        return due

    def tick(self, now):
        """Time has reached the deadline."""
        self.now = now
        limits = self.limits
        if self.finished:
            return
        if self.said_close:
            if self.close_at and now >= self.close_at:
                self.lose()
        elif limits.total and now >= self.opened + limits.total:
            self.fail("too-old")
        elif limits.idle and now >= self.message_at + limits.idle:
            self.fail("idle")
        elif self.paused:
            return
        elif self.pinged_at:
            if now >= self.pinged_at + limits.pong:
                self.fail("no-pong")
        elif self.ping_after and now >= self.heard_at + self.ping_after:
            self.write(PING, _NO_BODY)
            if limits.pong:
                self.pinged_at = now
            else:
                self.heard_at = now


def may_be_sent(code):
    """May a Close carry this code (section 7.4 and IANA's registry)?"""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def cut(reason):
    """A reason as UTF-8, at most 123 bytes, never inside a character."""
    return reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()
