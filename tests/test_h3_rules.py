"""What a peer may not do, by the numbers of RFC 9114 and 9204: each case says how the connection or the stream ends.

The cases cover what h3spec looks at, written from the RFCs' text. Each runs with the bytes whole, one by one, and uneven.
"""

from __future__ import annotations

import pytest

from h3kit import (
    CANCEL_PUSH,
    CANCELLED,
    CONTROL,
    CREATION,
    CRITICAL,
    DECODER,
    DECODER_ERROR,
    DECOMPRESSION,
    ENCODER,
    ENCODER_ERROR,
    FRAME,
    GET,
    GOAWAY,
    HEADERS,
    ID,
    INCOMPLETE,
    LOAD,
    MAX_PUSH,
    MESSAGE,
    MISSING,
    POST,
    PUSH,
    SETTING,
    SETTINGS,
    UNEXPECTED,
    UPDATE,
    UPDATE_PUSH,
    Talk,
    data,
    frame,
    head,
    section,
    settings,
    varint,
)  # fmt: skip
from kit import SPLITS

FINE = ("fine",)
HEAD, TAIL = head(POST), head([(b"x-sum", b"1")])


def close(code: int) -> tuple:
    return ("close", code)


def reset(code: int, stream: int = 0) -> tuple:
    return ("reset", stream, code)


def with_(*fields: tuple[bytes, bytes]) -> bytes:
    return head([*GET, *fields])


def without(name: bytes) -> bytes:
    return head([field for field in GET if field[0] != name])


def setting(*pairs: tuple[int, int]) -> bytes:
    return settings(*pairs)


