"""A head passed on as a block says the same bytes as the list of its fields, and nobody can tell which it was."""

import asyncio
from random import Random

import pytest

from fairlead.core.carrier import Carrier
from fairlead.core.codec import Sink
from fairlead.core.connection import Connection
from fairlead.core.handler import Handler, Service
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Response
from fairlead.net.poll import Poller
from fairlead.serve.forwarded import Trusted
from fairlead.serve.heads import Heads, Options
from fairlead.serve.upstream import Upstream
from fairlead.wire.h1 import H1

PEER = ("203.0.113.7", 4000)
NAMES = [
    b"accept", b"Accept-Encoding", b"user-agent", b"X-Own", b"cookie", b"Cookie", b"DNT", b"x-1", b"Content-Type", b"Via",
    b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Upgrade", b"Trailer", b"Expect", b"Max-Forwards", b"Date",
    b"Server", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Request-ID",
    b"HTTP2-Settings", b"X-Forwarded-Port", b"a-name-that-nobody-knows-and-that-is-rather-long", b"ETag", b"Vary",
]  # fmt: skip
VALUES = [b"", b"x", b"a, b", b"text/html;q=0.8", b"caf\xc3\xa9", b"\ttabs\tin side", b"y" * 300]
OF = {
    b"connection": [b"keep-alive", b"close", b"Keep-Alive", b"x-own", b"close, X-1", b"keep-alive, te", b"upgrade"],
    b"expect": [b"100-continue"],
    b"via": [b"1.0 elsewhere", b"1.1 a, 1.1 b"],
    b"max-forwards": [b"3"],
    b"x-forwarded-for": [b"198.51.100.4", b"198.51.100.4, 192.0.2.1", b"no address"],
    b"x-forwarded-proto": [b"https", b"http"],
    b"x-forwarded-host": [b"example.org", b"bad host"],
    b"forwarded": [b"for=192.0.2.60;proto=http", b'for="[2001:db8::1]"'],
    b"te": [b"trailers", b"gzip"],
    b"upgrade": [b"websocket", b"h2c"],
}


class Keep(Handler):
    """Keeps the exchange it is given."""

    def open(self, exchange):
        self.exchange = exchange


@pytest.fixture(scope="module")
def upstream():
    loop = asyncio.new_event_loop()
    poller = Poller(loop)
    yield Upstream(poller, "web", [("192.0.2.9", 80), "/run/app.sock"])
    poller.close()
    loop.close()


def heard(head, trusted=()):
    """The exchange of a request head, as a server's connection has it."""
    keep = Keep()
    service = Service(keep, limits=Limits(), common=Common())
    service.forwarded = Trusted(trusted)
    conn = Connection(service, Carrier(), PEER)
    conn.codec = H1(conn, service.limits)
    conn.receive(head, 1)
    keep.exchange.tag = b"tag-1"
    return keep.exchange


def asked(request):
    """What the client codec writes for a request."""
    codec = H1(Sink(), Limits(), client=True)
    codec.head(codec.open_stream(), request, request.length == 0)
    return b"".join(codec.take())


class Hears(Sink):
    """Keeps the head it hears."""

    def head(self, stream, message, end):
        self.message = message


def returned(head, method="GET"):
    """The Response of an upstream's answer head, as a leg's codec tells it."""
    sink = Hears()
    codec = H1(sink, Limits(headers=200), client=True)
    request = heard(b"%b / HTTP/1.1\r\nHost: x\r\n\r\n" % method.encode()).request
    codec.head(codec.open_stream(), request, True)
    codec.feed(head, 1)
    return sink.message


def answered(response, method="GET", version=b"1.1"):
    """What the server codec writes for an answer."""
    codec = H1(Hears(), Limits(), common=Common())
    codec.common.set(b"Thu, 01 Jan 1970 00:00:00 GMT")
    codec.feed(b"%b / HTTP/%b\r\nHost: x\r\n\r\n" % (method.encode(), version), 1)
    codec.head(1, response, response.length == 0)
    return b"".join(codec.take())


def fields(random, count, extra):
    """Field lines with all the spacing that is allowed."""
    made = []
    for _ in range(count):
        name = random.choice(NAMES)
        value = random.choice(OF.get(name.lower(), VALUES))
        before, after = random.choice([b" "] * 6 + [b"", b"  ", b"\t"]), random.choice([b""] * 6 + [b" ", b"\t "])
        made.append(name + b":" + before + value.strip(b" \t") + after + b"\r\n")
    made.insert(random.randrange(len(made) + 1), extra)
    return b"".join(made)


@pytest.mark.parametrize("trusted", [(), ("203.0.113.0/24",)], ids=["stranger", "trusted"])
@pytest.mark.parametrize(
    "options",
    [Options(), Options(host="upstream"), Options(host="other"), Options(request_id=""), Options(request_id="x-own")],
    ids=["usual", "upstream's host", "fixed host", "no id", "id of an unknown name"],
)
def test_requests(upstream, options, trusted):
    random = Random(7)
    blocks = 0
    heads = Heads(upstream, options)
    for _ in range(150):
        head = b"GET /a?b HTTP/1.1\r\n" + fields(random, random.choice([0, 1, 2, 3, 5, 8, 60]), b"Host: example.net\r\n") + b"\r\n"
        for target in upstream.all:
            one = heads.outgoing(heard(head, trusted), target)
            other = heads.outgoing_list(heard(head, trusted), target)
            blocks += one.block is not None
            assert asked(one) == asked(other), head
    assert blocks > 20 or heads.listing


