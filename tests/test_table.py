"""The route table: what matches, what is 405, what is normalised; by table."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from fairlead.core.message import Request
from fairlead.serve.table import FEW, BadPath, Entry, Table, normalise_path, parse_path, plain_host


def route(path="", methods=(), host=(), headers=None, listeners=()):
    return SimpleNamespace(path=path, methods=methods, host=host, headers=headers or {}, listeners=listeners)


def found(routes, path="/", method="GET", host="", headers=(), listener="web"):
    """Index of the route that answers, the methods of a 405, or None."""
    match = Table(routes).find(listener, host, path, method, list(headers))
    if match is None:
        return None
    return match.allow if match.allow is not None else match.index


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("", "/anything", True),
        ("/*", "/", True),
        ("/*", "/a/b", True),
        ("/", "/", True),
        ("/", "/a", False),
        ("/api", "/api", True),
        ("/api", "/api/", False),
        ("/api", "/apix", False),
        ("/api/*", "/api", True),
        ("/api/*", "/api/", True),
        ("/api/*", "/api/x/y", True),
        ("/api/*", "/apix", False),
        ("/api/", "/api/", True),
        ("/api/", "/api", False),
        ("/u/{id}", "/u/1", True),
        ("/u/{id}", "/u/", False),
        ("/u/{id}", "/u", False),
        ("/u/{id}", "/u/1/2", False),
        ("/u/{id}", "/u/a%2Fb", True),
        ("/u/{id}/*", "/u/1/2/3", True),
        ("/u/{id}/*", "/u/1", True),
        ("/u/{id}/*", "/u", False),
        ("/{a}/x/{b}", "/1/x/2", True),
        ("/{a}/x/{b}", "/1/y/2", False),
        ("/café/*", "/caf%C3%A9/menu", True),
        ("/a%7eb", "/a~b", True),
        ("/a b", "/a%20b", True),
    ],
)
def test_a_path_matches_as_written(pattern, path, fits):
    assert found([route(pattern)], path) == (0 if fits else None)


def test_the_first_route_in_file_order_answers():
    assert found([route("/a/*"), route("/a/b"), route()], "/a/b") == 0
    assert found([route("/a/b"), route("/a/*"), route()], "/a/b") == 0
    assert found([route("/x"), route("/a/*"), route()], "/a/b") == 1
    assert found([route("/x"), route("/a/*"), route()], "/c") == 2


def test_parameters_are_segments_decoded():
    match = Table([route("/u/{user}/{file}")]).find("web", "", "/u/caf%C3%A9/a%2Fb", "GET", [])
    assert match.params == {"user": "café", "file": "a/b"}


@pytest.mark.parametrize(
    ("routes", "method", "path", "want"),
    [
        ([route("/a", ("GET",))], "POST", "/a", ("GET", "HEAD")),
        ([route("/a", ("GET",))], "HEAD", "/a", 0),
        ([route("/a", ("GET",)), route("/a", ("POST",))], "POST", "/a", 1),
        ([route("/a", ("GET",)), route("/a", ("POST",))], "PUT", "/a", ("GET", "HEAD", "POST")),
        ([route("/a", ("GET",)), route("/*")], "POST", "/a", ("GET", "HEAD")),
        ([route("/a", ("GET",)), route("/*")], "POST", "/b", 1),
        ([route("/a/*", ("GET",)), route("/a/b")], "POST", "/a/b", 1),
        ([route("/a/*", ("GET",)), route("/a/b")], "POST", "/a/c", ("GET", "HEAD")),
        ([route("/{x}", ("GET",)), route("/a", ("PUT",)), route()], "PUT", "/a", 1),
        ([route("/a", ("get",))], "GET", "/a", ("get",)),
    ],
)
def test_a_method_that_does_not_fit_the_chosen_path_is_405_with_allow(routes, method, path, want):
    assert found(routes, path, method) == want


@pytest.mark.parametrize(
    ("hosts", "host", "fits"),
    [
        (("shop.example",), "shop.example", True),
        (("shop.example",), "SHOP.example.:8443", True),
        (("Shop.Example",), "shop.example", True),
        (("shop.example",), "other.example", False),
        (("shop.example",), "", False),
        (("*.example",), "a.example", True),
        (("*.example",), "a.b.example:80", True),
        (("*.example",), "example", False),
        (("*.example",), ".example", False),
        (("*.example",), "badexample", False),
        (("a.example", "b.example"), "b.example", True),
        (("*",), "", True),
        (("[::1]",), "[::1]:8000", True),
        (("[::1]",), "[::1]", True),
    ],
)
def test_hosts_are_compared_without_port_case_and_last_dot(hosts, host, fits):
    assert found([route(host=hosts)], host=host) == (0 if fits else None)


def test_headers_must_have_the_value_or_any():
    routes = [route(headers={"X-Canary": "1"}), route(headers={"x-any": "*"}), route()]
    assert found(routes, headers=[(b"x-canary", b"1")]) == 0
    assert found(routes, headers=[(b"x-canary", b"2")]) == 2
    assert found(routes, headers=[(b"x-any", b"")]) == 1
    assert found(routes, headers=[(b"a", b"b"), (b"x-canary", b"0"), (b"x-canary", b"1")]) == 0


def test_a_route_stays_on_its_listeners():
    routes = [route(listeners=("plain",)), route("/a", listeners=("web", "plain")), route("/b")]
    assert found(routes, "/a", listener="plain") == 0
    assert found(routes, "/a", listener="web") == 1
    assert found(routes, "/b", listener="web") == 2
    assert found(routes, "/a", listener="other") is None
    assert found(routes, "/b", listener="other") == 2


def test_many_routes_answer_as_few_do():
    routes = [route(f"/s{index}/*") for index in range(3 * FEW)]
    routes += [route("/s5/late"), route("/{x}/deep"), route("/s7", ("PUT",)), route("/{y}")]
    for path in ("/s5/late", "/s20", "/s35/x", "/zz/deep", "/zz", "/", "/s7", "/s", "/s5x"):
        few = next((index for index, one in enumerate(routes) if found([one], path) == 0), None)
        assert found(routes, path) == few


def test_a_lone_catch_all_gives_the_same_object_every_time():
    table = Table([route()])
    assert table.find("web", "a", "/", "GET", []) is table.find("x", "b", "/c", "PUT", [])


def test_an_empty_table_finds_nothing():
    assert found([]) is None


@pytest.mark.parametrize(
    ("raw", "normal", "path"),
    [
        (b"/", b"/", "/"),
        (b"/a/b.c/d", b"/a/b.c/d", "/a/b.c/d"),
        (b"/%41%7e%2d", b"/A~-", "/A~-"),
        (b"/a%2fb", b"/a%2Fb", "/a/b"),
        (b"/a%20b%3f", b"/a%20b%3F", "/a b?"),
        (b"/a/./b/../c", b"/a/c", "/a/c"),
        (b"/a/%2e%2E/b", b"/b", "/b"),
        (b"/../../etc", b"/etc", "/etc"),
        (b"/a/..", b"/", "/"),
        (b"/a/b/.", b"/a/b/", "/a/b/"),
        (b"/a/%2e", b"/a/", "/a/"),
        (b"/a/..%2f..%2fb", b"/a/..%2F..%2Fb", "/a/../../b"),
        (b"//a//b", b"//a//b", "//a//b"),
        (b"/a//../b", b"/a/b", "/a/b"),
        (b"/.hidden/...", b"/.hidden/...", "/.hidden/..."),
        (b"/caf\xc3\xa9", b"/caf%C3%A9", "/café"),
        (b"/%ff", b"/%FF", "/\ufffd"),
        (b"/%252e%252e/", b"/%252e%252e/", "/%2e%2e/"),
        (b"*", b"*", "*"),
    ],
)
def test_a_path_has_one_normal_form(raw, normal, path):
    assert normalise_path(raw) == (normal, path)
    assert normalise_path(normal) == (normal, path)


@pytest.mark.parametrize(
    "raw", [b"/%", b"/%4", b"/%zz", b"/a%00b", b"/a b", b"/a\x00", b"/a\x7f", b"/a#b", b"/a?b", b"/a\nb", b"/%%41"]
)
def test_a_bad_path_is_a_400(raw):
    with pytest.raises(BadPath) as caught:
        normalise_path(raw)
    assert caught.value.status == 400
    assert caught.value.rule


def test_normalising_twice_is_normalising_once_and_leaves_no_dot_segment():
    rng = random.Random(3)
    pieces = [
        b"/",
        b".",
        b"..",
        b"%2e",
        b"%2E",
        b"%2f",
        b"%25",
        b"%",
        b"a",
        b"%61",
        b"%c3",
        b"\xc3\xa9",
        b"%00",
        b"?",
        b" ",
        b";",
        b"//",
    ]
    for _ in range(3000):
        raw = b"/" + b"".join(rng.choices(pieces, k=rng.randint(0, 8)))
        try:
            normal, path = normalise_path(raw)
        except BadPath:
            continue
        assert normalise_path(normal) == (normal, path)
        assert normal.startswith(b"/")
        assert not {b".", b".."} & set(normal.split(b"/"))


def test_a_path_in_normal_form_comes_back_as_the_same_object():
    raw = b"/api/users/1.json"
    assert normalise_path(raw)[0] is raw


def test_a_request_is_resolved_with_its_path_and_query():
    request = Request("GET", "http", b"Shop.example:80", b"/u/%7ejoe/../a%2Fb?x=%zz", [])
    match = Table([route("/u/{id}", host=("shop.example",))]).resolve("web", request)
    assert (match.index, match.params) == (0, {"id": "a/b"})
    assert (request.raw_path, request.path, request.query) == (b"/u/a%2Fb", "/u/a/b", b"x=%zz")


@pytest.mark.parametrize(
    ("target", "raw", "path", "query"),
    [
        (b"/a", b"/a", "/a", b""),
        (b"/a?", b"/a", "/a", b""),
        (b"/a?b?c#%zz", b"/a", "/a", b"b?c#%zz"),
        (b"/%61/?x", b"/a/", "/a/", b"x"),
        (b"/a/..?x", b"/", "/", b"x"),
        (b"/?/./%zz", b"/", "/", b"/./%zz"),
        (b"*", b"*", "*", b""),
    ],
)
def test_the_query_is_left_alone(target, raw, path, query):
    request = Request("GET", "http", b"", target, [])
    assert Table([route()]).resolve("web", request).index == 0
    assert (request.raw_path, request.path, request.query) == (raw, path, query)


def test_an_asterisk_is_matched_only_by_a_route_without_a_path():
    request = Request("OPTIONS", "http", b"", b"*", [])
    assert Table([route("/a")]).resolve("web", request) is None
    assert Table([route("/a"), route()]).resolve("web", request).index == 1


def test_a_target_that_is_no_path_has_no_route():
    assert Table([route()]).resolve("web", Request("CONNECT", "http", b"a:443", b"a:443", [])) is None


@pytest.mark.parametrize(
    "path", ["api", "/a*", "/a/*/b", "/a{x}", "/{x}/{x}", "/{}", "/a/../b", "/./a", "/{1}", "/a%zz"]
)
def test_a_route_path_that_cannot_match_is_refused(path):
    with pytest.raises(ValueError):
        parse_path(path)


@pytest.mark.parametrize(
    ("early", "late", "shadowed"),
    [
        (route("/*"), route("/a"), True),
        (route(), route("/*"), True),
        (route("/a/*"), route("/a"), True),
        (route("/a/*"), route("/a/b/*"), True),
        (route("/a/{x}"), route("/a/b"), True),
        (route("/a/{x}"), route("/a/{y}"), True),
        (route("/a/{x}"), route("/a/"), False),
        (route("/a/b"), route("/a/{x}"), False),
        (route("/a"), route("/a/*"), False),
        (route("/a", ("GET",)), route("/a"), False),
        (route("/a", ("GET", "PUT")), route("/a", ("GET",)), True),
        (route("/a", ("GET",)), route("/a", ("HEAD",)), True),
        (route("/a", host=("x.y",)), route("/a"), False),
        (route("/a"), route("/a", host=("x.y",)), True),
        (route("/a", host=("*.y",)), route("/a", host=("x.y",)), True),
        (route("/a", host=("*.y",)), route("/a", host=("*.x.y",)), True),
        (route("/a", host=("*.x.y",)), route("/a", host=("*.y",)), False),
        (route("/a", headers={"h": "1"}), route("/a"), False),
        (route("/a"), route("/a", headers={"h": "1"}), True),
        (route("/a", headers={"h": "1"}), route("/a", headers={"h": "1", "i": "2"}), True),
        (route("/a", headers={"h": "*"}), route("/a", headers={"h": "1"}), True),
        (route("/a", listeners=("web",)), route("/a"), False),
        (route("/a", listeners=("web",)), route("/a", listeners=("web",)), True),
        (route("/a"), route("/a", listeners=("web",)), True),
    ],
)
def test_a_route_that_can_never_be_reached_is_known(early, late, shadowed):
    assert bool(Entry(early, 0).shadows(Entry(late, 1))) is shadowed


def test_why_not_says_the_first_condition_that_fails():
    entry = Entry(route("/a", ("GET",), ("x.y",), {"h": "1"}, ("web",)), 0)
    assert "listener" in entry.why_not("plain", "x.y", "/a", "GET", [])
    assert "path" in entry.why_not("web", "x.y", "/b", "GET", [])
    assert "host" in entry.why_not("web", "z", "/a", "GET", [])
    assert "header" in entry.why_not("web", "x.y", "/a", "GET", [])
    assert entry.why_not("web", "x.y", "/a", "PUT", [(b"h", b"1")]) == "method"
    assert entry.why_not("web", "x.y", "/a", "GET", [(b"h", b"1")]) == ""


@pytest.mark.parametrize(
    ("host", "plain"), [("A.B:1", "a.b"), ("a.", "a"), ("[::1]:8", "[::1]"), ("[::1]", "[::1]"), ("", "")]
)
def test_a_plain_host_has_no_port(host, plain):
    assert plain_host(host) == plain
