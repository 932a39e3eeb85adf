"""gRPC on an HTTP body: messages with a five-byte prefix, and the time a call may take (its PROTOCOL-HTTP2.md).

    Length-Prefixed-Message = Compressed-Flag (1 byte, 0 or 1)  Message-Length (4 bytes, big-endian)  Message

Rules
1. `Reader.feed` takes body bytes as they come, cut anywhere; `next` gives whole messages, oldest first: bytes, or a tuple of
   one bytes for a message whose flag says that it is compressed. At most one message is incomplete at a time.
2. A length over `most` is refused when its prefix is there, before a byte of the message is kept. The other flag bits are
   refused: in a request nothing but 0 and 1 has a meaning (a 0x80 frame of gRPC-Web is the server's).
3. A body that ends inside of a message is cut short, which `end` says.
4. A broken rule is a WireError with `rule` out of RULES; the gRPC status that it deserves is `STATUS_OF[rule]`.
5. grpc-timeout is 1 to 8 digits and a unit (H M S m u n): everything else is no timeout and an error.
"""

# mypy: disable-error-code="union-attr,var-annotated,arg-type"

from __future__ import annotations

from collections import deque

from fairlead.core.errors import WireError

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

RULES = {
    "grpc-flag": "a message begins with a byte that is neither 0 nor 1",
    "grpc-too-long": "a message is longer than the limit",
    "grpc-cut": "the body ended inside of a message",
    "grpc-timeout": "grpc-timeout is not 1 to 8 digits and one of H, M, S, m, u, n",
}
STATUS_OF = {"grpc-flag": 13, "grpc-too-long": 8, "grpc-cut": 13, "grpc-timeout": 13}
UNITS = {b"H": 3_600_000_000_000, b"M": 60_000_000_000, b"S": 1_000_000_000, b"m": 1_000_000, b"u": 1000, b"n": 1}
LONGEST = 1 << 62  # ns, 146 years: 99999999H is more than 64 bits hold
FINEST = tuple(reversed(UNITS.items()))  # not a loop over literals: Cython makes numbers of bytes of one


class Reader:
    """See the module. `count`: whole messages that wait; `waiting`: their bytes and 64 more for each; `held`: bytes of the
    incomplete one; `heard`: messages that were ever whole.
    """

    def __init__(self, most):
        self.begin(most)

    def begin(self, most):
        """In place of a constructor on the hot path. `most`: bytes of one message, 0 for no limit."""
        self.most = most
        self.ready = deque()
        self.parts = None
        self.head = b""
        self.held = self.left = self.count = self.waiting = self.heard = 0
        self.flag = 0

    def feed(self, data):
        """Body bytes. Raises WireError; messages that were whole before the break can be had."""
        if self.parts is None and not self.head:
            self.split(data, data, 0)
        elif self.parts is not None:
            self.go_on(data)
        else:
            data = self.head + data
            self.head = b""
            self.held = 0
            self.split(data, data, 0)

    def split(self, data, v, at):
        """Messages from `at` on; `v` is `data` again (a pointer when compiled)."""
        end = len(data)
        while end - at >= 5:
            flag = v[at]
            size = v[at + 1]  # step by step in 64 bits: `v[i] << 24` would be a C int, and negative from 0x80 on
            size = size << 8 | v[at + 2]
            size = size << 8 | v[at + 3]
            size = size << 8 | v[at + 4]
            if flag > 1:
                raise broken("grpc-flag")
            if self.most and size > self.most:
                raise too_long(size, self.most)
            at += 5
            if end - at < size:
                self.flag = flag
                self.left = size - (end - at)
                self.held = end - at
                self.parts = [_fast.piece(data, at, end)]
                return
            self.whole(flag, _fast.piece(data, at, at + size))
            at += size
        if at < end:
            self.head = _fast.piece(data, at, end)
            self.held = end - at

    def go_on(self, data):
        """More of a message that is incomplete."""
        size = len(data)
        parts = self.parts
        if size < self.left:
            self.left -= size
            self.held += size
            parts.append(data)
            return
        stop = self.left
        parts.append(_fast.piece(data, 0, stop))
        self.parts = None
        self.held = self.left = 0
        self.whole(self.flag, _fast.joined(parts))
        if stop < size:
            self.split(data, data, stop)

    def whole(self, flag, message):
        """A message is there."""
        self.count += 1
        self.heard += 1
        self.waiting += len(message) + 64
        if flag:
            self.ready.append((message,))
        else:
            self.ready.append(message)

    def next(self):
        """The oldest message, or None when none waits."""
        if not self.count:
            return None
        message = self.ready.popleft()
        self.count -= 1
        self.waiting -= len(message if type(message) is bytes else message[0]) + 64
        return message

    def end(self):
        """The body is over."""
        if self.parts is not None or self.head:
            raise broken("grpc-cut")


def broken(rule):
    """A WireError for a broken rule."""
    return WireError(RULES[rule], rule=rule)


def too_long(size, most):
    """A WireError for a message over the limit."""
    return WireError(f"a message of {size} bytes is longer than the limit of {most}", rule="grpc-too-long")


def message(payload, packed):
    """A message with its prefix. `packed`: the payload is compressed. OverflowError from 4 GiB on."""
    return _fast.prefixed(1 if packed else 0, payload)


def timeout_of(value):
    """A grpc-timeout in nanoseconds, at most LONGEST. Raises WireError."""
    size = len(value) - 1 if value else 0
    unit = UNITS.get(value[size:])
    digits = value[:size]
    if unit is None or not 1 <= size <= 8 or not digits.isdigit():
        raise broken("grpc-timeout")
    return min(int(digits) * unit, LONGEST)


def say_timeout(left):
    """Nanoseconds as a grpc-timeout: the finest unit in which it has at most 8 digits; what is over is 0n."""
    if left <= 0:
        return b"0n"
    for unit, size in FINEST:
        amount = left // size
        if amount < 100_000_000:
            return b"%d%b" % (amount, unit)
    return b"99999999H"
