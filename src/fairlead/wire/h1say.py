"""The words of HTTP/1.x heads we say: start lines, and a handler's fields made safe (RFC 9112 sections 3 to 5).

Rules
1. A name is a token and a value has no control byte but HTAB, or nothing is said at all (AppError): no handler, and
   nobody who feeds one, can end a head early or add a field to it.
2. What frames the message or belongs to this one connection is not copied but noted: its writer decides what to say.
"""

from __future__ import annotations

from fairlead.core.errors import AppError
from fairlead.core.message import REASONS
from fairlead.wire.h1bytes import LOW, VALUE, clean, kind_of, number, special

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_LINES = [b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"")) for status in range(600)]


class Given:
    """What a handler's fields said that is for us: `put` sets it anew for each head."""

    def put(self, parts, headers):
        """Put the fields that are for the peer into `parts` as one block, and note the ones that are for us."""
        self.length = -1
        self.close = self.upgrade = self.date = self.server = self.host = self.te = False
        self.protocols = False
        kept = headers
        at = 0
        for field in headers:
            kind = special(field[0])
            if kind and self.ours(kind, field[1]):
                if kept is headers:
                    kept = headers[:at]
            elif kept is not headers:
                kept.append(field)
            at += 1  # noqa: SIM113 (enumerate costs a tuple)
        self.upgrade = self.upgrade and self.protocols
        block = _fast.fields_joined(kept, LOW, VALUE)
        if block is None:
            blame(kept)
        parts.append(block)

    def ours(self, kind, value):
        """Note a field that means something here; True when it is not to be copied."""
        if kind == 2:
            self.note_length(value)
        elif kind == 4:
            self.note_connection(value)
        elif kind != 3 and kind != 9:
            if kind == 1:
                self.host = True
            elif kind == 6:
                self.protocols = True
            elif kind == 7:
                self.date = True
            elif kind == 8:
                self.server = True
            return False
        return True

    def note_length(self, value):
        """A Content-Length."""
        length = number(value)
        if length < 0 or (self.length >= 0 and self.length != length):
            raise AppError(f"content-length {value!r} is not one number")
        self.length = length

    def note_connection(self, value):
        """A Connection field: only `close`, `upgrade` and `te` count."""
        if not clean(value):
            raise AppError(f"the field connection: {value!r} has a control byte")
        for option in value.lower().split(b","):
            option = option.strip(b" \t")
            if option == b"close":
                self.close = True
            elif option == b"upgrade":
                self.upgrade = True
            elif option == b"te":
                self.te = True


def blame(fields):
    """Say which of the fields has a byte that may not be there."""
    for name, value in fields:
        if kind_of(name) < 0 or not clean(value):
            raise AppError(f"the field {name!r} has a byte that would break the head", hint="no control bytes")


def status_line(status, phrase):
    """The status line of an answer, with the phrase given or the standard one."""
    if 0 < status < 600:
        line = _LINES[status]
        if not phrase or _fast.stands(line, 13, len(line) - 2, phrase):
            return line
    if phrase and not clean(phrase):
        raise AppError("the reason phrase has a control byte")
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)


def last_chunk(trailers):
    """The last chunk of a body, with its trailer fields; those that may not be there are left out."""
    parts = [b"0\r\n"]
    for name, value in trailers:
        kind = kind_of(name)
        if kind < 0 or not clean(value):
            raise AppError(f"the trailer field {name!r} has a byte that would break the message")
        if kind == 0 or kind == 7 or kind == 8:
            parts += [name, b": ", value, b"\r\n"]
    parts.append(b"\r\n")
    return _fast.joined(parts)
