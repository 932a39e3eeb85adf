"""serve.filters: who may come, how much, other fields and paths, and answers that wait."""

import asyncio
import json
import mmap
import time
from base64 import b64encode
from ipaddress import ip_network

import pytest

import kit
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve.filters.access import Basic, Networks
from fairlead.serve.filters.cors import Cors
from fairlead.serve.filters.fields import Headers, Security
from fairlead.serve.filters.jwt import Jwt, KeySet
from fairlead.serve.filters.limits import BodyLimit, Buckets, Concurrency, RateLimit
from fairlead.serve.filters.rewrite import Maintenance, Rewrite
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from recorder import Peer

try:
    from fairlead.wire import _fast as fast
except ImportError:
    from fairlead.wire import _plain as fast

SECOND = 1_000_000_000


class Keep(Handler):
    """Keeps the exchange; answers 200 unless told to wait."""

    def __init__(self, answer=True, headers=()):
        self.seen = []
        self.answering = answer
        self.headers = headers

    def open(self, exchange):
        self.seen.append(exchange)
        if self.answering:
            exchange.whole(Response(200, [(b"content-length", b"2"), *self.headers], 2), b"ok")


def behind(*filters, handler=None, client=("192.0.2.7", 4711), clock=None):
    handler = handler or Keep()
    peer = Peer(Router(Table([Route(handler, filters=filters)])), peer=client, clock=clock)
    peer.keep = handler
    return peer


# ---- who may come


@pytest.mark.parametrize(
    "allow, deny, client, status",
    [
        ((), (), "192.0.2.7", 200),
        (("192.0.2.0/24",), (), "192.0.2.7", 200),
        (("192.0.2.0/24",), (), "::ffff:192.0.2.7", 200),
        (("198.51.100.0/24",), (), "192.0.2.7", 403),
        ((), ("192.0.2.0/24",), "192.0.2.7", 403),
        (("192.0.2.0/24",), ("192.0.2.7/32",), "192.0.2.7", 403),
        (("2001:db8::/32",), (), "2001:db8::1", 200),
        (("192.0.2.0/24",), (), "not an address", 403),
    ],
)
def test_networks(allow, deny, client, status):
    peer = behind(Networks([ip_network(n) for n in allow], [ip_network(n) for n in deny]), client=(client, 1))
    peer.get()
    assert peer.status == status


def test_a_client_on_a_unix_socket_is_allowed_by_the_word_unix():
    peer = behind(Networks(["unix"]), client="/run/x")
    peer.get()
    assert peer.status == 200
    peer = behind(Networks([ip_network("192.0.2.0/24")]), client="/run/x")
    peer.get()
    assert peer.status == 403


def basic(text):
    return [(b"authorization", b"Basic " + b64encode(text))]


@pytest.mark.parametrize(
    "headers, status",
    [
        ([], 401),
        (basic("ann:pass:word\N{SNOWMAN}".encode()), 200),
        (basic(b"ann:wrong"), 401),
        (basic(b"bob:pass"), 401),
        (basic(b"ann"), 401),
        ([(b"authorization", b"Basic !!!")], 401),
        ([(b"authorization", b"Bearer abc")], 401),
    ],
)
def test_basic(headers, status):
    peer = behind(Basic({"ann": "pass:word\N{SNOWMAN}"}, 'the "shop"'))
    peer.get(headers=headers)
    assert peer.status == status
    if status == 401:
        assert peer.codec.headers[b"www-authenticate"] == b'Basic realm="the \\"shop\\"", charset="UTF-8"'
        assert not peer.keep.seen
    else:
        assert peer.keep.seen[0].principal == "ann"


try:
    import jwt
except ImportError:  # the extra is not installed: only the tests of tokens are skipped
    jwt = None
with_jwt = pytest.mark.skipif(jwt is None, reason="PyJWT is not installed")
SECRET = "a secret that is long enough for HS256"


def bearer(token):
    return [(b"authorization", b"Bearer " + token.encode())]


def signed(**claims):
    return jwt.encode(claims, SECRET, "HS256")


