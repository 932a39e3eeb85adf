"""The rules of HTTP/3: names, error codes and reasons (RFC 9114 section 8.1, RFC 9204 section 6).

What HTTP/2 and HTTP/3 refuse alike in a message has the name and the reason that `h2rules` gives it, and the code
H3_MESSAGE_ERROR unless it stands here. Numbers in brackets are sections of RFC 9114 unless they say otherwise.
"""

from __future__ import annotations

from fairlead.core.errors import WireError
from fairlead.wire import h2rules

NO_ERROR, PROTOCOL, INTERNAL, STREAM_CREATION, CLOSED_CRITICAL, UNEXPECTED, FRAME, EXCESSIVE = range(0x100, 0x108)
ID, SETTINGS, MISSING_SETTINGS, REJECTED, CANCELLED, INCOMPLETE, MESSAGE, CONNECT, FALLBACK = range(0x108, 0x111)
DECOMPRESSION, ENCODER_STREAM, DECODER_STREAM = 0x200, 0x201, 0x202
DATAGRAM = 0x33
CODES = {
    0x100: "H3_NO_ERROR", 0x101: "H3_GENERAL_PROTOCOL_ERROR", 0x102: "H3_INTERNAL_ERROR", 0x103: "H3_STREAM_CREATION_ERROR",
    0x104: "H3_CLOSED_CRITICAL_STREAM", 0x105: "H3_FRAME_UNEXPECTED", 0x106: "H3_FRAME_ERROR", 0x107: "H3_EXCESSIVE_LOAD",
    0x108: "H3_ID_ERROR", 0x109: "H3_SETTINGS_ERROR", 0x10A: "H3_MISSING_SETTINGS", 0x10B: "H3_REQUEST_REJECTED",
    0x10C: "H3_REQUEST_CANCELLED", 0x10D: "H3_REQUEST_INCOMPLETE", 0x10E: "H3_MESSAGE_ERROR", 0x10F: "H3_CONNECT_ERROR",
    0x110: "H3_VERSION_FALLBACK", 0x200: "QPACK_DECOMPRESSION_FAILED", 0x201: "QPACK_ENCODER_STREAM_ERROR",
    0x202: "QPACK_DECODER_STREAM_ERROR", 0x33: "H3_DATAGRAM_ERROR",
}  # fmt: skip

RULES: dict[str, tuple[int, str]] = {
    # the course of a connection
    "idle": (NO_ERROR, "nothing was asked within the limit `idle`"),
    "bad-qpack": (DECOMPRESSION, "a field section is no QPACK [RFC 9204]"),
    # streams
    "server-bidi": (STREAM_CREATION, "the server opened a bidirectional stream [6.1]"),
    "two-critical": (STREAM_CREATION, "a second control or QPACK stream was opened [6.2.1, RFC 9204 4.2]"),
    "client-push": (STREAM_CREATION, "a client opened a push stream [6.2.2]"),
    "push": (ID, "the server pushed, which we never allowed [7.2.5]"),
    "closed-critical": (CLOSED_CRITICAL, "a control or QPACK stream was closed [6.2.1]"),
    "too-many-streams": (REJECTED, "more streams are open than the limit `streams` allows"),
    "after-goaway": (REJECTED, "the request came after GOAWAY [5.2]"),
    "request-incomplete": (INCOMPLETE, "a stream ended before its request's head was whole [4.1]"),
    "slow-head": (INCOMPLETE, "a head was not whole within the limit `header`"),
    "too-many-blocked": (
        DECOMPRESSION,
        "more streams wait for QPACK's table than SETTINGS_QPACK_BLOCKED_STREAMS allows",
    ),
    # frames
    "frame-unexpected": (
        UNEXPECTED,
        "a frame of this type may not come on this stream, or not yet, or not again [7.2]",
    ),
    "reserved-frame": (UNEXPECTED, "a frame type of HTTP/2 that HTTP/3 does not have [7.2.8]"),
    "frame-cut": (FRAME, "a stream ended inside a frame [7.1]"),
    "bad-frame": (FRAME, "a frame's payload is too short, or too long, for its type [7.1]"),
    "missing-settings": (MISSING_SETTINGS, "the control stream does not begin with SETTINGS [6.2.1]"),
    "bad-setting": (
        SETTINGS,
        "a setting is there twice, is one of HTTP/2's, or has a value that it may not have [7.2.4]",
    ),
    "bad-id": (ID, "a number in a frame is none that may be there, or moves the wrong way [5.2, 7.2]"),
    "bad-datagram": (DATAGRAM, "a datagram belongs to no stream that may have datagrams [RFC 9297 2.1]"),
    # floods
    "reset-flood": (EXCESSIVE, "more streams were reset or broken than the limit `resets` allows"),
    "settings-flood": (EXCESSIVE, "more streams without a use came than the limit `settings` allows"),
    "ping-flood": (EXCESSIVE, "more control frames came than the limit `pings` allows"),
    "empty-flood": (EXCESSIVE, "more empty or unknown frames came than the limit `empties` allows"),
    "window-flood": (EXCESSIVE, "more instructions came than the limit `updates` allows"),
    "priority-flood": (EXCESSIVE, "more PRIORITY_UPDATE came than the limit `priorities` allows"),
    "frame-too-long": (EXCESSIVE, "a control frame is longer than 4 KiB"),
    # messages
    "head-too-long": (EXCESSIVE, "the header list is longer than the limits `head` and `headers`"),
    "too-many-interim": (EXCESSIVE, "more 1xx answers came than the limit `informational`"),
    "body-too-long": (CANCELLED, "the body is longer than the limit `body`"),
    "slow-body": (CANCELLED, "the body paused longer than the limit `body_idle`"),
    "slow-rate": (CANCELLED, "the body came slower than the limit `body_rate`"),
    "slow-reader": (CANCELLED, "the peer took nothing within the limit `write_idle`"),
}
_STATUS = {**h2rules.STATUS, "slow-head": 408}


def code_of(rule: str) -> int:
    """The HTTP/3 error code of a rule."""
    found = RULES.get(rule)
    return found[0] if found is not None else MESSAGE


def broken(rule: str, client: bool) -> WireError:
    """The error for a broken rule, with its `code`: the peer's 4xx, or a 502 when the peer is an upstream (`client` role)."""
    found = RULES.get(rule)
    reason = found[1] if found is not None else h2rules.RULES[rule][1].partition(" [")[0]
    error = h2rules.rule_error(rule, reason, _STATUS.get(rule, 400), client)
    error.code = code_of(rule)  # type: ignore[attr-defined]
    return error


def reset_by_peer(code: int, client: bool) -> WireError:
    """The error for a stream that the peer reset. `retry` is "always" when it says that nothing was done [4.1.1]."""
    error = h2rules.reset_error(CODES.get(code, f"error {code:#x}"), code == REJECTED, client)
    error.code = code  # type: ignore[attr-defined]
    return error
