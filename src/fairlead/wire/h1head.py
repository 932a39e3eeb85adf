"""Heads of HTTP/1.x messages: one strict parser for requests, responses and trailers (RFC 9112 2 to 5, 9110 5).

`Head` is fed positions in bytes and goes line by line. What it has understood is never read again: when bytes end
inside a line it says where that line starts, and goes on from there when more came. It keeps what the fields say about
framing and routing; that they agree with each other is checked at the end of the head, by `request` and `response`.

Rules
1. A line ends in CRLF. A field line is name ":" value, its name a token with nothing before and nothing behind it.
2. Content-Length is one number; Transfer-Encoding is exactly `chunked`, in 1.1 only, and never beside Content-Length.
3. HTTP/1.1 requests have exactly one Host, a plain host with an optional port. An absolute target overrides it.
4. The first rule broken, from left to right, is the one reported, however the bytes were split.

5. A connection mostly says the same fields again, whatever it asks for. Field lines that are byte for byte those of the head
   before are not read again: they mean what they meant, and the message gets the same `Block`. Kept for that, from the second
   head on, are at most `REMEMBERED` bytes, of heads that came in one read and have nothing of Transfer-Encoding, Upgrade or Expect.

Fields are noted as positions in a `Block` (see `h1block`) while a head comes in one read; a head that comes in pieces, a
long one and trailers become a list of pairs as they come.

Names of rules are in `h1rules`. Compiled, `v` is a pointer to the bytes of `data`; interpreted, it is `data` itself.
"""

from __future__ import annotations

from fairlead.core.message import ODD, Request, Response
from fairlead.wire.h1block import COMPILED, LARGEST, Block
from fairlead.wire.h1bytes import (
    KIND_OF,
    KINDS,
    LENGTHS,
    LOW,
    METHODS,
    NAMES,
    SLOT_NUMBERS,
    SPELLED,
    TARGET,
    VALUE,
    good_host,
    number_at,
    same,
)  # fmt: skip
from fairlead.wire.h1rules import broken
from fairlead.wire.h1target import other_form

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_LOW = LOW
_VALUE = VALUE
_TARGET = TARGET
_NAMES = NAMES
_KINDS = KINDS
_NUMBERS = SLOT_NUMBERS
_LENGTHS = LENGTHS
_SPELLED = SPELLED
_one = 1
_ODD = ODD
_LARGEST = LARGEST
REMEMBERED = _REMEMBERED = 1024


