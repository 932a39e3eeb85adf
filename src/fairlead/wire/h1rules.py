"""The rules of HTTP/1.x framing that we refuse to bend: one table of names, statuses and reasons.

A request that breaks one gets the status below, with `WireError.rule` naming it. A response that breaks one is a 502
from the side "upstream". Names are stable: logs, counters and `LENIENT` use them. Numbers in brackets are sections of
RFC 9112 unless they say 9110.

Two rules may be tolerated, for old peers that cannot be changed, by putting their name in `H1.lenient`:

    bare-lf     a head line ends in LF alone (never in chunk framing)
    obs-fold    a field value goes on in the next line (never for a field that decides framing or routing)

Both are safe only where nobody in front of us reads such a message in another way.
"""

from __future__ import annotations

from fairlead.core.errors import WireError

LENIENT = frozenset({"bare-lf", "obs-fold"})

RULES: dict[str, tuple[int, str]] = {
    # start lines
    "bad-method": (400, "the method is not a token [9110 9.1]"),
    "bad-target": (400, "the request-target has a byte that may not be there [3.2]"),
    "target-form": (400, "the request-target has a form that this method does not allow [3.2]"),
    "bad-request-line": (400, "the request line is not: method SP target SP version [3]"),
    "bad-version": (400, "the version is not HTTP/ digit . digit [2.3]"),
    "version": (505, "only HTTP/1.0 and HTTP/1.1 are spoken here [2.3]"),
    "h2-preface": (400, "an HTTP/2 preface came to a connection that speaks HTTP/1.1; use ALPN or the h2c port"),
    "empty-lines": (400, "more than two empty lines stand before the request line [2.2]"),
    "bad-status-line": (400, "the status line is not: version SP three digits SP reason [4]"),
    "line-too-long": (414, "the request line is longer than the limit `line`"),
    # field lines
    "bare-lf": (400, "a line ends in LF alone [2.2]"),
    "bare-cr": (400, "a CR stands alone [2.2]"),
    "obs-fold": (400, "a field value goes on in the next line [5.2]"),
    "space-before-colon": (400, "white space stands between a field name and its colon [5.1]"),
    "bad-field-name": (400, "a field name is empty or not a token [5.1]"),
    "bad-field-value": (400, "a field value has a control byte [9110 5.5]"),
    "name-too-long": (431, "a field name is longer than the limit `name`"),
    "field-too-long": (431, "a field line is longer than the limit `line`"),
    "too-many-fields": (431, "there are more fields than the limit `headers`"),
    "head-too-long": (431, "the head is longer than the limit `head`"),
    # routing
    "no-host": (400, "an HTTP/1.1 request needs a Host field [3.2]"),
    "two-hosts": (400, "there is more than one Host field [3.2]"),
    "bad-host": (400, "Host is not: host [ : port ] [9110 7.2]"),
    "expect": (417, "only Expect: 100-continue is known [9110 10.1.1]"),
    "bad-upgrade": (400, "the Upgrade field is not a list of protocols [9110 7.8]"),
    # framing
    "te-and-cl": (400, "Transfer-Encoding and Content-Length are both there [6.3]"),
    "te-not-chunked": (400, "Transfer-Encoding is not exactly `chunked` [6.1]"),
    "two-te": (400, "there is more than one Transfer-Encoding field [6.1]"),
    "te-in-1.0": (400, "Transfer-Encoding is in an HTTP/1.0 message [6.1]"),
    "te-without-body": (400, "Transfer-Encoding is in an answer that has no body [6.1]"),
    "two-cl": (400, "there is more than one Content-Length field [6.3]"),
    "bad-cl": (400, "Content-Length is not one number of at most 18 digits [9110 8.6]"),
    "cl-without-body": (400, "Content-Length is in a 1xx or 204 answer [9110 8.6]"),
    "body-too-long": (413, "the body is longer than the limit `body`"),
    "bad-chunk-size": (400, "a chunk size is not 1 to 16 hexadecimal digits [7.1]"),
    "bad-chunk-ext": (400, "a chunk extension is not ;name or ;name=value [7.1.1]"),
    "chunk-line-too-long": (400, "a chunk-size line is longer than the limit `chunk_line`"),
    "chunk-ext-too-long": (400, "the chunk extensions of a body are longer than the limit `chunk_ext`"),
    "chunk-end": (400, "chunk data does not end in CRLF [7.1]"),
    "bad-trailer": (400, "a field that decides framing, routing or content is in the trailer [9110 6.5.1]"),
    "trailer-too-long": (431, "the trailer section is longer than the limit `trailer`"),
    # the course of a connection
    "eof-in-head": (400, "the peer closed inside a head"),
    "eof-in-body": (400, "the peer closed inside a body"),
    "no-answer": (400, "the upstream closed before it answered"),
    "unasked-bytes": (0, "bytes came while no answer was awaited"),
    "unasked-upgrade": (400, "a 101 answer came to a request that did not ask for an upgrade"),
    "interim-in-1.0": (400, "a 1xx answer came as HTTP/1.0 [9110 15.2]"),
    "too-many-interim": (400, "more 1xx answers came than the limit `informational`"),
    "slow-head": (408, "the head did not come within the limit `header`"),
    "slow-body": (408, "the body paused longer than the limit `body_idle`"),
    "slow-rate": (408, "the body came slower than the limit `body_rate`"),
    "idle": (0, "nothing came within the limit `idle`"),
}


def broken(rule: str, client: bool, fresh: bool = False) -> WireError:
    """The error for a broken rule: the peer's 4xx, or a 502 when the peer is an upstream (`client` role)."""
    status, reason = RULES[rule]
    if not client:
        return WireError(f"{rule}: {reason}", status=status, rule=rule, side="peer")
    retry = "fresh" if fresh else "never"
    return WireError(f"{rule}: {reason}", status=502 if status else 0, rule=rule, side="upstream", retry=retry)
