"""What a peer may not do, by the numbers of RFC 9113: each case says how the connection or the stream ends.

The cases cover what h2spec looks at, written from the RFC's text. Each runs with the bytes whole, one by one, and uneven.
"""

from __future__ import annotations

import pytest

from h2kit import (
    ACK,
    CALM,
    CANCEL,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    EH,
    ES,
    FLOW,
    GET,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIO,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL,
    PUSH,
    REFUSED,
    RST,
    SETTINGS,
    SIZE,
    UPDATE,
    Talk,
    block,
    data,
    frame,
    head,
    settings,
    word,
)  # fmt: skip
from kit import SPLITS

OPEN = head(1, POST, EH)  # a request whose body is still to come
HALF = head(1)  # a whole request, not answered
FINE = ("fine",)


def goaway(code: int) -> tuple:
    return ("goaway", code)


def reset(code: int, stream: int = 1) -> tuple:
    return ("reset", stream, code)


def without(name: bytes) -> list:
    return [field for field in GET if field[0] != name]


def with_(*fields: tuple[bytes, bytes]) -> bytes:
    return head(1, [*GET, *fields])


CASES = [
    # frame format and size (4.1, 4.2)
    ("4.1 a frame of an unknown type is ignored", frame(22, 0, 0, b"junk"), FINE),
    ("4.1 an unknown frame on a stream that is not open is ignored", frame(22, 7, 9, b"junk"), FINE),
    ("4.1 flags that are not defined are ignored", frame(PING, 0x16, 0, b"12345678"), FINE),
    ("4.1 the reserved bit is ignored", frame(PING, 0, 1 << 31, b"12345678"), FINE),
    ("4.2 a DATA frame of 16384 bytes is taken", OPEN + data(1, b"x" * 16384), FINE),
    ("4.2 a longer DATA frame is too long", OPEN + data(1, b"x" * 16385), goaway(SIZE)),
    ("4.2 a longer HEADERS frame is too long", head(1, [*GET, (b"a", b"x" * 16385)]), goaway(SIZE)),
    # header blocks (4.3)
    ("4.3 a block that is no HPACK", frame(HEADERS, EH | ES, 1, b"\x80"), goaway(COMPRESSION)),
    ("4.3 PRIORITY inside a block", head(1, flags=ES) + frame(PRIORITY, 0, 1, word(0) + b"\0"), goaway(PROTOCOL)),
    ("4.3 HEADERS of another stream inside a block", head(1, flags=ES) + head(3), goaway(PROTOCOL)),
    ("4.3 PING inside a block", head(1, flags=ES) + frame(PING, 0, 0, b"12345678"), goaway(PROTOCOL)),
    ("4.3 HEADERS of the same stream inside a block", head(1, flags=ES) + head(1), goaway(PROTOCOL)),
    ("5.5 an unknown frame inside a block", head(1, flags=ES) + frame(22, 0, 0), goaway(PROTOCOL)),
    # states (5.1)
    ("5.1 idle: DATA", data(1, b"x", ES), goaway(PROTOCOL)),
    ("5.1 idle: RST_STREAM", frame(RST, 0, 1, word(CANCEL)), goaway(PROTOCOL)),
    ("5.1 idle: WINDOW_UPDATE", frame(UPDATE, 0, 1, word(100)), goaway(PROTOCOL)),
    ("5.1 idle: CONTINUATION", frame(CONTINUATION, EH, 1, block(GET)), goaway(PROTOCOL)),
    ("5.1 half closed: DATA", HALF + data(1, b"x", ES), reset(CLOSED)),
    ("5.1 half closed: HEADERS", HALF + head(1), reset(CLOSED)),
    ("5.1 half closed: CONTINUATION", HALF + frame(CONTINUATION, EH, 1, block(GET)), goaway(PROTOCOL)),
    ("5.1 half closed: WINDOW_UPDATE and PRIORITY",
     HALF + frame(UPDATE, 0, 1, word(9)) + frame(PRIORITY, 0, 1, word(0) + b"\0"),
     FINE),
    ("5.1 reset by the peer: DATA", HALF + frame(RST, 0, 1, word(CANCEL)) + data(1, b"x"), goaway(CLOSED)),
    ("5.1 reset by the peer: HEADERS", HALF + frame(RST, 0, 1, word(CANCEL)) + head(1), goaway(CLOSED)),
    ("5.1 reset by the peer: CONTINUATION",
     HALF + frame(RST, 0, 1, word(CANCEL)) + frame(CONTINUATION, EH, 1),
     goaway(PROTOCOL)),
    ("5.1 reset by the peer: RST_STREAM and WINDOW_UPDATE",
     HALF + frame(RST, 0, 1, word(8)) * 2 + frame(UPDATE, 0, 1, word(1)),
     FINE),
    ("5.1.1 an even number", head(2), goaway(PROTOCOL)),
    ("5.1.1 a number smaller than one before", head(5) + head(3), goaway(PROTOCOL)),
    ("5.3.1 HEADERS that depend on themselves",
     frame(HEADERS, EH | ES | PRIO, 1, word(1) + b"\0" + block(GET)),
     reset(PROTOCOL)),
    ("5.3.1 HEADERS with a priority", frame(HEADERS, EH | ES | PRIO, 1, word(0) + b"\0" + block(GET)), FINE),
    ("5.3.1 PRIORITY of a stream on itself", OPEN + frame(PRIORITY, 0, 1, word(1) + b"\0"), reset(PROTOCOL)),
    # DATA and HEADERS (6.1, 6.2)
    ("6.1 DATA on stream 0", data(0, b"x"), goaway(PROTOCOL)),
    ("6.1 padding as long as the frame", OPEN + frame(DATA, PADDED | ES, 1, b"\x05abcd"), goaway(PROTOCOL)),
    ("6.1 padding without its length", OPEN + frame(DATA, PADDED | ES, 1), goaway(PROTOCOL)),
    ("6.1 padding", OPEN + frame(DATA, PADDED | ES, 1, b"\x03abc\0\0\0"), FINE),
    ("6.2 HEADERS on stream 0", head(0), goaway(PROTOCOL)),
    ("6.2 padding longer than the block", frame(HEADERS, EH | ES | PADDED, 1, b"\xff" + block(GET)), goaway(PROTOCOL)),
    ("6.2 padding", frame(HEADERS, EH | ES | PADDED, 1, b"\x02" + block(GET) + b"\0\0"), FINE),
    ("6.2 padding and a priority",
     frame(HEADERS, EH | ES | PADDED | PRIO, 1, b"\x02" + word(1 << 31) + b"\xff" + block(GET) + b"\0\0"),
     FINE),
    ("6.2 padding that leaves no room for the priority",
     frame(HEADERS, EH | ES | PADDED | PRIO, 1, b"\x02" + word(0) + b"\0"),
     goaway(SIZE)),
    ("6.2 a priority that does not fit", frame(HEADERS, EH | ES | PRIO, 1, b"\0\0"), goaway(SIZE)),
    # PRIORITY, RST_STREAM (6.3, 6.4)
    ("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, word(0) + b"\0"), goaway(PROTOCOL)),
    ("6.3 PRIORITY of another length", OPEN + frame(PRIORITY, 0, 1, b"\0\0\0\0"), reset(SIZE)),
    ("6.3 PRIORITY, exclusive, of the largest weight", OPEN + frame(PRIORITY, 0, 1, word(1 << 31 | 3) + b"\xff"), FINE),
    ("6.3 PRIORITY on an idle stream", frame(PRIORITY, 0, 7, word(0) + b"\0"), FINE),
    ("6.4 RST_STREAM on stream 0", frame(RST, 0, 0, word(CANCEL)), goaway(PROTOCOL)),
    ("6.4 RST_STREAM of another length", OPEN + frame(RST, 0, 1, b"\0\0\0"), goaway(SIZE)),
    ("7 RST_STREAM with an unknown code", OPEN + frame(RST, 0, 1, word(0xFF)), FINE),
    # SETTINGS (6.5)
    ("6.5 an acknowledgement with a payload", frame(SETTINGS, ACK, 0, b"\0" * 6), goaway(SIZE)),
    ("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1), goaway(PROTOCOL)),
    ("6.5 SETTINGS of a length that is no multiple of 6", frame(SETTINGS, 0, 0, b"\0\1\0"), goaway(SIZE)),
    ("6.5.2 ENABLE_PUSH is 0 or 1", settings((2, 2)), goaway(PROTOCOL)),
    ("6.5.2 INITIAL_WINDOW_SIZE above 2^31-1", settings((4, 1 << 31)), goaway(FLOW)),
    ("6.5.2 MAX_FRAME_SIZE below 2^14", settings((5, 16383)), goaway(PROTOCOL)),
    ("6.5.2 MAX_FRAME_SIZE above 2^24-1", settings((5, 1 << 24)), goaway(PROTOCOL)),
    ("6.5.2 an unknown setting is ignored", settings((0xFF, 1)), FINE),
    ("8441 ENABLE_CONNECT_PROTOCOL is 0 or 1", settings((8, 2)), goaway(PROTOCOL)),
    ("8441 ENABLE_CONNECT_PROTOCOL is not taken back", settings((8, 1)) + settings((8, 0)), goaway(PROTOCOL)),
    # PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE (6.6 to 6.9)
    ("8.4 PUSH_PROMISE of a client", OPEN + frame(PUSH, EH, 1, word(2) + block(GET)), goaway(PROTOCOL)),
    ("6.7 a PING acknowledgement that nobody asked for", frame(PING, ACK, 0, b"12345678"), FINE),
    ("6.7 PING on a stream", frame(PING, 0, 1, b"12345678"), goaway(PROTOCOL)),
    ("6.7 PING of another length", frame(PING, 0, 0, b"123456"), goaway(SIZE)),
    ("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, word(0) * 2), goaway(PROTOCOL)),
    ("6.8 GOAWAY that is too short", frame(GOAWAY, 0, 0, word(0)), goaway(SIZE)),
    ("7 GOAWAY with an unknown code", frame(GOAWAY, 0, 0, word(0) + word(0xFF)), FINE),
    ("6.9 an increment of 0 on the connection", frame(UPDATE, 0, 0, word(0)), goaway(PROTOCOL)),
    ("6.9 an increment of 0 on a stream", OPEN + frame(UPDATE, 0, 1, word(0)), reset(PROTOCOL)),
    ("6.9 WINDOW_UPDATE of another length", frame(UPDATE, 0, 0, b"\0\0\1"), goaway(SIZE)),
    ("6.9.1 the connection's window above 2^31-1", frame(UPDATE, 0, 0, word(0x7FFFFFFF)), goaway(FLOW)),
    ("6.9.1 a stream's window above 2^31-1", OPEN + frame(UPDATE, 0, 1, word(0x7FFFFFFF)), reset(FLOW)),
    ("6.9.2 SETTINGS that take a window above 2^31-1",
     OPEN + frame(UPDATE, 0, 1, word(9)) + settings((4, 0x7FFFFFFF)),
     goaway(FLOW)),
    # CONTINUATION (6.10)
    ("6.10 CONTINUATION behind a whole block", HALF + frame(CONTINUATION, EH, 1), goaway(PROTOCOL)),
    ("6.10 CONTINUATION on stream 0", head(1, flags=ES) + frame(CONTINUATION, EH, 0), goaway(PROTOCOL)),
    ("6.10 CONTINUATION behind DATA", OPEN + data(1, b"x") + frame(CONTINUATION, EH, 1), goaway(PROTOCOL)),
    ("6.10 CONTINUATION behind one that ended the block",
     head(1, flags=ES) + frame(CONTINUATION, EH, 1) + frame(CONTINUATION, EH, 1),
     goaway(PROTOCOL)),
    ("6.10 another frame behind CONTINUATION",
     head(1, flags=ES) + frame(CONTINUATION, 0, 1) + frame(PING, 0, 0, b"12345678"),
     goaway(PROTOCOL)),
    ("6.10 CONTINUATION of another stream",
     head(1, flags=ES) + frame(CONTINUATION, 0, 1) + frame(CONTINUATION, EH, 3),
     goaway(PROTOCOL)),
    # messages (8.1)
    ("8.1 a body, and a trailer section behind it", OPEN + data(1, b"x") + head(1, [(b"x", b"y")]), FINE),
    ("8.1 HEAD", head(1, [(b":method", b"HEAD"), *GET[1:]]), FINE),
    ("8.1 a second head that does not end the stream", OPEN + head(1, [(b"x", b"y")], EH), reset(PROTOCOL)),
    ("8.1.1 content-length above the DATA",
     head(1, [*POST, (b"content-length", b"5")], EH) + data(1, b"four", ES),
     reset(PROTOCOL)),
    ("8.1.1 content-length below the DATA",
     head(1, [*POST, (b"content-length", b"3")], EH) + data(1, b"four", ES),
     reset(PROTOCOL)),
    ("8.1.1 content-length below several DATA",
     head(1, [*POST, (b"content-length", b"5")], EH) + data(1, b"abc") + data(1, b"def", ES),
     reset(PROTOCOL)),
    ("8.1.1 content-length above what a trailer ends",
     head(1, [*POST, (b"content-length", b"5")], EH) + data(1, b"abc") + head(1, [(b"x", b"y")]),
     reset(PROTOCOL)),
    ("8.1.1 content-length without a body", with_((b"content-length", b"1")), reset(PROTOCOL)),
    ("8.1.1 two content-lengths", with_((b"content-length", b"0"), (b"content-length", b"0")), reset(PROTOCOL)),
    ("8.1.1 a content-length that is no number", with_((b"content-length", b"+0")), reset(PROTOCOL)),
    ("8.2.1 an upper-case name", with_((b"X-Test", b"ok")), reset(PROTOCOL)),
    ("8.2.1 a space in a name", with_((b"x test", b"ok")), reset(PROTOCOL)),
    ("8.2.1 a colon in a name", with_((b"x:test", b"ok")), reset(PROTOCOL)),
    ("8.2.1 an empty name", with_((b"", b"ok")), reset(PROTOCOL)),
    ("8.2.1 CR LF in a value", with_((b"x", b"a\r\nHost: b")), reset(PROTOCOL)),
    ("8.2.1 NUL in a value", with_((b"x", b"a\0b")), reset(PROTOCOL)),
    ("8.2.1 space around a value", with_((b"x", b" a")), reset(PROTOCOL)),
    ("8.2.2 connection", with_((b"connection", b"close")), reset(PROTOCOL)),
    ("8.2.2 transfer-encoding", head(1, [*POST, (b"transfer-encoding", b"chunked")], EH), reset(PROTOCOL)),
    ("8.2.2 upgrade", with_((b"upgrade", b"websocket")), reset(PROTOCOL)),
    ("8.2.2 keep-alive and proxy-connection", with_((b"keep-alive", b"5")), reset(PROTOCOL)),
    ("8.2.2 proxy-connection", with_((b"proxy-connection", b"close")), reset(PROTOCOL)),
    ("8.2.2 TE that is not trailers", with_((b"te", b"trailers, deflate")), reset(PROTOCOL)),
    ("8.2.2 TE: trailers", with_((b"te", b"trailers")), FINE),
    ("8.3 an unknown pseudo-header field", with_((b":test", b"ok")), reset(PROTOCOL)),
    ("8.3 a response's pseudo-header field", with_((b":status", b"200")), reset(PROTOCOL)),
    ("8.3 a pseudo-header field behind a regular one", head(1, [*GET[:2], (b"x", b"y"), *GET[2:]]), reset(PROTOCOL)),
    ("8.3 a pseudo-header field in a trailer", OPEN + head(1, [(b":method", b"GET")]), reset(PROTOCOL)),
    ("8.3.1 no method", head(1, without(b":method")), reset(PROTOCOL)),
    ("8.3.1 no scheme", head(1, without(b":scheme")), reset(PROTOCOL)),
    ("8.3.1 no path", head(1, without(b":path")), reset(PROTOCOL)),
    ("8.3.1 neither authority nor host", head(1, without(b":authority")), reset(PROTOCOL)),
    ("8.3.1 host instead of an authority", head(1, [*without(b":authority"), (b"host", b"a.example")]), FINE),
    ("8.3.1 an empty path", head(1, [*without(b":path"), (b":path", b"")]), reset(PROTOCOL)),
    ("8.3.1 a path that does not begin with /", head(1, [*without(b":path"), (b":path", b"x")]), reset(PROTOCOL)),
    ("8.3.1 a path with a space", head(1, [*without(b":path"), (b":path", b"/a HTTP/1.1")]), reset(PROTOCOL)),
    ("8.3.1 a path with a fragment", head(1, [*without(b":path"), (b":path", b"/a#b")]), reset(PROTOCOL)),
    ("8.3.1 a method that is no token", head(1, [(b":method", b"GET /"), *GET[1:]]), reset(PROTOCOL)),
    ("8.3.1 an empty method", head(1, [(b":method", b""), *GET[1:]]), reset(PROTOCOL)),
    ("8.3.1 another scheme", head(1, [*without(b":scheme"), (b":scheme", b"gopher")]), reset(PROTOCOL)),
    ("8.3.1 an authority with user information",
     head(1, [*without(b":authority"), (b":authority", b"a@b")]),
     reset(PROTOCOL)),
    ("8.3.1 an authority with a path", head(1, [*without(b":authority"), (b":authority", b"a/b")]), reset(PROTOCOL)),
    ("8.3.1 host and authority differ", with_((b"host", b"b.example")), reset(PROTOCOL)),
    ("8.3.1 host twice", with_((b"host", b"a.example"), (b"host", b"a.example")), reset(PROTOCOL)),
    *[(f"8.3.1 {name.decode()} twice", head(1, [(name, value), *GET]), reset(PROTOCOL)) for name, value in GET],
    ("8.5 CONNECT with a path",
     head(1, [(b":method", b"CONNECT"), (b":path", b"/"), (b":authority", b"a:1")], EH),
     reset(PROTOCOL)),
    ("8.5 CONNECT without an authority", head(1, [(b":method", b"CONNECT")], EH), reset(PROTOCOL)),
    ("8.5 CONNECT", head(1, [(b":method", b"CONNECT"), (b":authority", b"a:1")], EH), FINE),
    ("8.5 HEADERS in a tunnel",
     head(1, [(b":method", b"CONNECT"), (b":authority", b"a:1")], EH) + head(1, [(b"x", b"y")]),
     reset(PROTOCOL)),
    ("8441 :protocol without CONNECT", head(1, [*GET, (b":protocol", b"websocket")]), reset(PROTOCOL)),
    ("8441 extended CONNECT without a path",
     head(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *without(b":path")[1:]], EH),
     reset(PROTOCOL)),
    ("8.1 a trailer that decides routing", OPEN + head(1, [(b"host", b"b")]), reset(PROTOCOL)),
    ("8.1 a trailer that frames", OPEN + head(1, [(b"transfer-encoding", b"chunked")]), reset(PROTOCOL)),
    # priorities (RFC 9218)
    ("9218 PRIORITY_UPDATE on a stream", frame(PRIORITY_UPDATE, 0, 1, word(1) + b"u=1"), goaway(PROTOCOL)),
    ("9218 PRIORITY_UPDATE about stream 0", frame(PRIORITY_UPDATE, 0, 0, word(0) + b"u=1"), goaway(PROTOCOL)),
    ("9218 PRIORITY_UPDATE that is too short", frame(PRIORITY_UPDATE, 0, 0, b"\0"), goaway(SIZE)),
    ("9218 PRIORITY_UPDATE about a stream to come", frame(PRIORITY_UPDATE, 0, 0, word(1) + b"u=1"), FINE),
    # HPACK in its frames (RFC 7541)
    ("7541 index 0", frame(HEADERS, EH | ES, 1, block(GET) + b"\x80"), goaway(COMPRESSION)),
    ("7541 an index beyond the table", frame(HEADERS, EH | ES, 1, block(GET) + b"\xff\x20"), goaway(COMPRESSION)),
    ("7541 a name's index beyond the table", frame(HEADERS, EH | ES, 1, block(GET) + b"\x7f\x20\1a"), goaway(COMPRESSION)),
    ("7541 a size update behind a field", frame(HEADERS, EH | ES, 1, block(GET) + b"\x20"), goaway(COMPRESSION)),
    ("7541 a size update that is too large",
     frame(HEADERS, EH | ES, 1, b"\x3f\xe2\x1f" + block(GET)),
     goaway(COMPRESSION)),
    ("7541 padding that is too long",
     frame(HEADERS, EH | ES, 1, block(GET) + b"\0\1a\x82\x1f\xff"),
     goaway(COMPRESSION)),
    ("7541 padding of zeros", frame(HEADERS, EH | ES, 1, block(GET) + b"\0\1a\x81\x18"), goaway(COMPRESSION)),
    ("7541 EOS in a string",
     frame(HEADERS, EH | ES, 1, block(GET) + b"\0\1a\x84\xff\xff\xff\xff"),
     goaway(COMPRESSION)),
]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("name", "sent", "outcome"), CASES, ids=[one[0] for one in CASES])
def test_what_a_client_does_ends_as_the_rule_says(name, sent, outcome, split):
    if split == "bytes" and len(sent) > 2000:
        pytest.skip("long")
    talk = Talk(split)
    talk.peer(sent)
    assert talk.outcome() == outcome
    if outcome[0] != "goaway":  # the connection goes on
        talk.sink.on_head = Talk.ok
        talk.peer(head(99))
        said = talk.say()
        assert [(one[0], one[1]) for one in said[-2:]] == [("HEADERS", 99), ("DATA", 99)]
    else:
        assert talk.rule and not talk.codec.deadline()


CLOSED_CASES = [
    ("DATA", data(1, b"x", ES), goaway(CLOSED)),
    ("HEADERS", head(1), goaway(CLOSED)),
    ("CONTINUATION", frame(CONTINUATION, EH, 1), goaway(PROTOCOL)),
    ("PRIORITY", frame(PRIORITY, 0, 1, word(0) + b"\0"), FINE),
    ("WINDOW_UPDATE", frame(UPDATE, 0, 1, word(1)), FINE),
    ("RST_STREAM", frame(RST, 0, 1, word(CANCEL)), FINE),
]


@pytest.mark.parametrize(("name", "sent", "outcome"), CLOSED_CASES, ids=[one[0] for one in CLOSED_CASES])
def test_what_may_still_come_on_a_stream_that_is_over(name, sent, outcome):
    talk = Talk(answer=True)
    talk.peer(HALF)
    assert talk.say()[-1] == ("DATA", 1, b"ok", True)
    talk.peer(sent)
    assert talk.outcome() == outcome


def test_of_several_window_settings_the_last_counts():
    talk = Talk(answer=True)
    talk.peer(settings((4, 100), (4, 1)) + HALF)
    assert talk.say()[-1] == ("DATA", 1, b"o", False)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n",
        PREFACE[:-1] + b"x",
        PREFACE + frame(PING, 0, 0, b"12345678"),
        PREFACE + frame(SETTINGS, ACK, 0),
    ],
    ids=["http/1", "wrong preface", "PING first", "acknowledgement first"],
)
def test_a_connection_begins_with_the_preface_and_settings(sent, split):
    talk = Talk(split, greet=False)
    talk.peer(sent)
    assert talk.rule == "bad-preface"
    assert talk.outcome() == goaway(PROTOCOL)


