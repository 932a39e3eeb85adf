"""serve.route and serve.respond: the root handler, fixed answers and redirects."""

import pytest

from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve.forwarded import Trusted
from fairlead.serve.respond import Redirect, Respond
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from recorder import Peer


class Keep(Handler):
    """Keeps the exchange and answers 200."""

    def __init__(self):
        self.seen = []

    def open(self, exchange):
        self.seen.append(exchange)
        exchange.whole(Response(200, [(b"content-length", b"2")], 2), b"ok")


def routed(*routes, forwarded=None, name=""):
    peer = Peer(Router(Table(routes)), name=name)
    peer.service.forwarded = forwarded
    return peer


def test_the_first_matching_route_answers_and_gives_its_parameters():
    keep = Keep()
    peer = routed(Route(Respond(200, body=b"one"), path="/one"), Route(keep, path="/users/{id}"), Route(Respond(404)))
    peer.get(b"/one")
    assert peer.answer == b"one"
    peer.take()
    peer.get(b"/users/7?x=1")
    [exchange] = keep.seen
    assert exchange.params == {"id": "7"}
    assert exchange.route.path == "/users/{id}"
    request = exchange.request
    assert (request.path, request.raw_path, request.query) == ("/users/7", b"/users/7", b"x=1")


def test_a_single_catch_all_route_takes_every_path_normalised():
    keep = Keep()
    peer = routed(Route(keep))
    peer.get(b"/a/%2e%2e/b%41?q")
    assert keep.seen[0].request.path == "/bA"
    assert keep.seen[0].request.query == b"q"


def test_no_route_is_404_and_a_wrong_method_405_with_allow():
    peer = routed(Route(Respond(200), path="/one", methods=("GET", "POST")))
    peer.get(b"/two")
    assert peer.status == 404
    peer.take()
    peer.ask("DELETE", b"/one")
    assert peer.status == 405
    assert peer.codec.headers[b"allow"] == b"GET, HEAD, POST"
    assert peer.watcher.broken == []


def test_a_path_that_cannot_be_normalised_is_400():
    peer = routed(Route(Respond(200)))
    peer.get(b"/%zz")
    assert peer.status == 400


def test_routes_of_other_listeners_do_not_answer():
    routes = [Route(Respond(200, body=b"a"), listeners=("admin",)), Route(Respond(200, body=b"w"), listeners=("web",))]
    peer = routed(*routes, name="web")
    peer.get(b"/")
    assert peer.answer == b"w"


def test_options_star_asks_about_the_server_and_connect_is_not_for_us():
    peer = routed(Route(Respond(200)))
    peer.ask("OPTIONS", b"*")
    assert peer.status == 204 and b"GET" in peer.codec.headers[b"allow"]
    peer.take()
    peer.ask("GET", b"*")
    assert peer.status == 400
    peer.take()
    peer.ask("CONNECT", b"shop.example:443")
    assert peer.status == 501


def test_request_ids_differ_and_count_up():
    keep = Keep()
    peer = routed(Route(keep))
    for _ in range(300):
        peer.get(b"/")
    tags = [exchange.tag for exchange in keep.seen]
    assert len(set(tags)) == 300
    assert {len(tag) for tag in tags} == {18}
    assert [int(tag[10:], 16) for tag in tags] == list(range(1, 301))


def test_a_request_id_is_taken_from_trusted_peers_only_and_only_when_it_is_harmless():
    for forwarded, value, taken in (
        (Trusted(("192.0.2.0/24",)), b"abc-1", True),
        (Trusted(("192.0.2.0/24",)), b"a b\"c", False),
        (Trusted(("10.0.0.0/8",)), b"abc-1", False),
        (None, b"abc-1", False),
    ):  # fmt: skip
        keep = Keep()
        peer = routed(Route(keep), forwarded=forwarded)
        peer.get(b"/", [(b"x-request-id", value)])
        assert (keep.seen[0].tag == value) is taken


