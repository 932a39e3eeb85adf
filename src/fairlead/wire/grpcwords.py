"""What gRPC writes into HTTP's fields: statuses, their messages, metadata; and gRPC-Web's two ways to put all in a body.

Rules ("gRPC over HTTP2", "gRPC Web", PROTOCOL-HTTP2.md, PROTOCOL-WEB.md, statuscodes.md)
1. A status is a number from 0 to 16. Its message is UTF-8, percent-encoded: all but 0x20 to 0x7E, and "%". What does not
   decode is taken as it is, for a wrong escape is no reason to lose a message.
2. Metadata keys are lower case letters, digits and "-_."; those that begin with "grpc-" and HTTP's own are not the user's.
   Values are printable ASCII; a key that ends in "-bin" has bytes, sent as base64 without padding and taken with or without.
   Several values of one "-bin" field may come joined by commas.
3. gRPC-Web has no trailers: they are the body's last frame, with 0x80 in its first byte, written as HTTP/1.1 writes fields.
   gRPC-Web-Text is the same in base64, where each piece may have padding of its own.
4. An HTTP status in place of a gRPC status means what the table says (http-grpc-status-mapping.md).
"""

from __future__ import annotations

import binascii
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fairlead.core.errors import WireError
from fairlead.wire.grpc import message

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = range(8)
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = range(8, 15)
DATA_LOSS, UNAUTHENTICATED = 15, 16
NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
FROM_HTTP = {400: INTERNAL, 401: UNAUTHENTICATED, 403: PERMISSION_DENIED, 404: UNIMPLEMENTED, 429: UNAVAILABLE,
             502: UNAVAILABLE, 503: UNAVAILABLE, 504: UNAVAILABLE}  # fmt: skip
TO_HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
PRINTABLE = bytes(c for c in range(0x20, 0x7F) if c != 0x25)
KEY = re.compile(rb"[0-9a-z_.-]+")
VALUE = re.compile(rb"[\x20-\x7e]*")
OURS = frozenset(
    (
        b"content-type", b"te", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"grpc-status", b"grpc-message",
        b"content-length", b"transfer-encoding", b"connection", b"host", b"date", b"server", b"trailer",
    )
)  # fmt: skip
WEB_TRAILERS = 0x80
NEWLINES = re.compile(rb"[\r\n]+")


def status_name(code):
    """The name of a status; `"7"` has no name, so its number is one."""
    return NAMES[code] if 0 <= code < len(NAMES) else str(code)


def say_message(text):
    """A status message for the wire: bytes of printable ASCII."""
    return quote_from_bytes(text.encode("utf-8", "replace"), safe=PRINTABLE).encode()


def hear_message(value):
    """A status message from the wire: text."""
    return unquote_to_bytes(value).decode("utf-8", "replace")


def hear_metadata(fields):
    """[(key text, value)] of what is the user's in a list of fields; values are text, or bytes for "-bin" keys.

    Raises WireError when a "-bin" value is no base64.
    """
    found = []
    for key, value in fields:
        if key in OURS:
            continue
        name = key.decode("latin-1")
        if not key.endswith(b"-bin"):
            found.append((name, value.decode("latin-1")))
            continue
        for one in value.split(b","):
            found.append((name, from_base64(name, one.strip())))
    return found


def from_base64(name, value):
    """The bytes of one "-bin" value."""
    bare = value.rstrip(b"=")
    try:
        if len(value) - len(bare) <= 2:
            return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except binascii.Error:
        pass
    raise WireError(f"the metadata {name} is not base64", rule="grpc-metadata", hint="keys in -bin are base64")


def say_metadata(pairs):
    """Fields of metadata that a servicer gave: (key, value) pairs of text, bytes for "-bin" keys. Raises ValueError."""
    found = []
    for key, value in pairs:
        name = key.encode("ascii", "replace") if isinstance(key, str) else bytes(key)
        if KEY.fullmatch(name) is None or name in OURS or (name.startswith(b"grpc-") and name != b"grpc-status-details-bin"):
            raise ValueError(f"{key!r} is no key for metadata: lower case letters, digits, '-', '_' and '.', not grpc-")
        if name.endswith(b"-bin"):
            raw = value.encode() if isinstance(value, str) else bytes(value)
            found.append((name, binascii.b2a_base64(raw, newline=False).rstrip(b"=")))
            continue
        raw = value.encode("utf-8") if isinstance(value, str) else bytes(value)
        if VALUE.fullmatch(raw) is None:
            raise ValueError(f"the metadata {key} has a byte that is not printable ASCII: use a key that ends in -bin")
        found.append((name, raw.strip(b" ")))
    return found


# ---- gRPC-Web


def web_trailers(fields):
    """The trailers of gRPC-Web: the last frame of its body."""
    lines = [b"%b: %b\r\n" % (name, NEWLINES.sub(b" ", value)) for name, value in fields]
    return bytes((WEB_TRAILERS,)) + message(b"".join(lines), False)[1:]


def to_text(data):
    """A piece of a gRPC-Web-Text body, padded."""
    return binascii.b2a_base64(data, newline=False)


class Text:
    """A gRPC-Web-Text body that comes in pieces, each of which may be padded; the bytes it stands for."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        """The bytes of whole groups of four. Raises WireError."""
        data = self.rest + data
        whole = len(data) // 4 * 4
        self.rest = data[whole:]
        if not whole:
            return b""
        found = []
        at = 0
        while at < whole:
            stop = data.find(b"=", at, whole)
            stop = whole if stop < 0 else min(stop // 4 * 4 + 4, whole)
            found.append(self.piece(data[at:stop]))
            at = stop
        return b"".join(found)

    def piece(self, data):
        """Groups of which at most the last is padded."""
        try:
            return binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error:
            raise not_text() from None

    def end(self):
        """The body is over."""
        if self.rest:
            raise not_text()


def not_text():
    """The error of a body that is no base64."""
    return WireError("the body of grpc-web-text is not base64", rule="grpc-web-text", hint="padded base64, in pieces of any size")
