"""wire.ws: WebSocket frames and messages as RFC 6455 has them, in both roles, at every split of the peer's bytes."""

import pytest

from kit import SPLITS
from wskit import Talk, close

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
ROLES = {"server": False, "client": True}


@pytest.fixture(params=[(split, role) for split in SPLITS for role in ROLES], ids=lambda p: "-".join(p))
def talk(request):
    """Makes a Talk at each split and in each role."""
    split, role = request.param

    def make(**options):
        return Talk(split, client=ROLES[role], **options)

    return make


# ---- the examples of section 5.7


def test_the_rfcs_own_frames_are_understood():
    server = Talk()
    server.peer(bytes.fromhex("818537fa213d7f9f4d5158"))
    client = Talk(client=True)
    client.peer(bytes.fromhex("810548656c6c6f") + bytes.fromhex("010348656c80026c6f"))
    client.peer(bytes.fromhex("890548656c6c6f"))
    client.peer(bytes.fromhex("827e0100") + b"a" * 256 + bytes.fromhex("827f0000000000010000") + b"b" * 65536)
    assert server.heard() == [("text", "Hello")]
    assert client.heard() == [
        ("text", "Hello"), ("text", "Hello"), ("ping", b"Hello"), ("binary", b"a" * 256), ("binary", b"b" * 65536)
    ]  # fmt: skip
    assert client.sent() == bytes.fromhex("8a8537fa213d7f9f4d5158")


# ---- messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536])
def test_a_message_of_any_length_arrives_whole(talk, size):
    if size > 1000 and talk().split == "bytes":
        size = 1000 + size % 7
    t = talk()
    t.frame(BINARY, b"\xfe" * size).frame(TEXT, b"*" * size)
    assert t.heard() == [("binary", b"\xfe" * size), ("text", "*" * size)]
    assert t.sent() == b""


def test_fragments_make_one_message_and_control_frames_come_between(talk):
    t = talk()
    t.frame(0x01, b"one ").frame(PING, b"?").frame(0x00, b"").frame(PONG, b"!").frame(0x00, b"two").frame(0x80, b"")
    t.frame(0x02, b"").frame(0x80, b"")
    assert t.heard() == [("ping", b"?"), ("pong", b"!"), ("text", "one two"), ("binary", b"")]
    assert t.frames() == [(PONG, b"?")]


def test_text_may_be_cut_inside_a_character(talk):
    text = "a€\U0001f600ß" * 3
    t = talk()
    whole = text.encode()
    t.frame(0x01, whole[:2])
    for c in whole[2:]:
        t.frame(0x00, bytes([c]))
    t.frame(0x80)
    assert t.heard() == [("text", text)]


def test_what_we_say_is_framed_by_role():
    server, client = Talk(), Talk(client=True)
    for t in (server, client):
        t.ws.text("Hello")
        t.ws.binary(b"\0" * 200)
        t.ws.ping(b"x" * 200)
    plain, hidden = server.sent(), client.sent()
    assert plain.startswith(b"\x81\x05Hello\x82\x7e\x00\xc8")
    assert hidden.startswith(bytes.fromhex("818537fa213d7f9f4d5158"))
    assert Talk(client=True).peer(plain).heard() == Talk().peer(hidden).heard()


def test_a_message_can_be_said_in_fragments(talk):
    one, other = Talk(client=True), Talk()
    one.ws.fragment(1, b"ab", False)
    one.ws.ping(b"")
    one.ws.fragment(0, b"", False)
    one.ws.fragment(0, b"c", True)
    assert other.peer(one.sent()).heard() == [("ping", b""), ("text", "abc")]
    assert one.ws.messages_out == other.ws.messages_in == 1


# ---- what breaks a rule