# The times are those of the test, not of its collection, which may be minutes before.
TOKENS = {
    "expiry as text": (lambda now: signed(sub="ann", exp=str(int(now) + 100)), 200),
    "good": (lambda now: signed(sub="ann", exp=now + 100), 200),
    "expired": (lambda now: signed(sub="ann", exp=now - 100), 401),
    "not yet": (lambda now: signed(sub="ann", nbf=now + 100), 401),
    "another key": (lambda now: jwt.encode({"sub": "ann"}, "another secret that is long enough", "HS256"), 401),
    "unsigned": (lambda now: jwt.encode({"sub": "ann"}, None, "none"), 401),
    "no token": (lambda now: "not.a.token", 401),
    "empty": (lambda now: "", 401),
}


@with_jwt
@pytest.mark.parametrize("make, status", TOKENS.values(), ids=TOKENS)
def test_jwt_with_a_secret(make, status):
    token = make(time.time())
    peer = behind(Jwt(secret=SECRET, algorithms=("HS256",)))
    for _ in range(2):  # the second time from memory
        peer.get(headers=bearer(token))
        assert peer.status == status
        peer.take()
    if status == 200:
        assert [one.principal["sub"] for one in peer.keep.seen] == ["ann", "ann"]


@with_jwt
def test_jwt_checks_issuer_and_audience_and_may_be_optional():
    step = Jwt(secret=SECRET, algorithms=("HS256",), issuer="us", audience="shop", optional=True)
    for token, status in [
        (signed(iss="us", aud="shop"), 200),
        (signed(iss="them", aud="shop"), 401),
        (signed(iss="us", aud="bank"), 401),
        (signed(iss="us"), 401),
    ]:
        peer = behind(step)
        peer.get(headers=bearer(token))
        assert peer.status == status
    peer = behind(step)
    peer.get()
    assert peer.status == 200 and peer.keep.seen[0].principal is None


def key_file(tmp_path, name="k1"):
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt.algorithms import ECAlgorithm

    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public | {"kid": name, "alg": "ES256", "use": "sig"}]}))
    return key, (tmp_path / "keys.json").as_uri()


