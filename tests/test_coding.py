"""serve.filters.compress, decompress and coding: answers and bodies in another coding."""

import gzip
import zlib

import pytest

import kit
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve.filters import coding
from fairlead.serve.filters.compress import Compress
from fairlead.serve.filters.decompress import WINDOW, Decompress
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from recorder import Peer

NAMES = [name for name in ("gzip", "br", "zstd") if coding.available([name])]
TEXT = b"all work and no play makes a server a dull server\n" * 200
ALL = [(b"accept-encoding", b"gzip, br, zstd")]


def unpacked(name, data):
    coder, out = coding.decoder(name), b""
    piece = coder.feed(data, 1 << 20)
    while piece:
        out += piece
        piece = coder.feed(b"", 1 << 20)
    assert coder.over
    return out


class Says(Handler):
    """Answers with a body, whole or in pieces."""

    def __init__(self, body=TEXT, headers=(), kind=b"text/plain; charset=utf-8", pieces=0, status=200, trailers=None):
        self.body, self.pieces, self.status, self.trailers = body, pieces, status, trailers
        self.headers = [(b"content-type", kind), *headers]

    def open(self, exchange):
        size = len(self.body)
        if not self.pieces:
            head = Response(self.status, [*self.headers, (b"content-length", b"%d" % size)], size)
            exchange.whole(head, self.body)
            return
        exchange.head(Response(self.status, list(self.headers), -1), False)
        for at in range(0, size, self.pieces):
            exchange.data(self.body[at : at + self.pieces], at + self.pieces >= size and self.trailers is None)
        if self.trailers is not None:
            exchange.end(self.trailers)


def answered(handler, headers=ALL, target=b"/", method="GET", scheme="http", version="1.1", **options):
    options.setdefault("types", ["text/*", "application/json"])
    peer = Peer(Router(Table([Route(handler, filters=(Compress(**options),))])))
    peer.conn.scheme = scheme
    peer.stream += 1
    request = peer_request(method, scheme, target, headers, version)
    peer.conn.head(peer.stream, request, True)
    return peer


def peer_request(method, scheme, target, headers, version):
    from fairlead.core.message import Request

    request = Request(method, scheme, b"shop.example", target, list(headers), version, 0)
    request.query = target.partition(b"?")[2]
    return request