HIDE = 0x80
BROKEN = {
    "rsv1 without an extension": (0xC1, b"x", "reserved-bit", 1002),
    "rsv2": (0xA1, b"x", "reserved-bit", 1002),
    "rsv3": (0x91, b"x", "reserved-bit", 1002),
    "rsv on a ping": (0xC9, b"", "reserved-bit", 1002),
    "opcode 3": (0x83, b"", "reserved-opcode", 1002),
    "opcode 7": (0x87, b"x", "reserved-opcode", 1002),
    "opcode 11": (0x8B, b"", "reserved-opcode", 1002),
    "opcode 15": (0x8F, b"x", "reserved-opcode", 1002),
    "a ping in fragments": (0x09, b"", "control-fragmented", 1002),
    "a close in fragments": (0x08, b"", "control-fragmented", 1002),
    "a long ping": (0x89, b"x" * 126, "control-long", 1002),
    "a long close": (0x88, close(1000, "x" * 124), "control-long", 1002),
    "a continuation of nothing": (0x80, b"x", "continues-nothing", 1002),
    "the first of a continuation of nothing": (0x00, b"", "continues-nothing", 1002),
    "half a close code": (0x88, b"\x03", "close-short", 1002),
    "a reason that is not UTF-8": (0x88, close(1000) + b"\xff", "utf-8", 1007),
    "text that is not UTF-8": (0x81, b"ab\xc3", "utf-8", 1007),
    "a surrogate": (0x81, b"\xed\xa0\x80", "utf-8", 1007),
    "an overlong form": (0x81, b"\xc0\xaf", "utf-8", 1007),
    "beyond Unicode": (0x81, b"\xf4\x90\x80\x80", "utf-8", 1007),
}
BROKEN |= {
    f"close code {code}": (0x88, close(code), "close-code", 1002)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_fails_the_connection_with_its_code(talk, name):
    first, payload, rule, code = BROKEN[name]
    t = talk()
    t.frame(TEXT, b"before").frame(first, payload).frame(TEXT, b"after")
    words = t.heard()
    assert words[0] == ("text", "before")
    assert [word[:2] for word in words[1:]] == [("closed", 1006)]
    assert t.ws.failed == rule
    [(head, said)] = t.frames()
    assert head == CLOSE
    assert int.from_bytes(said[:2], "big") == code
    assert t.ws.finished


def test_a_message_inside_another_is_refused(talk):
    t = talk()
    t.frame(0x01, b"a").frame(0x82, b"b")
    assert t.ws.failed == "interrupts-message"


@pytest.mark.parametrize("split", SPLITS)
def test_masking_belongs_to_clients(split):
    assert Talk(split).peer(b"\x81\x01a").ws.failed == "not-masked"
    assert Talk(split, client=True).peer(b"\x81\x81\0\0\0\0a").ws.failed == "masked"


LONG_FORMS = {
    "16 bits for 125": bytes([0xFE]) + (125).to_bytes(2, "big"),
    "64 bits for 125": bytes([0xFF]) + (125).to_bytes(8, "big"),
    "64 bits for 65535": bytes([0xFF]) + (65535).to_bytes(8, "big"),
    "the highest bit": bytes([0xFF]) + (1 << 63).to_bytes(8, "big"),
    "all bits": bytes([0xFF]) + b"\xff" * 8,
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", LONG_FORMS)
def test_a_length_has_its_shortest_form(split, name):
    t = Talk(split)
    t.peer(b"\x82" + LONG_FORMS[name])
    assert t.ws.failed == "long-form"


def test_a_rule_is_applied_as_soon_as_the_byte_is_there():
    for data, rule in [
        (b"\x83\x80", "reserved-opcode"),
        (b"\x81\x7f", "not-masked"),
        (b"\x89\xfe", "control-long"),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"abcd", "message-too-big"),
        (b"\x81\xfe\x10\x00\0\0\0\0\xce\xba\xe1\xbd\xb9\xed\xa0", "utf-8"),
    ]:
        assert Talk().peer(data).ws.failed == rule


# ---- limits


def test_a_message_over_its_limit_is_1009_before_its_bytes_come(talk):
    t = talk(message=1000)
    t.frame(BINARY, b"x" * 1000)
    assert t.heard() == [("binary", b"x" * 1000)]
    t.peer((b"\x82\xfe\x03\xe9\0\0\0\0" if not t.client else b"\x82\x7e\x03\xe9") + b"y")
    assert t.ws.failed == "message-too-big"
    assert t.frames()[0][1][:2] == (1009).to_bytes(2, "big")


def test_fragments_count_together(talk):
    t = talk(message=10, fragments=4)
    t.frame(0x02, b"12345").frame(0x80, b"67890")
    assert t.heard() == [("binary", b"1234567890")]
    t.frame(0x02, b"12345").frame(0x00, b"678901")
    assert t.ws.failed == "message-too-big"
    t = talk(message=10, fragments=4)
    t.frame(0x02, b"").frame(0x00).frame(0x00).frame(0x00).frame(0x00)
    assert t.ws.failed == "too-many-fragments"


# ---- a reader that has enough


@pytest.mark.parametrize("split", SPLITS)
def test_an_ear_that_has_enough_hears_the_rest_later(split):
    t = Talk(split, enough=1)
    t.frame(TEXT, b"1").frame(TEXT, b"2").frame(PING, b"p").frame(0x01, b"3")
    assert t.heard() == [("text", "1")]
    assert t.ws.more
    t.ws.feed(b"", t.now)
    assert t.heard() == [("text", "2")]
    t.eof()
    assert t.heard() == [] and not t.ws.finished
    t.ws.feed(b"", t.now)
    assert t.heard() == [("ping", b"p"), ("closed", 1006, "")]
    assert t.ws.finished and not t.ws.more


def test_an_ear_may_speak_while_it_hears(talk):
    t = talk()
    t.ear.on_message = t.ws.text
    t.frame(TEXT, b"a").frame(TEXT, b"b").frame(CLOSE, close(1000))
    assert [payload for _, payload in t.frames()] == [b"a", b"b", close(1000)]


def test_an_echo_goes_out_before_the_rule_that_breaks_next():
    t = Talk()
    t.ear.on_message = t.ws.text
    t.peer(b"\x81\x81\0\0\0\0a\x83\x80")
    assert [payload[:2] for _, payload in t.frames()] == [b"a", b"\x03\xea"]


def test_an_ear_may_close_while_it_hears_and_hears_no_more_messages(talk):
    t = talk()
    t.ear.on_message = lambda message: t.ws.close(1000, "enough")
    t.frame(TEXT, b"a").frame(TEXT, b"b").frame(BINARY, b"c" * 300).frame(0x01, b"d").frame(CLOSE, close(1000, "yes"))
    assert t.heard() == [("text", "a"), ("closed", 1000, "yes")]
    assert t.frames() == [(CLOSE, close(1000, "enough"))]


# ---- closing


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
def test_a_close_is_answered_with_its_code(talk, code):
    t = talk()
    t.frame(CLOSE, close(code, "häm"))
    assert t.heard() == [("closed", code, "häm")]
    assert t.frames() == [(CLOSE, close(code))]
    assert t.ws.finished is not t.client, "the server ends the connection"


def test_a_close_without_a_code_is_1005_and_answered_by_none(talk):
    t = talk()
    t.frame(CLOSE)
    assert t.heard() == [("closed", 1005, "")]
    assert t.frames() == [(CLOSE, b"")]


def test_our_close_waits_for_theirs_and_reads_past_what_comes_before(talk):
    t = talk(message=100)
    t.ws.close(1001, "bye")
    t.ws.text("too late")
    t.frame(TEXT, b"late").frame(PING, b"x").frame(BINARY, b"x" * 5000)
    assert t.frames() == [(CLOSE, close(1001, "bye"))]
    assert t.heard() == [("ping", b"x")]
    t.frame(CLOSE, close(1001))
    assert t.heard() == [("closed", 1001, "")]
    assert t.ws.said_close and t.ws.heard_close


def test_a_close_that_is_never_answered_ends_in_time(talk):
    t = talk()
    t.ws.close(1000, "")
    t.pass_(9)
    assert not t.ws.finished
    t.pass_(2)
    assert t.ws.finished
    assert t.heard() == [("closed", 1006, "")]


def test_a_client_waits_for_the_server_to_end_the_connection():
    t = Talk(client=True)
    t.frame(CLOSE, close(1000))
    assert not t.ws.finished
    assert Talk(client=True).frame(CLOSE).eof().ws.finished
    t.pass_(11)
    assert t.ws.finished


def test_a_lost_tunnel_is_1006(talk):
    t = talk()
    t.frame(0x01, b"half").eof()
    assert t.heard() == [("closed", 1006, "")]
    assert t.ws.finished
    assert t.sent() == b""


def test_a_reason_is_cut_at_123_bytes_and_never_inside_a_character():
    t = Talk()
    t.ws.close(1000, "é" * 100)
    [(_, payload)] = t.frames()
    assert payload[2:].decode() == "é" * 61


# ---- time


def test_silence_is_asked_after_and_then_a_loss(talk):
    t = talk()
    t.pass_(19)
    assert t.sent() == b""
    t.pass_(2)
    assert t.frames() == [(PING, b"")]
    t.pass_(18)
    assert not t.ws.finished
    t.pass_(2)
    assert t.ws.failed == "no-pong"
    assert t.frames()[0][1][:2] == (1011).to_bytes(2, "big")
    assert t.heard()[0][:2] == ("closed", 1006)


def test_any_byte_is_a_sign_of_life(talk):
    t = talk()
    for _ in range(5):
        t.pass_(15)
        t.frame(PONG)
    t.pass_(21)
    t.peer(b"\x81")
    t.pass_(19)
    assert not t.ws.finished


def test_silence_of_a_reader_is_not_counted_against_the_peer():
    t = Talk(enough=1)
    t.frame(TEXT, b"1").frame(TEXT, b"2")
    t.pass_(500)
    assert not t.ws.finished and t.sent() == b""
    t.heard()
    t.ws.feed(b"", t.now)
    t.pass_(10)
    assert not t.ws.finished


@pytest.mark.parametrize("which", ["idle", "total"])
def test_idle_and_total_limits_end_it_with_1001(talk, which):
    t = talk(ping=0, **{which: 60_000_000_000})
    t.pass_(50)
    t.frame(PONG).frame(TEXT, b"x")
    t.pass_(5)
    assert not t.ws.finished
    t.pass_(56)
    assert t.ws.finished
    assert t.frames()[-1][1][:2] == (1001).to_bytes(2, "big")


def test_without_limits_there_is_no_deadline(talk):
    t = talk(ping=0, close=0, message=0, fragments=0)
    assert t.ws.deadline() == 0
    t.frame(BINARY, b"x" * 100)
    assert t.heard() == [("binary", b"x" * 100)]


def test_a_lone_surrogate_is_refused_and_nothing_is_said():
    t = Talk()
    with pytest.raises(UnicodeEncodeError):
        t.ws.text("\ud800")
    assert t.sent() == b""