def test_a_trusted_peer_tells_client_scheme_and_host_and_nobody_else():
    headers = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https")]
    headers.append((b"x-forwarded-host", b"real.example"))
    for network, believed in (("192.0.2.0/24", True), ("10.0.0.0/8", False)):
        keep = Keep()
        peer = routed(Route(keep, host=("real.example",)), Route(keep), forwarded=Trusted((network,)))
        peer.get(b"/", headers)
        [exchange] = keep.seen
        assert (exchange.client == ("203.0.113.9", 0)) is believed
        assert (exchange.request.scheme == "https") is believed
        assert (exchange.route.host == ("real.example",)) is believed


class Step:
    def __init__(self, name, log, answer=None):
        self.name = name
        self.log = log
        self.answer = answer

    def before(self, exchange):
        self.log.append("before " + self.name)
        return self.answer

    def after(self, exchange, response):
        self.log.append("after " + self.name)
        response.headers.append((b"x-step", self.name.encode()))


def test_filters_see_the_request_in_order_and_the_answer_in_reverse():
    log = []
    peer = routed(Route(Keep(), filters=(Step("a", log), Step("b", log))))
    peer.get(b"/")
    assert log == ["before a", "before b", "after b", "after a"]
    assert [value for name, value in peer.codec.response.headers if name == b"x-step"] == [b"b", b"a"]


def test_a_filter_that_answers_ends_it_and_later_filters_do_not_run():
    log = []
    keep = Keep()
    stop = Step("b", log, (Response(401, [(b"content-length", b"2")], 2), b"no"))
    peer = routed(Route(keep, filters=(Step("a", log), stop, Step("c", log))))
    peer.get(b"/")
    assert log == ["before a", "before b", "after b", "after a"]
    assert (peer.status, peer.answer, keep.seen) == (401, b"no", [])


def test_filters_see_error_answers_and_one_that_raises_is_a_500():
    class Raise(Handler):
        def open(self, exchange):
            raise ValueError("x")

    class Bad(Step):
        def after(self, exchange, response):
            raise ValueError("bad filter")

    log = []
    peer = routed(Route(Raise(), filters=(Step("a", log),)))
    peer.get(b"/")
    assert peer.status == 500 and log == ["before a", "after a"]
    peer = routed(Route(Keep(), filters=(Bad("a", log),)))
    peer.get(b"/")
    assert peer.status == 500
    assert [str(error) for error in peer.watcher.broken] == ["bad filter"]


@pytest.mark.parametrize("status, body, length", [(200, b"hi", b"2"), (200, b"", b"0"), (204, b"x", None)])
def test_a_fixed_answer(status, body, length):
    peer = routed(Route(Respond(status, [(b"content-type", b"text/plain")], body)))
    for _ in range(2):
        peer.get(b"/")
        assert peer.status == status
        assert peer.codec.headers.get(b"content-length") == length
        assert peer.answer == (b"" if status == 204 else body)
        peer.take()
    peer.ask("HEAD", b"/")
    assert peer.take() == [("head", status, True)]


@pytest.mark.parametrize(
    "to, target, location",
    [
        ("https://{host}{path}", b"/a%20b?x=1", b"https://shop.example/a%20b?x=1"),
        ("https://{host}{path}?{query}", b"/a?x=1", b"https://shop.example/a?x=1"),
        ("/new?from=old", b"/a?x=1", b"/new?from=old&x=1"),
        ("{scheme}://new.example/", b"/", b"http://new.example/"),
        ("/items/{id}", b"/old/a%2Fb%0d", b"/items/a%2Fb%0D"),
    ],
)
def test_a_redirect_fills_in_what_it_names(to, target, location):
    peer = routed(Route(Redirect(to), path="/old/{id}"), Route(Redirect(to)))
    peer.get(target)
    assert peer.status == 308
    assert peer.codec.headers[b"location"] == location
