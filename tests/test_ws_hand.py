"""The opening handshake (wire.wshand) and permessage-deflate (wire.wsdeflate): what is asked, agreed, and refused."""

import zlib

import pytest

from fairlead.core.errors import AppError, Refused, WireError
from fairlead.core.message import Request, Response
from fairlead.wire import wsdeflate, wshand
from fairlead.wire.wsdeflate import Settings
from kit import SPLITS
from wskit import Talk

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def asking(*headers, method="GET", upgrade=b"websocket", protocol=b"", length=0, scheme="http", authority=b"a.example"):
    request = Request(method, scheme, authority, b"/", list(headers), "1.1", length)
    request.upgrade, request.protocol = upgrade, protocol
    return request


# ---- server


def test_the_rfcs_own_key_is_accepted():
    assert wshand.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    response = wshand.answer(asking(KEY, VERSION), [], None, b"")
    assert response.status == 101
    assert (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in response.headers
    assert response.get(b"upgrade") == b"websocket"


def test_an_extended_connect_is_answered_by_200_without_a_key():
    request = asking(VERSION, method="CONNECT", upgrade=b"", protocol=b"websocket", length=-1)
    assert wshand.is_websocket(request)
    wshand.check(request)
    response = wshand.answer(request, [(b"x-a", b"b")], None, b"ext")
    assert (response.status, response.headers) == (200, [(b"x-a", b"b"), (b"sec-websocket-extensions", b"ext")])


@pytest.mark.parametrize(
    "request_",
    [
        asking(KEY, VERSION, method="POST"),
        asking(KEY, VERSION, length=5),
        asking(KEY, VERSION, upgrade=b""),
        asking(KEY, VERSION, upgrade=b"h2c"),
        asking(KEY, VERSION, upgrade=b"websockets"),
        asking(VERSION, upgrade=b"", method="CONNECT", protocol=b"connect-udp"),
    ],
)
def test_other_requests_ask_for_no_websocket(request_):
    assert not wshand.is_websocket(request_)


def test_one_of_several_upgrades_may_be_websocket():
    assert wshand.is_websocket(asking(KEY, VERSION, upgrade=b"h2c, websocket"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((KEY,), 426),
        ((KEY, (b"sec-websocket-version", b"8")), 426),
        ((KEY, VERSION, VERSION), 426),
        ((VERSION,), 400),
        ((KEY, KEY, VERSION), 400),
        (((b"sec-websocket-key", b"c2hvcnQ="), VERSION), 400),
        (((b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="[:-1]), VERSION), 400),
        (((b"sec-websocket-key", b"dGhlIHNhb!Bsb25jZSBub25jZQ="), VERSION), 400),
    ],
)
def test_a_bad_handshake_is_refused(headers, status):
    with pytest.raises(Refused) as caught:
        wshand.check(asking(*headers))
    assert caught.value.status == status


def test_subprotocols_are_offered_in_lists_and_chosen_from_them():
    request = asking(KEY, VERSION, (b"sec-websocket-protocol", b"chat, v2"), (b"sec-websocket-protocol", b"v1"))
    assert wshand.subprotocols(request) == ["chat", "v2", "v1"]
    assert wshand.answer(request, [], "v2", b"").get(b"sec-websocket-protocol") == b"v2"
    with pytest.raises(AppError, match="not offered"):
        wshand.answer(request, [], "v3", b"")
    with pytest.raises(AppError, match="the server's"):
        wshand.answer(request, [(b"Sec-WebSocket-Accept", b"x")], None, b"")


@pytest.mark.parametrize(
    ("origin", "allowed", "good"),
    [
        (None, ["https://shop.example"], True),
        (b"https://shop.example", ["https://shop.example"], True),
        (b"HTTPS://Shop.Example", ["https://shop.example/"], True),
        (b"https://shop.example:8443", ["https://shop.example"], False),
        (b"http://shop.example", ["https://shop.example"], False),
        (b"https://evil.example", ["https://shop.example", "self"], False),
        (b"https://shop.example.evil.example", ["https://shop.example"], False),
        (b"null", ["self"], False),
        (b"http://a.example", ["self"], True),
        (b"https://a.example", ["self"], False),
        (b"https://any.example", ["*"], True),
    ],
)
def test_origins_are_compared_whole(origin, allowed, good):
    headers = [(b"origin", origin)] if origin is not None else []
    assert wshand.good_origin(asking(*headers), allowed) is good


def test_more_subprotocols_than_anybody_offers_are_refused():
    wshand.check(asking(KEY, VERSION, (b"sec-websocket-protocol", b"a," * 1000)))
    for offered in ([(b"sec-websocket-protocol", b"a," * 2000)], [(b"sec-websocket-protocol", b"a" * 100)] * 30):
        with pytest.raises(Refused, match="subprotocols"):
            wshand.check(asking(KEY, VERSION, *offered))


def test_two_origins_are_none():
    assert not wshand.good_origin(asking((b"origin", b"http://a.example"), (b"origin", b"http://a.example")), ["self"])


# ---- client


def test_a_client_asks_and_verifies_over_both_versions():
    for version in ("1.1", "2"):
        request = wshand.ask(b"a", b"/x", b"0" * 16, offered=["one", "two"], extension=b"e", version=version)
        assert wshand.is_websocket(request)
        wshand.check(request)
        response = wshand.answer(request, [], "two", b"")
        assert wshand.verify(request, response, ["one", "two"]) == "two"
        assert wshand.verify(request, wshand.answer(request, [], None, b""), ["one"]) == ""


def test_a_client_refuses_what_does_not_open_the_websocket():
    request = wshand.ask(b"a", b"/", b"1" * 16, offered=["a"])
    good = wshand.answer(request, [], None, b"")
    for change, rule in [
        (lambda r: setattr(r, "status", 200), "ws-refused"),
        (lambda r: setattr(r, "headers", [f for f in r.headers if f[0] != b"upgrade"]), "ws-upgrade"),
        (lambda r: setattr(r, "headers", [f for f in r.headers if f[0] != b"sec-websocket-accept"]), "ws-accept"),
        (lambda r: r.headers.append((b"sec-websocket-accept", b"x")), "ws-accept"),
        (lambda r: r.headers.append((b"sec-websocket-protocol", b"b")), "ws-protocol"),
    ]:
        response = Response(good.status, list(good.headers))
        change(response)
        with pytest.raises(WireError) as caught:
            wshand.verify(request, response, ["a"])
        assert caught.value.rule == rule


# ---- permessage-deflate: negotiation (RFC 7692 section 7.1)

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OFFERS = {
    "": "",
    "permessage-deflate": BOTH,
    "PerMessage-Deflate; Client_Max_Window_Bits": BOTH + "; client_max_window_bits=12",
    "permessage-deflate; client_max_window_bits=9": BOTH + "; client_max_window_bits=9",
    "permessage-deflate; client_max_window_bits=\"15\"": BOTH + "; client_max_window_bits=12",
    "permessage-deflate; server_max_window_bits=8": BOTH + "; server_max_window_bits=8",
    "permessage-deflate; server_max_window_bits=15": BOTH + "; server_max_window_bits=12",
    "x-unknown, permessage-deflate": BOTH,
    "permessage-deflate; server_max_window_bits=7, permessage-deflate": BOTH,
    "permessage-deflate; server_max_window_bits": "",
    "permessage-deflate; server_max_window_bits=16": "",
    "permessage-deflate; server_max_window_bits=08": "",
    "permessage-deflate; client_max_window_bits=x": "",
    "permessage-deflate; server_no_context_takeover=1": "",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover": "",
    "permessage-deflate; unknown": "",
    "x-webkit-deflate-frame": "",
    "permessage-deflate; =1": "",
    ",,; ,": "",
    'x; a="1,2;3", permessage-deflate': BOTH,
    'x; a="' + "," * 2000 + '", permessage-deflate': BOTH,
    'x; a="' + "," * 2100 + '", permessage-deflate': "",
    "x," * 1200 + "permessage-deflate": "",
}  # fmt: skip


@pytest.mark.parametrize("offer", OFFERS)
def test_the_first_good_offer_is_taken(offer):
    made, value = wsdeflate.accept([offer.encode()] if offer else [], Settings())
    assert value.decode() == OFFERS[offer]
    assert (made is not None) == bool(value)


def test_with_takeover_nothing_is_given_up_that_was_not_asked_for():
    settings = Settings(takeover=True)
    assert wsdeflate.accept([b"permessage-deflate"], settings)[1] == b"permessage-deflate"
    made, value = wsdeflate.accept([b"permessage-deflate; server_no_context_takeover"], settings)
    assert value == b"permessage-deflate; server_no_context_takeover"
    assert (made.takeover, made.takes_over) == (False, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"permessage-deflate",  # we asked the server to give up its context
        b"x-other",
        b"permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
        b"permessage-deflate; server_no_context_takeover; client_max_window_bits",
        b"permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
        b"permessage-deflate; server_no_context_takeover; what",
        b";",
    ],
)
def test_a_client_takes_no_answer_that_does_not_fit_its_offer(answer):
    with pytest.raises(ValueError, match="server"):
        wsdeflate.agreed([answer], Settings())


def test_no_answer_is_no_compression():
    assert wsdeflate.agreed([], Settings()) is None


# ---- permessage-deflate: messages


def pair(split="whole", **options):
    """A client and a server that agreed on compression."""
    settings = Settings(**{"least": 0, **options})
    server, value = wsdeflate.accept([wsdeflate.offer(settings)], settings)
    client = wsdeflate.agreed([value], settings)
    return Talk(split, client=True, deflate=client), Talk(split, deflate=server)


MESSAGES = ["", "Hello", "Hello", "x" * 5000, "aé\U0001f600" * 100, "".join(chr(i % 95 + 32) * (i % 7) for i in range(9000))]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("options", [{}, {"takeover": True}, {"bits": 9}, {"takeover": True, "bits": 15, "level": 9}])
def test_messages_arrive_whatever_was_agreed(split, options):
    client, server = pair(split, **options)
    for one, other in ((client, server), (server, client)):
        for message in MESSAGES:
            one.ws.text(message)
            one.ws.binary(message.encode())
            other.peer(one.sent())
            assert other.heard() == [("text", message), ("binary", message.encode())]


@pytest.mark.parametrize("bits", range(8, 16))
def test_a_window_is_never_larger_than_the_peer_asked_for(bits):
    made, _ = wsdeflate.accept([b"permessage-deflate; server_max_window_bits=%d" % bits], Settings(takeover=True, bits=15))
    data = bytes((i * i) >> 5 & 15 for i in range(20000)) + b"0123456789abcdef" * 300
    packed = made.pack(data) + b"\0\0\xff\xff"
    farthest = max(distances(packed), default=0)
    assert 0 < farthest <= 1 << bits
    assert zlib.decompressobj(-15).decompress(packed) == data


def test_a_window_of_256_bytes_is_kept_though_zlib_has_none():
    noise = bytes((i * 7919 >> 3 ^ i * 31) & 255 for i in range(4000))
    for repeat, bits, shrinks in [(240, 8, True), (257, 8, False), (300, 8, False), (500, 8, False), (300, 12, True)]:
        made, _ = wsdeflate.accept([b"permessage-deflate; server_max_window_bits=%d" % bits], Settings(takeover=True))
        data = bytes(noise[:repeat]) * 20
        assert (len(made.pack(data)) < len(data) * 0.8) is shrinks, (repeat, bits)


def distances(packed):
    """The match distances of a raw DEFLATE stream, found by shrinking what the inflater may look back at."""
    for bits in range(9, 16):
        try:
            zlib.decompressobj(-bits).decompress(packed)
        except zlib.error:
            continue
        yield 1 << (bits - 1) if bits == 9 else 1 << bits
        return


def test_the_rfcs_own_messages_are_inflated():
    settings = Settings(takeover=True)
    made = lambda: wsdeflate.accept([b"permessage-deflate"], settings)[0]  # noqa: E731
    hello = bytes.fromhex("f248cdc9c90700")
    again = bytes.fromhex("f200110000")
    stored = bytes.fromhex("000500faff48656c6c6f00")
    final = bytes.fromhex("f348cdc9c9070000")
    blocks = bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", ""))
    t = Talk(deflate=made())
    t.frame(0xC1, hello).frame(0xC1, again).frame(0x41, hello[:3]).frame(0x80, hello[3:])
    t.frame(0xC1, stored).frame(0xC1, final).frame(0xC1, blocks).frame(0xC1, b"\0")
    assert t.heard() == [("text", "Hello")] * 6 + [("text", "")]


def test_small_messages_stay_as_they_are():
    server = pair(least=100)[1]
    server.ws.text("x" * 99)
    server.ws.text("x" * 100)
    assert [first for first, _ in server.frames()] == [0x81, 0xC1]


def test_a_bomb_costs_its_limit_and_no_more():
    packed = wsdeflate.Deflate(Settings(), (False, 15), (False, 15)).pack(b"\0" * 50_000_000)
    t = Talk(deflate=wsdeflate.accept([b"permessage-deflate"], Settings())[0], message=1_000_000)
    t.frame(0xC2, packed)
    assert t.ws.failed == "message-too-big"
    assert t.heard()[0][:2] == ("closed", 1006)


def test_a_message_of_exactly_the_limit_passes_and_one_more_does_not():
    for extra in (0, 1):
        client = pair()[0]
        server = Talk(deflate=wsdeflate.accept([wsdeflate.offer(Settings())], Settings())[0], message=4096)
        client.ws.binary(b"z" * (4096 + extra))
        server.peer(client.sent())
        assert server.ws.failed == ("message-too-big" if extra else "")


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff", b"\x06", b"\x01\x05\x00\x00\x00Hello", b"\x03\x00" * 40], ids=["junk", "type", "length", "ends"]
)
def test_what_is_no_deflate_is_1007(payload):
    t = Talk(deflate=wsdeflate.accept([b"permessage-deflate"], Settings())[0])
    t.frame(0xC2, payload)
    assert t.ws.failed == "deflate"


def test_inflated_text_is_checked_as_it_comes():
    client, server = pair()
    packed = client.ws.deflate.pack(b"ok \xff" + b"x" * 1000)
    server.frame(0x41, packed[: len(packed) - 1])
    assert server.ws.failed == "utf-8"


def test_control_frames_are_never_compressed_and_continuations_carry_no_bit():
    server = pair()[1]
    server.frame(0x41, b"\xf2H").frame(0xC0, b"\xcd")
    assert server.ws.failed == "reserved-bit"


def test_an_idle_socket_holds_no_window():
    client, server = pair()
    for _ in range(3):
        client.ws.text("hello " * 100)
        server.peer(client.sent())
        server.ws.text("hello " * 100)
        client.peer(server.sent())
    for t in (client, server):
        assert t.ws.deflate.inflater is None
        assert t.ws.deflate.deflater is None


def test_sockets_of_one_loop_share_a_deflater():
    shared = wsdeflate.Shared()
    for _ in range(5):
        made, _ = wsdeflate.accept([b"permessage-deflate"], Settings(), shared)
        made.pack(b"x" * 200)
    assert len(shared.made) == 1