def test_our_preface_says_what_we_take():
    talk = Talk(greet=False, streams=50)
    said = talk.say()
    raw = said[0][1]
    pairs = {
        int.from_bytes(raw[i : i + 2], "big"): int.from_bytes(raw[i + 2 : i + 6], "big") for i in range(0, len(raw), 6)
    }
    assert pairs == {3: 50, 4: 65536, 6: 65536, 8: 1, 9: 1}
    assert said[1] == ("WINDOW_UPDATE", 0, 1024 * 1024 - 65535)


def test_settings_and_pings_are_answered():
    talk = Talk()
    talk.peer(settings((4, 1), (4, 2)) + frame(PING, 0, 0, b"abcdefgh"))
    assert talk.say() == [("SETTINGS", "ack"), ("PING", "ack")]
    talk.peer(frame(PING, 0, 0, b"abcdefgh"))
    assert talk.sent() == frame(PING, ACK, 0, b"abcdefgh")


@pytest.mark.parametrize("split", SPLITS)
def test_a_block_may_come_in_many_frames(split):
    talk = Talk(split, answer=True)
    whole = block([*GET, (b"x", b"y" * 50)])
    talk.peer(
        frame(HEADERS, ES, 1, whole[:5])
        + frame(CONTINUATION, 0, 1, whole[5:20])
        + frame(CONTINUATION, EH, 1, whole[20:])
    )
    assert talk.heard() == [("head", 1, "GET /"), ("end", 1, None)]
    assert talk.sink.messages[0].headers[1] == (b"x", b"y" * 50)
    assert talk.say()[-1] == ("DATA", 1, b"ok", True)