def test_bodies_are_framed_by_both_in_the_same_way(upstream):
    heads = Heads(upstream)
    for method in (b"GET", b"POST", b"DELETE", b"ODD"):
        for framing in (b"", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
            head = method + b" / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n"
            one = heads.outgoing(heard(head), upstream.all[0])
            assert one.block is not None
            assert asked(one) == asked(heads.outgoing_list(heard(head), upstream.all[0])), head


def test_answers(upstream):
    random = Random(8)
    blocks = 0
    heads = Heads(upstream)
    for _ in range(300):
        status = random.choice([b"200 OK", b"200 ", b"200 Fine", b"404 Not Found", b"204 None", b"304 Same", b"599 x"])
        framing = random.choice([b"", b"Content-Length: 12\r\n", b"content-length: 0\r\n", b"Transfer-Encoding: chunked\r\n"])
        if status[:3] == b"204":
            framing = b""
        head = b"HTTP/1.1 " + status + b"\r\n" + fields(random, random.choice([0, 1, 2, 5, 8, 60]), framing) + b"\r\n"
        for method, version in (("GET", b"1.1"), ("GET", b"1.0"), ("HEAD", b"1.1")):
            one, other = returned(head, method), returned(head, method)
            assert other.headers is other.headers  # the look makes the list
            heads.returning(one)
            heads.returning(other)
            blocks += one.block is not None
            assert answered(one, method, version) == answered(other, method, version), head
    assert blocks > 100


def test_a_connection_keeps_what_is_said_about_it_until_something_differs(upstream):
    heads, others = Heads(upstream), Heads(upstream, Options(via="other"))
    exchange = heard(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    first = heads.outgoing(exchange, upstream.all[0])
    assert heads.outgoing(exchange, upstream.all[0]).after is first.after
    assert b"via: 1.1 other\r\n" in others.outgoing(exchange, upstream.all[0]).after
    exchange.request.authority = b"b"
    changed = heads.outgoing(exchange, upstream.all[0])
    assert changed.before == b"host: b\r\n" and b"x-forwarded-host: b\r\n" in changed.after
    exchange.conn.service.forwarded = Trusted(["203.0.113.7/32"])
    assert heads.outgoing(exchange, upstream.all[0]).after is not changed.after


def test_an_id_with_a_line_break_ends_no_head(upstream):
    exchange = heard(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    exchange.tag = b"x\r\nevil: 1"
    request = Heads(upstream).outgoing(exchange, upstream.all[0])
    with pytest.raises(Exception, match="break the head"):
        asked(request)


# ---- a message whose fields are a block looks like any other


def test_a_look_makes_the_list_and_from_then_on_it_is_the_truth():
    request = heard(b"GET / HTTP/1.1\r\nHost: a\r\nX-Own:  1 \r\naccept: */*\r\n\r\n").request
    assert request.block is not None
    assert request.get(b"x-own") == b"1" and request.get(b"accept") == b"*/*" and request.get(b"none") is None
    assert request.block is not None
    assert request.headers == [(b"host", b"a"), (b"x-own", b"1"), (b"accept", b"*/*")]
    assert request.block is None
    request.headers.append((b"more", b"2"))
    assert request.get(b"more") == b"2" and request.headers[-1] == (b"more", b"2")


def test_an_edited_block_and_its_list_are_the_same(upstream):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\nKeep-Alive: 5\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
    one = Heads(upstream).outgoing(heard(head), upstream.all[0])
    other = Heads(upstream).outgoing_list(heard(head), upstream.all[0])
    assert one.get(b"x-own") == b"1" and one.get(b"keep-alive") is None and one.get(b"x-request-id") == b"tag-1"
    assert one.headers == other.headers


def test_a_list_of_ones_own_replaces_the_block():
    request = heard(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").request
    request.headers = [(b"host", b"b")]
    assert request.headers == [(b"host", b"b")] and request.block is None


def test_a_response_of_ones_own_is_a_list():
    response = Response(200, [(b"a", b"b")])
    assert response.headers == [(b"a", b"b")] and response.get(b"a") == b"b"


def test_a_head_with_more_fields_than_a_block_holds_and_one_in_pieces_are_lists():
    many = b"".join([b"X-%d: %d\r\n" % (i, i) for i in range(60)])
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n"
    whole = heard(head).request
    assert whole.block is None and len(whole.headers) == 61 and whole.headers[60] == (b"x-59", b"59")
    keep = Keep()
    conn = Connection(Service(keep), Carrier(), PEER)
    conn.codec = H1(conn, Limits())
    for at in range(40):
        conn.receive(b"GET / HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\n\r\n"[at : at + 1], 1)
    assert keep.exchange.request.headers == [(b"host", b"a"), (b"x-own", b"1")]