async def turns(count=10):
    """Some turns of the loop: tasks and callbacks that are due run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def settled(peer):
    """Let what waits for the key set go on, however long its thread takes."""
    while peer.status is None:
        await asyncio.sleep(0.001)
    return peer.status


@with_jwt
def test_jwt_with_a_key_set_is_fetched_once_and_again_for_a_new_key(tmp_path):
    key, url = key_file(tmp_path)
    clock = kit.Clock()
    keys = KeySet(url, clock=lambda: clock.time / SECOND)
    reads = []
    keys.read = lambda read=keys.read: reads.append(1) or read()

    async def main():
        step = Jwt(keys=keys, algorithms=("ES256",))
        token = jwt.encode({"sub": "ann"}, key, "ES256", headers={"kid": "k1"})
        first, second = behind(step), behind(step)
        first.get(headers=bearer(token))
        second.get(headers=bearer(token))
        assert [await settled(first), await settled(second)] == [200, 200]
        assert len(reads) == 1
        newer, _ = key_file(tmp_path, "k2")
        other = jwt.encode({"sub": "bob"}, newer, "ES256", headers={"kid": "k2"})
        early, late = behind(step), behind(step)
        early.get(headers=bearer(other))  # too soon to ask again: the kid may be anybody's invention
        assert early.status == 401 and len(reads) == 1
        clock.pass_(11)
        late.get(headers=bearer(other))
        assert await settled(late) == 200 and len(reads) == 2

    asyncio.run(main())


@with_jwt
def test_a_key_set_that_cannot_be_read_is_503_and_keeps_the_body(tmp_path):
    async def main():
        step = Jwt(keys=KeySet((tmp_path / "none.json").as_uri()), algorithms=("ES256",))
        peer = behind(step)
        token = jwt.encode({"sub": "ann"}, SECRET, "HS256", headers={"kid": "k1"})
        peer.post(headers=bearer(token))
        peer.body(b"held")
        assert await settled(peer) == 503
        again = behind(step)
        step.keys.read = lambda: pytest.fail("it was asked for again within seconds")
        again.get(headers=bearer(token))
        assert again.status == 503

    asyncio.run(main())


@with_jwt
def test_words_of_a_token_stay_inside_their_quotes():
    step = Jwt(secret=SECRET, algorithms=("HS256",))
    for words in ["a\r\nset-cookie: x=y", 'a" b="c', "back\\slash", "\x7f\0"]:
        token = jwt.encode({"sub": "ann"}, SECRET, "HS256", headers={"crit": [words], words: 1})
        peer = behind(step)
        peer.get(headers=bearer(token))
        assert peer.status == 401
        said = peer.codec.headers[b"www-authenticate"]
        assert said.count(b'"') == 4 and b"\\" not in said and all(32 <= c < 127 for c in said), words


class Later:
    """A filter that waits for a future."""

    def before(self, exchange):
        self.future = asyncio.get_running_loop().create_future()
        return self.future


@pytest.mark.parametrize("trailers", [False, True])
def test_a_request_that_waits_for_a_filter_keeps_its_body_unread(trailers):
    class Body(Handler):
        def open(self, exchange):
            self.exchange, self.heard = exchange, exchange.heard_end
            exchange.answer = outer

    from fairlead.core.exchange import Answer

    class Listen(Answer):
        got: list = []

        def data(self, chunk, end):
            self.got.append((chunk, end))
            return True

        def end(self, trailers):
            self.got.append(("end", trailers))

    outer = Listen()

    async def main():
        step, body = Later(), Body()
        peer = behind(step, handler=body)
        peer.post()
        peer.body(b"one")
        peer.body(b"two", not trailers)
        if trailers:
            peer.conn.end(peer.stream, [(b"x", b"y")])
        assert peer.codec.credited == 0
        step.future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not body.heard and body.exchange.heard_end
        assert peer.codec.credited == 6
        last = [("end", [(b"x", b"y")])] if trailers else []
        assert outer.got == [(b"one", False), (b"two", not trailers), *last]
        outer.got.clear()

    asyncio.run(main())


def test_a_client_that_leaves_while_a_filter_waits_cancels_it():
    async def main():
        step = Later()
        peer = behind(step)
        peer.get()
        await turns()
        peer.leave()
        await turns()
        assert step.future.cancelled() and not peer.keep.seen

    asyncio.run(main())


# ---- how much


def test_a_rate_lets_a_burst_through_and_then_one_by_one():
    clock = kit.Clock()
    step = RateLimit(10, 1.0, "client", burst=3)
    statuses = []
    for pause in (0, 0, 0, 0, 0.05, 0.05, 0, 10, 0, 0, 0):
        clock.pass_(pause)
        peer = behind(step, clock=clock)
        peer.get()
        statuses.append(peer.status)
    assert statuses == [200, 200, 200, 429, 429, 200, 429, 200, 200, 200, 429]
    assert peer.codec.headers[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    "scope, one, other, shared",
    [
        ("client", "192.0.2.1", "192.0.2.1", True),
        ("client", "2001:db8::1:2:3:4", "2001:db8::9:8:7:6", True),
        ("client", "2001:db8::1:2:3:4", "2001:db8:0:1::1", False),
        ("client", "::ffff:192.0.2.1", "192.0.2.1", True),
        ("client", "::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("client", "192.0.2.1", "192.0.2.2", False),
        ("client", "2001:db8:0:1::1", "2001:db8:0:1::2", True),
        ("client", "2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("", "192.0.2.1", "192.0.2.2", True),
    ],
)
def test_whose_requests_are_counted_together(scope, one, other, shared):
    step = RateLimit(1, 60.0, scope)
    first, second = behind(step, client=(one, 1)), behind(step, client=(other, 1))
    first.get()
    second.get()
    assert (first.status, second.status) == (200, 429 if shared else 200)


def test_a_rate_per_principal_counts_users_behind_one_address_apart():
    step = RateLimit(1, 60.0, "principal")
    check = Basic({"ann": "a", "bob": "b"})
    statuses = []
    for user in (b"ann:a", b"bob:b", b"ann:a"):
        peer = behind(check, step)
        peer.get(headers=basic(user))
        statuses.append(peer.status)
    assert statuses == [200, 200, 429]


def test_remembered_clients_are_bounded():
    buckets = Buckets(most=160)
    for n in range(1000):
        assert buckets.take(n, 1, 100, 0) == 0
    assert len(buckets.due) <= 160
    assert buckets.take(999, 1, 100, 0) > 0
    buckets.take("later", 1000, 100, 0)
    buckets.forget(1000)
    assert list(buckets.due) == ["later"]


def shared(size=8):
    from fairlead.serve.filters.limits import SharedBuckets

    return SharedBuckets(fast.Words(mmap.mmap(-1, 16 * size)), b"salt")


@pytest.mark.parametrize("make", [Buckets, shared])
def test_shared_or_not_a_rate_is_the_same(make):
    buckets = make()
    taken = [buckets.take("a", now, 100, 200) for now in (0, 0, 0, 0, 99, 100, 100, 10_000)]
    assert [wait == 0 for wait in taken] == [True, True, True, False, False, True, False, True]
    assert buckets.take("b", 0, 100, 0) == 0 and buckets.take("b", 0, 100, 0) == 100


def test_workers_that_share_words_share_the_rate():
    from fairlead.serve.filters.limits import SharedBuckets

    words = fast.Words(mmap.mmap(-1, 16 * 1024))
    one, two = SharedBuckets(words, b"salt"), SharedBuckets(words, b"salt")
    assert [buckets.take("client", 5, 100, 100) == 0 for buckets in (one, two, one, two)] == [True, True, False, False]


def test_a_full_table_forgets_and_never_lends_one_clients_debt_to_another():
    buckets = shared(4)
    for n in range(100):
        assert buckets.take(f"client {n}", 0, 1_000, 0) == 0
    assert buckets.take("client 99", 0, 1_000, 0) > 0


def test_processes_that_count_together_let_exactly_the_rate_through(tmp_path):
    import os

    from fairlead.serve.filters.limits import SharedBuckets

    memory = mmap.mmap(-1, 16 * 64 + 8 * 4)
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)  # the plain twin swaps under it
    words, results = fast.Words(memoryview(memory)[: 16 * 64], lock), memoryview(memory)[16 * 64 :].cast("q")
    children = []
    for place in range(4):
        child = os.fork()
        if not child:
            buckets = SharedBuckets(words, b"salt")
            results[place] = sum(buckets.take("one", 1, 10, 10 * 999) == 0 for _ in range(2000))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert sum(results) in (1000, 1001)  # 1001: the very first two came at the same moment


def test_a_body_over_the_limit_is_413_by_its_length_and_by_its_bytes():
    peer = behind(BodyLimit(10), handler=Keep(answer=False))
    peer.post(length=11)
    assert peer.status == 413 and not peer.keep.seen
    peer = behind(BodyLimit(10), handler=Keep(answer=False))
    peer.post()
    peer.body(b"0123456789")
    assert peer.status is None
    peer.body(b"x")
    assert peer.status == 413


def test_concurrency_queues_in_order_and_refuses_over_the_queue():
    async def main():
        handler = Keep(answer=False)
        step = Concurrency(1, queue=2, patience=10 * SECOND)
        peers = [behind(step, handler=handler) for _ in range(4)]
        for peer in peers:
            peer.get()
        assert [peer.status for peer in peers] == [None, None, None, 503]
        assert len(handler.seen) == 1
        await turns()
        for served in (1, 2, 3):
            assert len(handler.seen) == served
            handler.seen[-1].whole(Response(204, [], 0), b"")
            await turns()
        assert [peer.status for peer in peers] == [204, 204, 204, 503]
        assert step.busy == 0 and not step.waiting

    asyncio.run(main())


def test_concurrency_gives_up_waiting_and_forgets_who_left():
    async def main():
        handler = Keep(answer=False)
        step = Concurrency(1, queue=9, patience=1_000_000)
        first, second = behind(step, handler=handler), behind(step, handler=handler)
        first.get()
        second.get()
        assert await settled(second) == 503
        third = behind(step, handler=handler)
        third.get()
        await turns()
        third.leave()
        await turns()
        assert not step.waiting
        first.leave()
        assert step.busy == 0

    asyncio.run(main())


# ---- fields, origins, paths


def test_headers_are_set_added_and_removed_on_both_sides():
    step = Headers(
        request=([(b"x-a", b"new")], [(b"x-b", b"more")], [b"cookie"]),
        response=([(b"server", b"ours")], (), [b"x-powered-by"]),
    )
    peer = behind(step, handler=Keep(headers=[(b"x-powered-by", b"magic")]))
    peer.get(headers=[(b"x-a", b"old"), (b"x-b", b"one"), (b"cookie", b"c")])
    assert peer.keep.seen[0].request.headers == [(b"x-b", b"one"), (b"x-a", b"new"), (b"x-b", b"more")]
    assert peer.codec.headers[b"server"] == b"ours" and b"x-powered-by" not in peer.codec.headers


def test_security_fields_leave_what_the_answer_says_and_hsts_is_for_https_only():
    step = Security([(b"x-frame-options", b"SAMEORIGIN"), (b"referrer-policy", b"no-referrer")], b"max-age=9")
    peer = behind(step, handler=Keep(headers=[(b"x-frame-options", b"DENY")]))
    peer.get()
    assert peer.codec.headers[b"x-frame-options"] == b"DENY"
    assert peer.codec.headers[b"referrer-policy"] == b"no-referrer"
    assert b"strict-transport-security" not in peer.codec.headers
    peer = behind(step)
    peer.service.scheme = peer.conn.scheme = "https"
    request = peer.get
    peer.conn.scheme = "https"
    original = peer.keep.open

    def secure(exchange):
        exchange.request.scheme = "https"
        original(exchange)

    peer.keep.open = secure
    request()
    assert peer.codec.headers[b"strict-transport-security"] == b"max-age=9"


SHOP = b"https://shop.example"


@pytest.mark.parametrize(
    "origins, origin, allowed",
    [
        (["https://shop.example"], SHOP, True),
        (["https://shop.example"], b"https://SHOP.example", True),
        (["https://shop.example"], b"https://shop.example.evil", False),
        (["https://*.shop.example"], b"https://a.shop.example", True),
        (["https://*.shop.example"], b"https://.shop.example", False),
        (["https://*.shop.example"], b"http://a.shop.example", False),
        (["*"], b"null", True),
    ],
)
def test_cors_origins(origins, origin, allowed):
    peer = behind(Cors(origins))
    peer.get(headers=[(b"origin", origin)])
    assert (b"access-control-allow-origin" in peer.codec.headers) is allowed
    peer = behind(Cors(origins))
    peer.ask("OPTIONS", b"/", [(b"origin", origin), (b"access-control-request-method", b"PUT")])
    assert peer.status == (204 if allowed else 403) and not peer.keep.seen


def test_a_preflight_names_what_is_granted_and_credentials_name_the_origin():
    step = Cors(["*"], ["GET", "PUT"], ["X-Token"], credentials=True, max_age=60, expose=["X-Total"])
    peer = behind(step)
    asked = [
        (b"origin", SHOP),
        (b"access-control-request-method", b"PUT"),
        (b"access-control-request-headers", b"x-token, x-other, content-type"),
    ]
    peer.ask("OPTIONS", b"/", asked)
    assert peer.codec.headers[b"access-control-allow-methods"] == b"GET, PUT"
    assert peer.codec.headers[b"access-control-allow-headers"] == b"x-token, content-type"
    assert peer.codec.headers[b"access-control-allow-origin"] == SHOP
    peer = behind(step)
    peer.get(headers=[(b"origin", SHOP)])
    assert peer.codec.headers[b"access-control-allow-credentials"] == b"true"
    assert peer.codec.headers[b"access-control-expose-headers"] == b"X-Total"
    assert peer.codec.headers[b"vary"] == b"origin"
    peer = behind(step)
    peer.ask("OPTIONS", b"/", [(b"origin", SHOP)])  # no preflight: the handler's
    assert peer.keep.seen


def test_rewrite_changes_path_and_target_and_keeps_the_query():
    peer = behind(Rewrite(r"^/old/(\d+)$", r"/new%20/\1"))
    peer.get(b"/old/7?a=1")
    request = peer.keep.seen[0].request
    assert (request.path, request.raw_path, request.target) == ("/new /7", b"/new%20/7", b"/new%20/7?a=1")
    peer.get(b"/other")
    assert peer.keep.seen[1].request.path == "/other"


def test_a_rewrite_that_makes_no_path_is_our_error():
    peer = behind(Rewrite(r"^/(.*)$", r"\1"))
    peer.get(b"/old")
    assert peer.status == 500


def test_maintenance_answers_503_while_its_flag_is_there_but_not_to_those_allowed(tmp_path):
    flag, clock = tmp_path / "down", kit.Clock()
    step = Maintenance(b"back soon\n", flag=str(flag), retry=30, allow=[ip_network("192.0.2.9/32")])
    statuses = []
    for act in ("", "touch", "", "unlink", ""):
        if act:
            getattr(flag, act)()
        else:
            clock.pass_(2)
        peer = behind(step, clock=clock)
        peer.get()
        statuses.append(peer.status)
    assert statuses == [200, 200, 503, 503, 200]
    flag.touch()
    clock.pass_(2)
    friend = behind(step, clock=clock, client=("192.0.2.9", 1))
    friend.get()
    assert friend.status == 200
    peer = behind(step, clock=clock)
    peer.ask("HEAD", b"/")
    assert peer.status == 503 and peer.answer == b"" and peer.codec.headers[b"retry-after"] == b"30"


# ---- a file in the place of an answer


def sends(tmp_path, *fields, body=b"thrown away", pieces=False, headers=(), method="GET"):
    from fairlead.serve.files import Files
    from fairlead.serve.filters.accel import Accel

    class App(Handler):
        def open(self, exchange):
            self.exchange = exchange
            head = Response(200, [(b"content-length", b"%d" % len(body)), *fields], len(body))
            if pieces:
                exchange.head(head, False)
                exchange.data(body, True)
            else:
                exchange.whole(head, body)

    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a b.txt").write_text("the file")
    (tmp_path / "other").write_text("not for you")
    peer = behind(Accel(Files(str(tmp_path / "private"), None), "/protected"), handler=App())
    peer.ask(method, b"/", headers)
    return peer


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("body", [b"", b"thrown away"])
def test_the_file_an_app_names_is_sent_with_the_apps_own_fields(tmp_path, body, pieces):
    fields = [
        (b"x-accel-redirect", b"/protected/a%20b.txt"),
        (b"content-disposition", b"attachment"),
        (b"etag", b'"x"'),
    ]
    peer = sends(tmp_path, *fields, body=body, pieces=pieces)
    headers = peer.codec.headers
    assert peer.status == 200 and peer.answer == b"the file" and headers[b"content-length"] == b"8"
    assert headers[b"content-disposition"] == b"attachment" and headers[b"content-type"].startswith(b"text/plain")
    assert headers[b"etag"] != b'"x"' and b"x-accel-redirect" not in headers
    assert [word for word in peer.codec.said if word[0] == "head"] == [("head", 200, False)]
    assert len(peer.watcher.finished) == 1 and not peer.watcher.broken


def test_x_sendfile_takes_an_absolute_path_and_ranges_are_the_files(tmp_path):
    path = str(tmp_path / "private" / "a b.txt").encode()
    peer = sends(
        tmp_path, (b"x-sendfile", path), (b"content-type", b"application/x"), headers=[(b"range", b"bytes=4-")]
    )
    assert peer.status == 206 and peer.answer == b"file" and peer.codec.headers[b"content-type"] == b"application/x"


@pytest.mark.parametrize(
    "field",
    [
        (b"x-accel-redirect", b"/protected/../other"),
        (b"x-accel-redirect", b"/protected/%2e%2e/other"),
        (b"x-accel-redirect", b"/elsewhere/a%20b.txt"),
        (b"x-accel-redirect", b"/protected/none"),
        (b"x-accel-redirect", b"/protected/"),
        (b"x-sendfile", b"/etc/passwd"),
    ],
)
def test_an_app_cannot_name_what_is_outside(tmp_path, field):
    peer = sends(tmp_path, field)
    assert peer.status == 500 and b"not for you" not in peer.answer and len(peer.watcher.finished) == 1


def test_an_answer_that_names_no_file_goes_out_as_it_is(tmp_path):
    assert sends(tmp_path).answer == b"thrown away"