# (what, [(stream, bytes, fin)...], how it ends) for a server whose peer has sent nothing yet
GREETED = (2, settings(), False)
REQUESTS = [
    ("a GET", head(), FINE),
    ("a POST with a body and trailers", HEAD + data(b"abc") + data(b"d") + TAIL, FINE),
    ("unknown frames anywhere",
     frame(0x21) + head() + frame(0x40, b"junk") + data(b"x") + TAIL + frame(0x1F * 9 + 0x21, b"more"), FINE),
    ("4.1 DATA before the head", data(b"x") + head(), close(UNEXPECTED)),
    ("4.1 DATA behind trailers", HEAD + TAIL + data(b"x"), close(UNEXPECTED)),
    ("4.1 a third section", HEAD + TAIL + TAIL, close(UNEXPECTED)),
    ("4.1 no head at all", b"", reset(INCOMPLETE)),
    ("4.1 unknown frames only", frame(0x21, b"abc"), reset(INCOMPLETE)),
    ("7.1 cut inside a frame's type", HEAD + b"\x40", close(FRAME)),
    ("7.1 cut behind a frame's type", HEAD + b"\0", close(FRAME)),
    ("7.1 cut inside a head", head()[:-1], close(FRAME)),
    ("7.1 cut inside DATA", HEAD + data(b"abc")[:-1], close(FRAME)),
    ("7.1 cut inside an unknown frame", HEAD + frame(0x21, b"abc")[:-1], close(FRAME)),
    ("7.2.3 CANCEL_PUSH", HEAD + frame(CANCEL_PUSH, b"\0"), close(UNEXPECTED)),
    ("7.2.4 SETTINGS", HEAD + frame(SETTINGS), close(UNEXPECTED)),
    ("7.2.5 PUSH_PROMISE", HEAD + frame(PUSH, b"\0" + section(GET)), close(UNEXPECTED)),
    ("7.2.6 GOAWAY", HEAD + frame(GOAWAY, b"\0"), close(UNEXPECTED)),
    ("7.2.7 MAX_PUSH_ID", HEAD + frame(MAX_PUSH, b"\0"), close(UNEXPECTED)),
    ("9218 PRIORITY_UPDATE", HEAD + frame(UPDATE, b"\0u=1"), close(UNEXPECTED)),
    *((f"7.2.8 the reserved type {kind}", HEAD + frame(kind, b"\0"), close(UNEXPECTED)) for kind in (2, 6, 8, 9)),
    *((f"7.2.8 the reserved type {kind} comes first", frame(kind, b"\0"), close(UNEXPECTED)) for kind in (2, 6, 8, 9)),
    # messages (4.1.2, 4.2, 4.3)
    ("4.2 upper case", with_((b"X-A", b"1")), reset(MESSAGE)),
    ("4.2 a name with a space", with_((b"x a", b"1")), reset(MESSAGE)),
    ("4.2 a name with a colon", with_((b"x:a", b"1")), reset(MESSAGE)),
    ("4.2 no name", with_((b"", b"1")), reset(MESSAGE)),
    ("4.2 a value with a line break", with_((b"x-a", b"1\r\nhost: b")), reset(MESSAGE)),
    ("4.2 a value with NUL", with_((b"x-a", b"1\0")), reset(MESSAGE)),
    ("4.2 white space around a value", with_((b"x-a", b" 1")), reset(MESSAGE)),
    ("4.2 connection", with_((b"connection", b"close")), reset(MESSAGE)),
    ("4.2 keep-alive", with_((b"keep-alive", b"1")), reset(MESSAGE)),
    ("4.2 proxy-connection", with_((b"proxy-connection", b"close")), reset(MESSAGE)),
    ("4.1 transfer-encoding", with_((b"transfer-encoding", b"chunked")), reset(MESSAGE)),
    ("4.2 upgrade", with_((b"upgrade", b"websocket")), reset(MESSAGE)),
    ("4.2 te", with_((b"te", b"gzip")), reset(MESSAGE)),
    ("4.2 te: trailers", with_((b"te", b"trailers")), FINE),
    ("4.3 an unknown pseudo-header field", with_((b":x", b"1")), reset(MESSAGE)),
    ("4.3 a pseudo-header field behind a regular one", head([*GET[1:], (b"a", b"b"), GET[0]]), reset(MESSAGE)),
    ("4.3 a response's", head([(b":status", b"200")]), reset(MESSAGE)),
    *((f"4.3.1 two {field[0].decode()}", head([field, *GET]), reset(MESSAGE)) for field in GET),
    *((f"4.3.1 no {field[0].decode()}", without(field[0]), reset(MESSAGE)) for field in GET),
    ("4.3.1 an empty path", head([*GET[:2], (b":path", b""), GET[3]]), reset(MESSAGE)),
    ("4.3.1 a path without a slash", head([*GET[:2], (b":path", b"a"), GET[3]]), reset(MESSAGE)),
    ("4.3.1 a path with a space", head([*GET[:2], (b":path", b"/ HTTP/1.1"), GET[3]]), reset(MESSAGE)),
    ("4.3.1 a strange scheme", head([GET[0], (b":scheme", b"ftp"), *GET[2:]]), reset(MESSAGE)),
    ("4.3.1 user information", head([*GET[:3], (b":authority", b"me@a")]), reset(MESSAGE)),
    ("4.3.1 Host differs", with_((b"host", b"b.example")), reset(MESSAGE)),
    ("4.3.1 Host agrees", with_((b"host", b"a.example")), FINE),
    ("4.3.1 two Hosts", with_((b"host", b"a.example"), (b"host", b"a.example")), reset(MESSAGE)),
    ("4.3.1 a method with a space", head([(b":method", b"G ET"), *GET[1:]]), reset(MESSAGE)),
    ("4.1.2 two content-lengths", with_((b"content-length", b"0"), (b"content-length", b"0")), reset(MESSAGE)),
    ("4.1.2 a signed content-length", with_((b"content-length", b"+1")) + data(b"x"), reset(MESSAGE)),
    ("4.1.2 too few bytes", with_((b"content-length", b"2")) + data(b"x"), reset(MESSAGE)),
    ("4.1.2 too many bytes", with_((b"content-length", b"2")) + data(b"xyz"), reset(MESSAGE)),
    ("4.1.2 no body where one was promised", with_((b"content-length", b"2")), reset(MESSAGE)),
    ("4.1.2 too few bytes before trailers", with_((b"content-length", b"2")) + data(b"x") + TAIL, reset(MESSAGE)),
    ("4.1.2 the right number", with_((b"content-length", b"2")) + data(b"x") + data(b"y"), FINE),
    ("4.3 a pseudo-header field in trailers", HEAD + head([(b":path", b"/")]), reset(MESSAGE)),
    ("6.5.1 content-length in trailers", HEAD + head([(b"content-length", b"0")]), reset(MESSAGE)),
    ("9110 a strange expectation", with_((b"expect", b"miracles")), reset(MESSAGE)),
    ("4.4 CONNECT", head([(b":method", b"CONNECT"), (b":authority", b"b:443")]), FINE),
    ("4.4 CONNECT with a path", head([(b":method", b"CONNECT"), *GET[1:]]), reset(MESSAGE)),
    ("4.4 HEADERS in a tunnel", head([(b":method", b"CONNECT"), (b":authority", b"b:443")]) + TAIL, close(UNEXPECTED)),
    ("4.4 unknown frames in a tunnel",
     head([(b":method", b"CONNECT"), (b":authority", b"b:443")]) + frame(0x21, b"x") + data(b"y"), FINE),
    ("9220 extended CONNECT", head([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]), FINE),
    ("9220 :protocol without CONNECT", head([*GET, (b":protocol", b"websocket")]), reset(MESSAGE)),
    ("9220 no :path", head([(b":method", b"CONNECT"), (b":protocol", b"websocket"), GET[1], GET[3]]), reset(MESSAGE)),
    # QPACK (RFC 9204)
    ("9204 4.5.1 no prefix", frame(HEADERS, b""), close(DECOMPRESSION)),
    ("9204 4.5.1 half a prefix", frame(HEADERS, b"\0"), close(DECOMPRESSION)),
    ("9204 4.5.1.1 an insert count beyond the table", frame(HEADERS, b"\xfe\0\x80"), close(DECOMPRESSION)),
    ("9204 4.5.1.2 a negative base", frame(HEADERS, b"\0\x80"), close(DECOMPRESSION)),
    ("9204 3.1 an index beyond the static table", frame(HEADERS, b"\0\0\xff\x24"), close(DECOMPRESSION)),
    ("9204 3.1 a name beyond the static table", frame(HEADERS, b"\0\0\x5f\x54\x01a"), close(DECOMPRESSION)),
    ("9204 2.2.3 a dynamic index that needs no insert", frame(HEADERS, b"\0\0\x80"), close(DECOMPRESSION)),
    ("9204 4.5.3 a post-base index that needs no insert", frame(HEADERS, b"\0\0\x10"), close(DECOMPRESSION)),
    ("9204 4.5.6 a name cut short", frame(HEADERS, b"\0\0\x23ab"), close(DECOMPRESSION)),
    ("9204 4.5.6 a value cut short", frame(HEADERS, b"\0\0\x21a\x05bc"), close(DECOMPRESSION)),
    ("9204 4.1.1 an integer without end", frame(HEADERS, b"\0\0\xff" + b"\xff" * 12), close(DECOMPRESSION)),
    ("9204 4.1.2 bad Huffman", frame(HEADERS, b"\0\0\x21a\x81\x00"), close(DECOMPRESSION)),
]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("what", "raw", "ends"), REQUESTS, ids=[one[0] for one in REQUESTS])
def test_a_requests_stream(what, raw, ends, split):
    talk = Talk(split, answer=False).on(0, raw, True)
    assert talk.outcome() == ends
    if ends[0] == "reset":
        heard = talk.heard()
        assert [word for word in heard if word[0] in ("refused", "reset")], heard
    assert talk.credited.get(0, 0) == len(raw) or talk.error is not None