@pytest.mark.parametrize("split", SPLITS)
def test_more_streams_than_we_allow_are_refused_and_the_rest_goes_on(split):
    talk = Talk(split, streams=3)
    talk.peer(head(1) + head(3) + head(5) + head(7))
    assert talk.outcome() == reset(REFUSED, 7)
    assert [word[1] for word in talk.heard() if word[0] == "head"] == [1, 3, 5]


def test_a_broken_head_is_told_for_the_log():
    talk = Talk()
    talk.peer(with_((b"X", b"y")))
    assert talk.heard() == [("refused", 1, "upper-case")]
    assert talk.say() == [("RST_STREAM", 1, PROTOCOL)]


def test_a_header_list_over_the_limit_is_calmed_and_the_table_stays_right():
    talk = Talk(answer=True, head=1000)
    long = b"\x40\x01a\x7f\x81\x01" + b"x" * 256
    talk.peer(frame(HEADERS, EH | ES, 1, block(GET) + long + b"\xbe" * 500))
    assert talk.outcome() == reset(CALM)
    talk.peer(frame(HEADERS, EH | ES, 3, block(GET) + b"\xbe"))
    assert talk.sink.messages[-1].get(b"a") == b"x" * 256


def test_a_graceful_end_of_a_client_is_no_error():
    talk = Talk(answer=True)
    talk.peer(frame(GOAWAY, 0, 0, word(0) + word(NO_ERROR)))
    talk.eof()
    assert talk.error is None and talk.codec.finished
