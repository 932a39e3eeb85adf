"""The rules of HTTP/2 that we refuse to bend: one table of names, error codes and reasons (RFC 9113, 8441, 9218, 7541).

A rule broken on one stream resets that stream with the code below; one that is about the connection, or leaves no stream
to blame, ends it with GOAWAY and that code. Names are stable: logs and counters use them. Numbers in brackets are
sections of RFC 9113 unless they say otherwise.
"""

from __future__ import annotations

from fairlead.core.errors import WireError

NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, SETTINGS_TIMEOUT, CLOSED, FRAME_SIZE, REFUSED = range(8)
CANCEL, COMPRESSION, CONNECT_FAILED, CALM, INADEQUATE, NEED_HTTP_1 = range(8, 14)
CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

RULES: dict[str, tuple[int, str]] = {
    # the course of a connection
    "bad-preface": (PROTOCOL, "the connection does not begin with the preface and SETTINGS [3.4]"),
    "slow-preface": (SETTINGS_TIMEOUT, "the preface did not come within the limit `header`"),
    "slow-head": (PROTOCOL, "a header block did not end within the limit `header`"),
    "idle": (NO_ERROR, "nothing was asked within the limit `idle`"),
    "no-pong": (NO_ERROR, "the peer answered no PING, and nothing else"),
    "bad-hpack": (COMPRESSION, "a header block is no HPACK [RFC 7541]"),
    "eof": (NO_ERROR, "the peer closed while streams were open"),
    # frames
    "frame-too-long": (FRAME_SIZE, "a frame is longer than SETTINGS_MAX_FRAME_SIZE allows [4.2]"),
    "bad-frame-size": (FRAME_SIZE, "a frame has a length that its type does not allow [4.2]"),
    "bad-padding": (PROTOCOL, "the padding is longer than the frame [6.1]"),
    "stream-zero": (PROTOCOL, "a frame that belongs to a stream came on stream 0 [6]"),
    "not-stream-zero": (PROTOCOL, "a frame that belongs to the connection came on a stream [6]"),
    "block-interrupted": (PROTOCOL, "another frame came inside a header block [6.10]"),
    "lone-continuation": (PROTOCOL, "CONTINUATION came without an open header block [6.10]"),
    "push": (PROTOCOL, "PUSH_PROMISE came, and we do not take pushes [8.4]"),
    # streams
    "idle-stream": (PROTOCOL, "a frame came on a stream that was never opened [5.1]"),
    "closed-stream": (CLOSED, "a frame came on a stream that is closed [5.1]"),
    "bad-stream-id": (PROTOCOL, "a stream's number is not one that the peer may open [5.1.1]"),
    "self-dependency": (PROTOCOL, "a stream depends on itself [RFC 7540 5.3.1]"),
    "too-many-streams": (REFUSED, "more streams are open than SETTINGS_MAX_CONCURRENT_STREAMS allows [5.1.2]"),
    # settings and windows
    "bad-setting": (PROTOCOL, "a setting has a value that it may not have [6.5.2]"),
    "bad-window-setting": (FLOW_CONTROL, "SETTINGS_INITIAL_WINDOW_SIZE is larger than a window may be [6.5.2]"),
    "settings-ack-size": (FRAME_SIZE, "a SETTINGS acknowledgement has a payload [6.5]"),
    "window-zero": (PROTOCOL, "WINDOW_UPDATE has an increment of 0 [6.9]"),
    "window-overflow": (FLOW_CONTROL, "a window grew beyond 2^31-1 [6.9.1]"),
    "window-exceeded": (FLOW_CONTROL, "more DATA came than the window allowed [6.9.1]"),
    # floods
    "reset-flood": (CALM, "more streams were reset or broken than the limit `resets` allows"),
    "settings-flood": (CALM, "more SETTINGS came than the limit `settings` allows"),
    "ping-flood": (CALM, "more PING came than the limit `pings` allows"),
    "empty-flood": (CALM, "more empty frames came than the limit `empties` allows"),
    "window-flood": (CALM, "more WINDOW_UPDATE came than the limit `updates` allows"),
    "priority-flood": (CALM, "more PRIORITY or PRIORITY_UPDATE came than the limit `priorities` allows"),
    "continuation-flood": (CALM, "a header block has more CONTINUATION frames than the limit `continuations`"),
    "block-too-long": (CALM, "a header block is longer than the limit `head`"),
    "control-flood": (CALM, "more answers to control frames wait than the limit `control`; the peer does not read"),
    # messages
    "head-too-long": (CALM, "the header list is longer than the limits `head` and `headers`"),
    "upper-case": (PROTOCOL, "a field name has an upper-case letter [8.2.1]"),
    "bad-field-name": (PROTOCOL, "a field name has a byte that may not be there [8.2.1]"),
    "bad-field-value": (PROTOCOL, "a field value has a control byte [8.2.1]"),
    "space-around-value": (PROTOCOL, "white space stands around a field value [8.2.1]"),
    "unknown-pseudo": (PROTOCOL, "a pseudo-header field is not defined here [8.3]"),
    "late-pseudo": (PROTOCOL, "a pseudo-header field stands behind a regular one, or in a trailer [8.3]"),
    "two-pseudo": (PROTOCOL, "a pseudo-header field is there twice [8.3]"),
    "missing-pseudo": (PROTOCOL, "a pseudo-header field is missing [8.3.1]"),
    "connection-field": (PROTOCOL, "a field of the connection is there [8.2.2]"),
    "bad-te": (PROTOCOL, "TE is not `trailers` [8.2.2]"),
    "bad-method": (PROTOCOL, "the method is not a token [RFC 9110 9.1]"),
    "bad-scheme": (PROTOCOL, "the scheme is not http or https [8.3.1]"),
    "bad-path": (PROTOCOL, "the path is empty, or has a byte that may not be there [8.3.1]"),
    "bad-authority": (PROTOCOL, "the authority is not: host [ : port ] [8.3.1]"),
    "host-differs": (PROTOCOL, "Host and :authority differ, or there are two [8.3.1]"),
    "bad-connect": (PROTOCOL, "a CONNECT request has the wrong pseudo-header fields [8.5, RFC 8441 4]"),
    "tunnel-head": (PROTOCOL, "HEADERS came on a stream that is a tunnel [8.5]"),
    "bad-status": (PROTOCOL, "the status is not three digits, or 101 [8.3.2, 8.6]"),
    "expect": (PROTOCOL, "only Expect: 100-continue is known [RFC 9110 10.1.1]"),
    "bad-cl": (PROTOCOL, "Content-Length is not one number [RFC 9110 8.6]"),
    "wrong-length": (PROTOCOL, "the DATA frames do not add up to Content-Length [8.1.1]"),
    "trailer-not-last": (PROTOCOL, "a trailer section does not end its stream [8.1]"),
    "bad-trailer": (PROTOCOL, "a field that decides framing or routing is in the trailer [RFC 9110 6.5.1]"),
    "too-many-interim": (CALM, "more 1xx answers came than the limit `informational`"),
    "no-head": (PROTOCOL, "DATA came before the final head [8.1]"),
    "body-too-long": (CANCEL, "the body is longer than the limit `body`"),
    "slow-body": (CANCEL, "the body paused longer than the limit `body_idle`"),
    "slow-rate": (CANCEL, "the body came slower than the limit `body_rate`"),
    "slow-reader": (CANCEL, "the peer opened no window within the limit `write_idle`"),
}
STATUS = {
    "head-too-long": 431,
    "body-too-long": 413,
    "slow-body": 408,
    "slow-rate": 408,
    "expect": 417,
    "slow-reader": 499,
}