CONTROLS = [
    ("6.2.1 no SETTINGS first", [(2, b"\0" + frame(GOAWAY, b"\0"), False)], close(MISSING)),
    ("6.2.1 an unknown frame first", [(2, b"\0" + frame(0x21), False)], close(MISSING)),
    ("6.2.1 two control streams", [GREETED, (6, settings(), False)], close(CREATION)),
    ("4.2 two encoder streams", [(2, b"\2", False), (6, b"\2", False)], close(CREATION)),
    ("4.2 two decoder streams", [(2, b"\3", False), (6, b"\3", False)], close(CREATION)),
    ("6.2.1 the control stream ends", [(2, settings(), True)], close(CRITICAL)),
    ("4.2 the encoder stream ends", [GREETED, (6, b"\2", True)], close(CRITICAL)),
    ("4.2 the decoder stream ends", [GREETED, (6, b"\3", True)], close(CRITICAL)),
    ("6.2.2 a push stream of a client", [(2, b"\1\0", False)], close(CREATION)),
    ("6.2 an unknown type", [GREETED, (6, varint(0x21) + b"what is that", False), (6, b"more", True)], ("stop", 6, CREATION)),
    ("6.2 an unknown type that ends at once", [GREETED, (6, varint(0x21) + b"what is that", True)], ("fine", CREATION)),
    ("6.2 a stream that ends before its type", [GREETED, (6, b"", True), (10, b"\x40", True)], FINE),
    ("7.2.4 a second SETTINGS", [(2, settings() + frame(SETTINGS), False)], close(UNEXPECTED)),
    ("7.2.4 half a setting", [(2, b"\0" + frame(SETTINGS, b"\6"), False)], close(FRAME)),
    ("7.2.4 half a value", [(2, b"\0" + frame(SETTINGS, b"\6\x40"), False)], close(FRAME)),
    ("7.2.4 a setting twice", [(2, setting((6, 1), (6, 1)), False)], close(SETTING)),
    *((f"7.2.4.1 HTTP/2's setting {name}", [(2, setting((name, 1)), False)], close(SETTING)) for name in (2, 3, 4, 5)),
    ("7.2.4.1 an unknown setting", [(2, setting((0x21, 5), (0x4040, 1 << 60)), False)], FINE),
    ("9220 ENABLE_CONNECT_PROTOCOL of 2", [(2, setting((8, 2)), False)], close(SETTING)),
    ("9297 H3_DATAGRAM of 2", [(2, setting((0x33, 2)), False)], close(SETTING)),
    ("7.2.1 DATA", [(2, settings() + data(b"x"), False)], close(UNEXPECTED)),
    ("7.2.2 HEADERS", [(2, settings() + head(), False)], close(UNEXPECTED)),
    ("7.2.5 PUSH_PROMISE", [(2, settings() + frame(PUSH, b"\0\0\0"), False)], close(UNEXPECTED)),
    *((f"7.2.8 the reserved type {kind}", [(2, settings() + frame(kind, b"\0"), False)], close(UNEXPECTED))
      for kind in (2, 6, 8, 9)),
    ("7.2.3 CANCEL_PUSH of what was never promised", [(2, settings() + frame(CANCEL_PUSH, b"\0"), False)], close(ID)),
    ("7.2.3 an empty CANCEL_PUSH", [(2, settings() + frame(CANCEL_PUSH), False)], close(FRAME)),
    ("7.2.6 GOAWAY", [(2, settings() + frame(GOAWAY, b"\5") + frame(GOAWAY, b"\5"), False)], FINE),
    ("7.2.6 a GOAWAY that grows", [(2, settings() + frame(GOAWAY, b"\1") + frame(GOAWAY, b"\2"), False)], close(ID)),
    ("7.2.6 an empty GOAWAY", [(2, settings() + frame(GOAWAY), False)], close(FRAME)),
    ("7.2.6 a GOAWAY that is too long", [(2, settings() + frame(GOAWAY, b"\0\0"), False)], close(FRAME)),
    ("7.2.7 MAX_PUSH_ID", [(2, settings() + frame(MAX_PUSH, b"\5") + frame(MAX_PUSH, b"\6"), False)], FINE),
    ("7.2.7 a MAX_PUSH_ID that shrinks", [(2, settings() + frame(MAX_PUSH, b"\5") + frame(MAX_PUSH, b"\4"), False)], close(ID)),
    ("7.2.7 an empty MAX_PUSH_ID", [(2, settings() + frame(MAX_PUSH), False)], close(FRAME)),
    ("9218 PRIORITY_UPDATE", [(2, settings() + frame(UPDATE, b"\0u=1"), False)], FINE),
    ("9218 PRIORITY_UPDATE of no request", [(2, settings() + frame(UPDATE, b"\2u=1"), False)], close(ID)),
    ("9218 PRIORITY_UPDATE of a push", [(2, settings() + frame(UPDATE_PUSH, b"\0u=1"), False)], close(ID)),
    ("9218 an empty PRIORITY_UPDATE", [(2, settings() + frame(UPDATE), False)], close(FRAME)),
    ("7.2.8 unknown frames, also large ones", [(2, settings() + frame(0x21, b"x" * 9000) + frame(0x5F, b"y"), False)], FINE),
    ("a known frame that is too long", [(2, settings() + frame(GOAWAY, b"x" * 5000), False)], close(LOAD)),
    ("9204 4.3.1 a table larger than allowed", [GREETED, (6, b"\2\x3f\xe2\x1f", False)], close(ENCODER_ERROR)),
    ("9204 4.3.2 an insert without a table", [GREETED, (6, b"\2\xc0\1a", False)], close(ENCODER_ERROR)),
    ("9204 4.3.2 a name beyond the static table", [GREETED, (6, b"\2\x3f\xe1\x1f\xff\x24\1a", False)], close(ENCODER_ERROR)),
    ("9204 4.3.2 a name that is not in the table", [GREETED, (6, b"\2\x3f\xe1\x1f\x80\1a", False)], close(ENCODER_ERROR)),
    ("9204 4.3.3 an entry larger than the table", [GREETED, (6, b"\2\x3f\1\x41a\x7f\x80\x7f", False)], close(ENCODER_ERROR)),
    ("9204 4.3.4 a duplicate of nothing", [GREETED, (6, b"\2\x3f\xe1\x1f\0", False)], close(ENCODER_ERROR)),
    ("9204 4.4.1 a section is acknowledged that needed nothing", [GREETED, (6, b"\3\x80", False)], close(DECODER_ERROR)),
    ("9204 4.4.3 inserts are acknowledged that were not made", [GREETED, (6, b"\3\1", False)], close(DECODER_ERROR)),
    ("9204 4.4.3 an increment of 0", [GREETED, (6, b"\3\0", False)], close(DECODER_ERROR)),
    ("9204 4.4.2 a stream is cancelled", [GREETED, (6, b"\3\x40\x7f\xe1\x1f", False)], FINE),
]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("what", "streams", "ends"), CONTROLS, ids=[one[0] for one in CONTROLS])
def test_the_connections_own_streams(what, streams, ends, split):
    talk = Talk(split, greet=False)
    for stream, raw, fin in streams:
        talk.on(stream, raw, fin)
    if ends == ("fine", CREATION):  # the order depends on whether the end came with the type
        assert talk.error is None
        return
    assert talk.outcome() == ends
    if ends != FINE and ends[0] == "close":
        assert talk.error.status == 400