@pytest.mark.parametrize("pieces", [0, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_compressed_and_comes_out_the_same(name, pieces):
    peer = answered(Says(pieces=pieces), [(b"accept-encoding", name.encode())])
    headers = peer.codec.headers
    assert headers[b"content-encoding"] == name.encode() and headers[b"vary"] == b"accept-encoding"
    assert unpacked(name, peer.answer) == TEXT
    assert len(peer.answer) < len(TEXT) // 2
    if pieces:
        assert b"content-length" not in headers
    else:
        assert headers[b"content-length"] == b"%d" % len(peer.answer) and peer.codec.response.length == len(peer.answer)


@pytest.mark.parametrize("name", NAMES)
def test_each_piece_of_a_stream_can_be_read_when_it_was_said(name):
    peer = answered(Says(body=b"data: event number 1\n\n" * 3, pieces=22, kind=b"text/event-stream"), least=0)
    said = [word[1] for word in peer.codec.said if word[0] == "data"]
    coder = coding.decoder(peer.codec.headers[b"content-encoding"].decode())
    assert [coder.feed(piece, 1 << 20)[:20] for piece in said] == [b"data: event number 1"] * 3
    assert name in NAMES


def test_trailers_come_behind_what_the_coder_held_back():
    peer = answered(Says(pieces=1000, trailers=[(b"x-sum", b"1")]), [(b"accept-encoding", b"gzip")])
    assert gzip.decompress(peer.answer) == TEXT
    assert peer.codec.said[-1] == ("end", [(b"x-sum", b"1")])


@pytest.mark.parametrize(
    "handler, headers, why",
    [
        (Says(), [], "the client takes none"),
        (Says(), [(b"accept-encoding", b"gzip;q=0, identity")], "the client refuses it"),
        (Says(kind=b"image/png"), ALL, "its type is not listed"),
        (Says(headers=[(b"content-encoding", b"gzip")]), ALL, "it is encoded already"),
        (Says(headers=[(b"cache-control", b"public, no-transform")]), ALL, "no-transform"),
        (Says(headers=[(b"content-range", b"bytes 0-1/2")], status=206), ALL, "a part"),
        (Says(headers=[(b"set-cookie", b"session=secret")]), ALL, "it sets a cookie"),
        (Says(body=b"small"), ALL, "too small"),
        (Says(body=b"\x00\xff" * 0 + bytes(range(256)) * 4, kind=b"text/plain"), ALL, "it would be longer"),
    ],
)
def test_left_alone(handler, headers, why):
    import random

    if why == "it would be longer":
        handler.body = random.Random(1).randbytes(2000)
    peer = answered(handler, headers)
    assert peer.answer == handler.body, why
    assert peer.codec.headers.get(b"content-encoding") == dict(handler.headers).get(b"content-encoding")


@pytest.mark.parametrize(
    "scheme, target, headers, compressed",
    [
        ("https", b"/?q=guess", [(b"cookie", b"s=1")], False),
        ("https", b"/?q=guess", [(b"authorization", b"Bearer x")], False),
        ("https", b"/?q=guess", [], True),
        ("https", b"/", [(b"cookie", b"s=1")], True),
        ("http", b"/?q=guess", [(b"cookie", b"s=1")], True),
    ],
)
def test_a_secret_beside_something_the_request_chose_is_not_compressed(scheme, target, headers, compressed):
    peer = answered(Says(), [*ALL, *headers], target, scheme=scheme)
    assert (b"content-encoding" in peer.codec.headers) is compressed
    peer = answered(Says(), [*ALL, *headers], target, scheme=scheme, credentials=True)
    assert b"content-encoding" in peer.codec.headers


def test_a_strong_validator_becomes_weak():
    assert answered(Says(headers=[(b"etag", b'"v1"')])).codec.headers[b"etag"] == b'W/"v1"'
    assert answered(Says(headers=[(b"etag", b'W/"v1"')])).codec.headers[b"etag"] == b'W/"v1"'


def test_vary_is_said_even_when_this_client_takes_none():
    assert answered(Says(), []).codec.headers[b"vary"] == b"accept-encoding"
    assert answered(Says(headers=[(b"vary", b"*")]), []).codec.headers[b"vary"] == b"*"


def test_a_stream_to_an_http_1_0_client_is_left_alone():
    assert b"content-encoding" not in answered(Says(pieces=1000), version="1.0").codec.headers


@pytest.mark.parametrize(
    "value, offered, chosen",
    [
        (b"gzip, br", ("br", "gzip"), "br"),
        (b"gzip;q=0.9, br;q=0.8", ("br", "gzip"), "gzip"),
        (b"*", ("zstd", "gzip"), "zstd"),
        (b"*;q=0, gzip", ("zstd", "gzip"), "gzip"),
        (b"gzip; q=nan", ("gzip",), ""),
        (b"gzip;q=7", ("gzip",), ""),
        (b"GZIP", ("gzip",), "gzip"),
        (b"", ("gzip",), ""),
    ],
)
def test_accept_encoding(value, offered, chosen):
    assert coding.accepted(value, offered) == chosen


# ---- bodies that come compressed


class Reads(Handler):
    """Takes the body: at once, or when it is told to."""

    def __init__(self, greedy=True):
        self.greedy, self.got, self.ended, self.exchange = greedy, [], False, None

    def open(self, exchange):
        self.exchange = exchange
        exchange.answer = Listener(self)


class Listener(Answer):
    def __init__(self, reads):
        self.reads = reads

    def data(self, chunk, end):
        self.reads.got.append(chunk)
        self.reads.ended = end
        return self.reads.greedy

    def end(self, trailers):
        self.reads.ended = True


def packed(name, data):
    if name == "deflate":
        return zlib.compress(data)
    return coding.encoder("gzip" if name == "x-gzip" else name).feed(data, True)


def sending(body, name, split="whole", greedy=True, length=-1, clock=None, **options):
    handler = Reads(greedy)
    peer = Peer(Router(Table([Route(handler, filters=(Decompress(**options),))])), clock=clock)
    peer.post(headers=[(b"content-encoding", name.encode()), (b"content-length", b"%d" % len(body))], length=length)
    for piece in kit.pieces(body, split):
        if peer.status is None:
            peer.body(piece)
    if peer.status is None:
        peer.body(b"", True)
    return peer, handler


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", [*NAMES, "deflate", "x-gzip"])
def test_a_body_reaches_the_handler_decoded(name, split):
    body = packed(name, TEXT)
    peer, handler = sending(body, name, split, clock=kit.Clock())
    assert b"".join(handler.got) == TEXT and handler.ended
    assert peer.codec.credited == len(body)
    assert handler.exchange.request.headers == [] and handler.exchange.request.length == -1


@pytest.mark.parametrize("name", NAMES)
def test_no_more_than_a_window_is_decoded_ahead_of_the_handler(name):
    big = TEXT * 100
    body = packed(name, big)
    peer, handler = sending(body, name, greedy=False, ratio=0)
    assert not handler.ended and peer.codec.credited == 0
    rounds = whole = 0
    while not handler.ended:
        held = sum(map(len, handler.got))
        assert held <= 2 * WINDOW + 32768
        whole += held
        handler.got.clear()
        handler.exchange.credit(held)
        rounds += 1
        assert rounds < 1000
    assert whole + sum(map(len, handler.got)) == len(big) and rounds > 5
    assert peer.codec.credited == len(body)


@pytest.mark.parametrize("name", [*NAMES, "deflate"])
@pytest.mark.parametrize("size", [1, 700, 20_000])
def test_what_comes_while_the_handler_takes_nothing_is_decoded_later(name, size):
    big = b"".join(b"%d squared is %d\n" % (i, i * i) for i in range(20_000))
    body = packed(name, big)
    handler = Reads(greedy=False)
    peer = Peer(Router(Table([Route(handler, filters=(Decompress(ratio=0),))])))
    peer.post(headers=[(b"content-encoding", name.encode())], length=-1)
    for at in range(0, len(body), size):
        peer.body(body[at : at + size], at + size >= len(body))
    assert sum(map(len, handler.got)) <= 2 * WINDOW + 32768
    rounds = 0
    while not handler.ended and rounds < 1000:
        handler.exchange.room()
        rounds += 1
    assert peer.status is None and b"".join(handler.got) == big and peer.codec.credited == len(body)


def test_room_credits_all_that_was_given():
    body = packed("gzip", TEXT * 100)
    peer, handler = sending(body, "gzip", greedy=False, ratio=0)
    while not handler.ended:
        handler.exchange.room()
    assert b"".join(handler.got) == TEXT * 100 and peer.codec.credited == len(body)


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_is_413_by_its_ratio_and_by_its_size(name):
    bomb = packed(name, bytes(50 << 20))
    peer, handler = sending(bomb, name)
    assert peer.status == 413 and sum(map(len, handler.got)) <= max(1 << 20, 100 * len(bomb)) + 2 * WINDOW
    peer, handler = sending(bomb, name, ratio=0, most=2 << 20)
    assert peer.status == 413 and sum(map(len, handler.got)) <= (2 << 20) + 2 * WINDOW


@pytest.mark.parametrize("name", [*NAMES, "deflate"])
@pytest.mark.parametrize("harm", ["cut", "junk behind", "junk"])
def test_a_body_that_does_not_decode_is_400(name, harm):
    body = packed(name, TEXT)
    body = {"cut": body[:-5], "junk behind": body + b"junk that follows", "junk": b"junk that leads " + body}[harm]
    peer, _ = sending(body, name)
    assert peer.status == 400, (name, harm)


def test_two_gzip_members_are_one_body():
    peer, handler = sending(packed("gzip", b"one") + packed("gzip", b"two"), "gzip")
    assert b"".join(handler.got) == b"onetwo" and peer.status is None


@pytest.mark.parametrize("split", kit.SPLITS)
def test_members_may_be_empty_and_end_where_a_piece_ends(split):
    empty, one = packed("gzip", b""), packed("gzip", b"one")
    peer, handler = sending(empty + one + empty + empty + one + empty, "gzip", split)
    assert b"".join(handler.got) == b"oneone" and handler.ended and peer.status is None
    peer, handler = sending(packed("gzip", TEXT) * 50, "gzip", split)
    assert b"".join(handler.got) == TEXT * 50 and peer.status is None


@pytest.mark.parametrize("member", [b"", b"x"])
def test_a_body_of_nothing_but_members_is_refused(member):
    peer, handler = sending(packed("gzip", member) * 3000, "gzip")
    assert peer.status == 400 and len(handler.got) < 400


@pytest.mark.parametrize("name", ["compress", "gzip, gzip", "exi", "x-br", "x-deflate", "x-zstd"])
def test_an_unknown_coding_is_415_and_says_what_is_taken(name):
    peer, handler = sending(b"x", name)
    assert peer.status == 415 and handler.exchange is None
    assert b"gzip" in peer.codec.headers[b"accept-encoding"]


def test_identity_is_no_coding_and_expect_is_answered_when_the_handler_reads():
    peer, handler = sending(b"plain", "identity")
    assert b"".join(handler.got) == b"plain"
    handler = Reads()
    peer = Peer(Router(Table([Route(handler, filters=(Decompress(),))])))
    peer.post(headers=[(b"content-encoding", b"gzip")], expect=True)
    handler.exchange.credit(0)
    assert ("consumed", 0) in peer.codec.said


def test_decoding_is_a_step_of_the_journey():
    class Ticking(kit.Clock):
        def now(self):
            return self.pass_(0.001)

    _, handler = sending(packed("gzip", TEXT), "gzip", clock=Ticking())
    assert handler.exchange.journey.spent_decode > 0