def code_of(rule: str) -> int:
    """The HTTP/2 error code of a rule."""
    found = RULES.get(rule)
    return found[0] if found is not None else PROTOCOL


def broken(rule: str, client: bool) -> WireError:
    """The error for a broken rule: the peer's 4xx, or a 502 when the peer is an upstream (`client` role)."""
    return rule_error(rule, RULES[rule][1], STATUS.get(rule, 400), client)


def rule_error(rule: str, reason: str, status: int, client: bool) -> WireError:
    """The error for a broken rule, whatever the version."""
    if client:
        return WireError(f"{rule}: {reason}", status=502, rule=rule, side="upstream")
    return WireError(f"{rule}: {reason}", status=status, rule=rule, side="peer")


def reset_by_peer(code: int, client: bool) -> WireError:
    """The error for a stream that the peer reset. `retry` is "always" when it says that nothing was done [8.7]."""
    return reset_error(CODES[code] if code < len(CODES) else f"error {code:#x}", code == REFUSED, client)


def reset_error(name: str, refused: bool, client: bool) -> WireError:
    """The error for a stream that the peer reset with the code `name`, whatever the version; `refused`: nothing was done."""
    if client:
        retry = "always" if refused else "never"
        return WireError(
            f"the upstream reset the stream ({name})", status=502, rule="reset", side="upstream", retry=retry
        )
    return WireError(f"the client reset the stream ({name})", status=499, rule="reset", side="peer")