ANSWERS = [
    ("an answer", head([(b":status", b"200")]) + data(b"x"), FINE),
    ("interim answers", head([(b":status", b"103"), (b"link", b"x")]) + head([(b":status", b"200")]), FINE),
    ("4.1 DATA before the head", data(b"x"), close(UNEXPECTED)),
    ("4.1 DATA behind an interim head", head([(b":status", b"103")]) + data(b"x"), close(UNEXPECTED)),
    ("4.1 only an interim head", head([(b":status", b"103")]), ("fine", MESSAGE)),
    ("4.1 nothing", b"", ("fine", MESSAGE)),
    ("4.3.2 no status", head([(b"a", b"b")]), ("fine", MESSAGE)),
    ("4.3.2 a strange status", head([(b":status", b"20")]), ("fine", MESSAGE)),
    ("4.5 101", head([(b":status", b"101")]), ("fine", MESSAGE)),
    ("4.2 connection", head([(b":status", b"200"), (b"connection", b"close")]), ("fine", MESSAGE)),
    ("4.1.2 too few bytes", head([(b":status", b"200"), (b"content-length", b"3")]) + data(b"x"), ("fine", MESSAGE)),
    ("7.2.5 PUSH_PROMISE", frame(PUSH, b"\0" + section(GET)), close(ID)),
    ("7.2.8 a reserved type", frame(8, b"\0"), close(UNEXPECTED)),
]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("what", "raw", "ends"), ANSWERS, ids=[one[0] for one in ANSWERS])
def test_an_answers_stream(what, raw, ends, split):
    talk = Talk(split, client=True)
    assert talk.ask() == 1
    talk.on(0, raw, True)
    if ends == ("fine", MESSAGE):  # both sides are over, so that nothing is left to reset
        assert talk.error is None
        assert [word[:2] for word in talk.heard() if word[0] == "reset"] == [("reset", 1)]
        return
    assert talk.outcome() == ends
    if ends != FINE:
        assert talk.error.status == 502
        assert talk.error.side == "upstream"