class Head:
    """What one head says. Attributes are read by wire.h1 only; see `start` for their meaning."""

    def __init__(self, limits, client):
        self.client = client
        self.lenient_lf = False
        self.lenient_fold = False
        self.max_line = limits.line or 1 << 60
        self.max_head = limits.head or 1 << 60
        self.max_fields = limits.headers or 1 << 60
        self.max_name = limits.name or 1 << 60
        self.max_trailer = limits.trailer or 1 << 60
        self.known_host = b""
        self.last: Block = None  # type: ignore[assignment]  # the fields of the last head, and what they meant
        self.last_at = self.last_size = 0
        self.last_length = -1
        self.last_hosts = 0
        self.last_host = b""
        self.last_close = self.last_keep = self.repeating = False
        self.start()

    def start(self):
        """Forget the last head."""
        self.headers: list = None  # type: ignore[assignment]  # fields as a list; None while `block` holds them
        self.block: Block = None  # type: ignore[assignment]
        self.begun = False  # the start line is understood
        self.whole = False  # the empty line came
        self.trailing = False  # these are trailer fields
        self.size = 0  # bytes understood
        self.blank = 0  # empty lines before the start line
        self.minor = 1
        self.length = -1  # Content-Length, or -1
        self.chunked = False
        self.hosts = 0
        self.host = b""
        self.close = False  # Connection says close
        self.keep = False  # Connection says keep-alive
        self.upgrading = False  # Connection says upgrade
        self.upgrade = b""
        self.expect = False
        self.method = ""
        self.connecting = self.heading = False
        self.target = b""
        self.status = 0
        self.reason = b""

    def trail(self):
        """What comes now are the trailer fields of the same message."""
        self.headers = []
        self.block = None  # type: ignore[assignment]
        self.whole = False
        self.trailing = True
        self.size = 0

    def fail(self, rule):
        """Raise the error of a broken rule."""
        raise broken(rule, self.client)

    # ---- lines

    def read(self, data, at, end):
        """Understand `data[at:end]` as far as its lines are whole; the position where to go on. Sets `whole`."""
        first = at
        if not self.begun:
            at = self.first_line(data, at, end)
            if not self.begun:
                self.too_long(end - at)
                self.size += at - first
                return at
        starts = -1
        if self.headers is None:
            if self.block is not None:
                if self.block.data is not data:
                    self.unblock()
            elif self.last is not None and _fast.alike(data, at, end, self.last.data, self.last_at, self.last_size):
                self.recall()
                at += self.last_size
            elif self.lenient_fold or len(data) > _LARGEST:
                self.unblock()
            else:
                block = Block.__new__(Block)
                block.data = data
                if not COMPILED:  # else it was made all zero
                    block.begin()
                self.block = block
                starts = at
        if not self.whole:
            at = self.fields(data, data, at, end)
            if self.whole and starts >= 0:
                self.remember(data, starts, at)
        self.size += at - first
        if not self.whole:
            self.too_long(end - at)
            self.too_big(end - at)
        elif self.size > self.max_head or self.trailing:
            self.too_big(0)
        return at

    def recall(self):
        """These are the fields of the head before (rule 5)."""
        self.block = self.last
        self.block.again = True
        self.length = self.last_length
        self.hosts = self.last_hosts
        self.host = self.last_host
        self.close = self.last_close
        self.keep = self.last_keep
        self.whole = True

    def remember(self, data, at, end):
        """The next head may have the same fields: `data[at:end]`, the empty line with them."""
        if not self.repeating:  # many connections have one head only, and then wait
            self.repeating = True
            return
        if len(data) > _REMEMBERED or self.chunked or self.expect or self.upgrading or self.upgrade:
            self.last = None  # type: ignore[assignment]
            return
        self.last = self.block
        self.last_at = at
        self.last_size = end - at
        self.last_length = self.length
        self.last_hosts = self.hosts
        self.last_host = self.host
        self.last_close = self.close
        self.last_keep = self.keep

    def unblock(self):
        """Go on with a list of pairs."""
        block = self.block
        self.headers = [] if block is None else block.listed(0)
        self.block = None  # type: ignore[assignment]

    def too_long(self, pending):
        """Refuse a line that is not over yet and already too long."""
        if pending > self.max_line:
            self.fail("field-too-long" if self.begun else "line-too-long")

    def too_big(self, pending):
        """Refuse a head or trailer section that is too long as a whole."""
        if self.trailing:
            if self.size + pending > self.max_trailer:
                self.fail("trailer-too-long")
        elif self.size + pending > self.max_head:
            self.fail("head-too-long")

    def first_line(self, data, at, end):
        """The request or status line. Sets `begun` when it is whole; else the position says where it starts."""
        if self.client:
            return self.status_line(data, data, at, end)
        while at < end and (data[at] == 13 or data[at] == 10):
            if data[at] == 10 and not self.lenient_lf:
                self.fail("bare-lf")
            if data[at] == 13:
                if at + 1 >= end:
                    return at
                if data[at + 1] != 10:
                    self.fail("bare-cr")
                at += 1
            at += 1
            self.blank += 1
            if self.blank > 2:
                self.fail("empty-lines")
        return self.request_line(data, data, at, end)

    def request_line(self, data, v, at, end):
        low = _LOW
        allowed = _TARGET
        start = at
        while at < end and low[v[at]]:
            at += 1
        if at == end:
            return start
        if v[at] != 32 or at == start:
            self.fail("bad-request-line" if at > start and (v[at] == 9 or v[at] == 13 or v[at] == 10) else "bad-method")
        name_end = at
        at += 1
        first = at
        while at < end and allowed[v[at]]:
            at += 1
        if at == end:
            return start
        if v[at] != 32 or at == first:
            self.fail("bad-request-line" if v[at] == 32 or v[at] == 13 or v[at] == 10 else "bad-target")
        last = at
        at = self.version(data, v, at + 1, end, data[start:name_end] == b"PRI" if v[start] == 80 else False)
        if at < 0:
            return start
        if at + 1 < end and v[at] == 13 and v[at + 1] == 10:
            at += 2
        else:
            at = self.line_end(v, at, end)
            if at < 0:
                return start
        if at - start > self.max_line:
            self.fail("line-too-long")
        if name_end - start == 3 and v[start] == 71 and v[start + 1] == 69 and v[start + 2] == 84:
            self.method = "GET"
        else:
            self.method = _method(data[start:name_end])
            self.connecting = self.method == "CONNECT"
            self.heading = self.method == "HEAD"
        self.target = _fast.piece(data, first, last)
        self.begun = True
        return at

    def version(self, data, v, at, end, preface):
        """Behind "HTTP/1.x" at `at`, or -1 while it is not whole."""
        if end - at < 8:
            part = data[at:end]
            if (
                b"HTTP/".startswith(part[:5])
                and (len(part) < 6 or 48 <= part[5] <= 57)
                and (len(part) < 7 or part[6] == 46)
            ):
                return -1
            self.fail("bad-version")
        if v[at] != 72 or v[at + 1] != 84 or v[at + 2] != 84 or v[at + 3] != 80 or v[at + 4] != 47 or v[at + 6] != 46:
            self.fail("bad-version")
        if v[at + 5] < 48 or v[at + 5] > 57 or v[at + 7] < 48 or v[at + 7] > 57:
            self.fail("bad-version")
        if v[at + 5] != 49 or v[at + 7] > 49:
            self.fail("h2-preface" if preface else "version")
        self.minor = v[at + 7] - 48
        return at + 8

    def line_end(self, v, at, end):
        """Behind the end of line at `at`, or -1 while it is not whole."""
        if at >= end:
            return -1
        if v[at] == 13:
            if at + 1 >= end:
                return -1
            if v[at + 1] != 10:
                self.fail("bare-cr")
            return at + 2
        if v[at] == 10:
            if not self.lenient_lf:
                self.fail("bare-lf")
            return at + 1
        self.fail("bad-status-line" if self.client else "bad-request-line")

    def status_line(self, data, v, at, end):
        allowed = _VALUE
        start = at
        at = self.version(data, v, at, end, False)
        if at < 0 or at + 4 >= end:
            return start
        if v[at] != 32:
            self.fail("bad-status-line")
        status = 0
        for i in range(at + 1, at + 4):
            if v[i] < 48 or v[i] > 57:
                self.fail("bad-status-line")
            status = status * 10 + (v[i] - 48)
        if status < 100:
            self.fail("bad-status-line")
        at += 4
        first = at
        if v[at] == 32:
            at += 1
            first = at
            while at < end and allowed[v[at]]:
                at += 1
        last = at
        at = self.line_end(v, at, end)
        if at < 0:
            return start
        if at - start > self.max_line:
            self.fail("line-too-long")
        self.status = status
        self.reason = _fast.piece(data, first, last)
        self.begun = True
        return at

    def fields(self, data, v, at, end):
        """Field lines, up to and with the empty line. The position where the first line that is not whole starts."""
        low = _LOW
        lengths = _LENGTHS
        spelled = _SPELLED
        kinds = _KINDS
        numbers = _NUMBERS
        block = self.block
        while at < end:
            start = at
            while at < end and low[v[at]]:
                at += 1
            size = at - start
            if at == end:
                if size > self.max_name:
                    self.fail("name-too-long")
                return start
            if v[at] != 58 or size == 0:
                if size == 0 and v[at] == 13 and at + 1 < end and v[at + 1] == 10:
                    self.whole = True
                    return at + 2
                at = self.odd_line(data, at, end, size)
                if at < 0 or self.whole:
                    return start if at < 0 else at
                continue
            at += 1
            while at < end and (v[at] == 32 or v[at] == 9):
                at += 1
            first = at
            at = last = _fast.value_end(v, at, end)
            if at + 1 < end and v[at] == 13 and v[at + 1] == 10:
                at += 2
            else:
                at = self.odd_end(v, at, end)
                if at < 0:
                    return start
            while last > first and (v[last - 1] == 32 or v[last - 1] == 9):
                last -= 1
            if size > self.max_name or at - start > self.max_line:
                self.fail("name-too-long" if size > self.max_name else "field-too-long")
            slot = (size + low[v[start]] + low[v[start + size - 1]] * 21 + low[v[start + (size >> 1)]] * 23) & 1023
            if lengths[slot] != size or not _fast.named(v, start, size, spelled, slot):
                slot = 65535
            elif kinds[slot] and (kinds[slot] < 7 or self.trailing):
                self.note(kinds[slot], data, first, last)
            if block is None or block.count == 44:
                self.keep_field(data, start, start + size, first, last, slot)
                block = None  # type: ignore[assignment]
                continue
            marks = block.marks
            free = block.count * 5
            marks[free], marks[free + 1] = start, start + size
            marks[free + 2], marks[free + 3], marks[free + 4] = first, last, slot
            block.count += 1
            if slot != 65535:
                block.known |= _one << numbers[slot]
            if block.count > self.max_fields:
                self.fail("too-many-fields")
        return at

    def keep_field(self, data, start, colon, first, last, slot):
        """One more field for the list."""
        if self.headers is None:
            self.unblock()
        headers = self.headers
        name = _fast.lower(data, start, colon) if slot == 65535 else _NAMES[slot]
        headers.append((name, _fast.piece(data, first, last)))
        if len(headers) > self.max_fields:
            self.fail("too-many-fields")

    def odd_end(self, v, at, end):
        """A value that does not end in CRLF: behind its end, -1 while it is not whole, or an error."""
        if at >= end or (v[at] == 13 and at + 1 >= end):
            return -1
        if v[at] == 13:
            self.fail("bare-cr")
        if v[at] != 10:
            self.fail("bad-field-value")
        if not self.lenient_lf:
            self.fail("bare-lf")
        return at + 1

    def odd_line(self, data, at, end, size):
        """A line that is not name ":" ...; `at` is where its name stops. Behind it, -1 while not whole, or an error."""
        byte = data[at]
        if size:
            if byte == 32 or byte == 9:
                self.fail("space-before-colon")
            self.fail("bad-field-name")
        if byte == 13:
            if at + 1 >= end:
                return -1
            self.fail("bare-cr")
        if byte == 10:
            if not self.lenient_lf:
                self.fail("bare-lf")
            self.whole = True
            return at + 1
        if byte == 32 or byte == 9:
            return self.unfold(data, at, end)
        self.fail("bad-field-name")

    def unfold(self, data, at, end):
        """An obs-fold line, if they are tolerated: it joins the value before it, with a space between."""
        if not self.lenient_fold or not self.headers:  # who tolerates folds keeps a list
            self.fail("obs-fold")
        name, value = self.headers[-1]
        if name in KIND_OF:
            self.fail("obs-fold")
        first = at
        while at < end and _VALUE[data[at]]:
            at += 1
        last = at
        if at + 1 < end and data[at] == 13 and data[at + 1] == 10:
            at += 2
        else:
            at = self.odd_end(data, at, end)
            if at < 0:
                return -1
        if at - first > self.max_line:
            self.fail("field-too-long")
        more = data[first:last].strip(b" \t")
        self.headers[-1] = (name, value + b" " + more if value and more else value or more)
        return at

    # ---- what fields mean

    def note(self, kind, data, first, last):
        """Remember a field that decides framing, routing or the connection's course."""
        if self.trailing:
            if kind != 7 and kind != 8:
                self.fail("bad-trailer")
        elif kind == 1:
            self.hosts += 1
            if self.hosts > 1 and not self.client:
                self.fail("two-hosts")
            if _fast.stands(data, first, last, self.known_host):
                self.host = self.known_host
            else:
                self.host = _fast.piece(data, first, last)
        elif kind == 2:
            if self.length >= 0:
                self.fail("two-cl")
            self.length = number_at(data, first, last)
            if self.length < 0:
                self.fail("bad-cl")
        elif kind == 4:
            self.note_connection(data, first, last)
        else:
            self.note_rest(kind, _fast.piece(data, first, last))

    def note_rest(self, kind, value):
        """Transfer-Encoding, Expect, Upgrade."""
        if kind == 3:
            if self.chunked:
                self.fail("two-te")
            if value != b"chunked" and value.lower() != b"chunked":
                self.fail("te-not-chunked")
            self.chunked = True
        elif kind == 5:
            if value.lower() != b"100-continue":
                if not self.client:
                    self.fail("expect")
            else:
                self.expect = True
        elif kind == 6:
            self.upgrade = self.upgrade + b"," + value.lower() if self.upgrade else value.lower()

    def note_connection(self, data, first, last):
        """A Connection field: our options out of it; the block is told when there are others."""
        if same(b"keep-alive", data, first, last - first):
            self.keep = True
            return
        if same(b"close", data, first, last - first):
            self.close = True
            return
        if self.block is not None:
            self.block.known |= _ODD
        for option in data[first:last].lower().split(b","):
            option = option.strip(b" \t")
            if option == b"close":
                self.close = True
            elif option == b"keep-alive":
                self.keep = True
            elif option == b"upgrade":
                self.upgrading = True

    # ---- whole messages

    def request(self, scheme):
        """The Request of a whole head, its rules checked."""
        target = self.target
        host = self.host
        if self.hosts:
            if host is not self.known_host or not host:
                if not good_host(host):
                    self.fail("bad-host")
                self.known_host = host
        elif self.minor:
            self.fail("no-host")
        message = Request.__new__(Request)
        message.method = self.method
        message.scheme = scheme
        message.authority = host
        message.target = target
        message.kept = self.headers
        message.block = self.block
        message.drop = 0
        message.trailers = None
        message.version = "1.1" if self.minor else "1.0"
        message.decoded = ""
        message.raw_path = message.query = message.upgrade = message.protocol = b""
        message.before = message.after = message.tail = b""
        message.length = 0
        message.expect = False
        if target[0] != 47:
            self.other_form(message)
        elif self.connecting:
            self.fail("target-form")
        if self.chunked:
            if self.length >= 0:
                self.fail("te-and-cl")
            if self.minor == 0:
                self.fail("te-in-1.0")
            message.length = -1
        elif self.length > 0:
            message.length = self.length
        if self.minor:
            message.expect = self.expect and message.length != 0
            if self.upgrading and self.upgrade:
                message.upgrade = self.upgrade
        return message

    def other_form(self, message):
        """A target that does not begin with "/"."""
        scheme, target, authority = other_form(self.method, self.target)
        if scheme is not None:
            message.scheme = scheme
            message.target = target
        if authority is not None:
            self.override(message, authority)

    def override(self, message, authority):
        """The target's authority replaces Host (RFC 9112 section 3.2.2)."""
        message.authority = authority
        if self.hosts and self.host != authority:
            message.headers = [(name, authority if name == b"host" else value) for name, value in message.headers]

    def response(self, to_head):
        """The Response of a whole head, `to_head`: to a HEAD request. `length` is what its framing says."""
        status = self.status
        message = Response.__new__(Response)
        message.status = status
        message.kept = self.headers
        message.block = self.block
        message.drop = 0
        message.before = message.after = message.tail = b""
        message.trailers = None
        message.reason = self.reason
        message.version = "1.1" if self.minor else "1.0"
        message.upgrade = self.upgrade
        message.length = -1
        if status < 200 and self.minor == 0:
            self.fail("interim-in-1.0")
        if self.chunked:
            if self.length >= 0:
                self.fail("te-and-cl")
            if self.minor == 0:
                self.fail("te-in-1.0")
            if status < 200 or status == 204:
                self.fail("te-without-body")
        if (status < 200 or status == 204) and self.length > 0:
            self.fail("cl-without-body")
        if to_head or status < 200 or status == 204 or status == 304:
            message.length = 0
        elif self.length >= 0:
            message.length = self.length
        return message


def _method(name):
    return METHODS.get(name) or name.decode("ascii")