SERVERS = [
    ("6.1 a bidirectional stream of the server's", [(1, head(), False)], close(CREATION)),
    ("6.2.2 a push stream", [(3, b"\1\0", False)], close(ID)),
    ("7.2.6 a GOAWAY that is no request", [(3, settings() + frame(GOAWAY, b"\1"), False)], close(ID)),
    ("7.2.7 MAX_PUSH_ID", [(3, settings() + frame(MAX_PUSH, b"\0"), False)], close(UNEXPECTED)),
    ("7.2.3 CANCEL_PUSH", [(3, settings() + frame(CANCEL_PUSH, b"\0"), False)], close(ID)),
    ("9218 PRIORITY_UPDATE", [(3, settings() + frame(UPDATE, b"\0u=1"), False)], close(UNEXPECTED)),
]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("what", "streams", "ends"), SERVERS, ids=[one[0] for one in SERVERS])
def test_a_servers_own_streams(what, streams, ends, split):
    talk = Talk(split, client=True, greet=False)
    for stream, raw, fin in streams:
        talk.on(stream, raw, fin)
    assert talk.outcome() == ends


@pytest.mark.parametrize("stream", [2, 6, 10])
def test_a_critical_stream_may_not_be_reset(stream):
    talk = Talk().on(6, bytes((ENCODER,))).on(10, bytes((DECODER,)))
    talk.do(talk.codec.stream_reset, stream, CANCELLED, talk.now)
    assert talk.outcome() == close(CRITICAL)


def test_our_control_stream_may_not_be_stopped():
    talk = Talk()
    assert talk.out[3][0] == CONTROL
    talk.do(talk.codec.stop_sending, 3, CANCELLED, talk.now)
    assert talk.outcome() == close(CRITICAL)


def test_a_datagram_without_a_whole_number_is_an_error():
    talk = Talk()
    talk.do(talk.codec.datagram, b"\x40", talk.now)
    assert talk.outcome() == close(0x33)

