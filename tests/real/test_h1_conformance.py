"""HTTP/1.1 as RFC 9110 and 9112 have it, asked over raw sockets of one real server in three set-ups.

Every wrong message is sent with a whole request hidden behind it: right is one refusal and a closed connection, in
front of an application, of a fixed answer, and of a proxy, where nothing that was refused may have reached the origin.
What did reach it must be framed exactly once. The prober shares no code with ours; the messages are in `h1_cases`.
"""
# ruff: noqa: E501

import json
import re
import socket
from collections.abc import Iterator

import pytest
from h1_cases import ACCEPTED, CHUNKED, CUT, HEAD, LIES, MUTATIONS, REFUSED_BODIES, REFUSED_HEADS, post
from peers import Real
from prober import CLOSE, OK, Origin, Said, answers, connect, finals, poll, rest, talk, until
from processes import Process

APP = """
import asyncio, json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    body, more = b"", path != "/app/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message["body"]
        more = message["more_body"]
    if path == "/app/slow":
        await asyncio.sleep(0.05)
    status = int(path[-3:]) if path[-3:].isdigit() else 200
    found = {"method": scope["method"], "path": path, "query": scope["query_string"].decode("latin-1"), "size": len(body)}
    found["headers"] = [[k.decode("latin-1"), v.decode("latin-1")] for k, v in scope["headers"]]
    found["version"] = scope["http_version"]
    text = b"" if status in (204, 304) else json.dumps(found).encode()
    headers = [(b"content-type", b"application/json")]
    if path == "/app/chunks":
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for at in range(0, len(text), 10):
            await send({"type": "http.response.body", "body": text[at : at + 10], "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(text)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
"""
CONFIG = """
[server]
pattern = "single"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
limits = { header = "5s", body_idle = "5s", linger = "1s" }
[[route]]
path = "/app/*"
app = "probed:app"
[[route]]
path = "/proxy/*"
proxy = { upstream = "origin" }
[[route]]
path = "/fixed/get"
methods = ["GET"]
respond = "got"
[[route]]
path = "/fixed/204"
respond = { status = 204 }
[[route]]
path = "/fixed/*"
respond = "fixed"
[[upstream]]
name = "origin"
servers = ["127.0.0.1:ORIGIN"]
timeouts = { dial = "2s", head = "5s", idle = "5s" }
eject = { errors = 1000000 }
"""
HIDDEN = b"GET /proxy/hidden HTTP/1.1\r\nHost: hidden.example\r\nX-Hidden: yes\r\n\r\n"
LAST = b"GET /fixed/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """The raw origin behind the proxy route."""
    made = Origin()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(origin: Origin) -> Iterator[Process]:
    """One worker with an application, a proxy route and fixed answers."""
    with Real() as real:
        yield real.fairlead(config=CONFIG.replace("ORIGIN", str(origin.port)), files={"probed.py": APP})


@pytest.fixture(params=["/app/x", "/proxy/x", "/fixed/x"])
def place(request: pytest.FixtureRequest, origin: Origin) -> bytes:
    """The three set-ups, as a path each."""
    origin.forget()
    return str(request.param).encode()


def settled(server: Process, origin: Origin, seen: bytes = b"/proxy/mark") -> list[Said]:
    """What the origin got, after a marker request went the same way: nothing can still be on its way."""
    (mark,) = finals(talk(server.port, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % seen))
    assert mark.status == 200, mark
    assert not origin.odd, origin.odd
    got = [one for one in origin.requests if seen not in one.start]
    assert not [one for one in got if one.get(b"x-hidden")], got
    return got


@pytest.mark.parametrize("name", REFUSED_HEADS)
def test_a_wrong_head_gets_one_refusal_and_a_closed_connection(
    name: str, place: bytes, server: Process, origin: Origin
):
    raw, status = REFUSED_HEADS[name]
    method = "HEAD" if raw.startswith(b"HEAD") else "GET"
    got = answers(talk(server.port, raw.replace(b"@", place).replace(b"(AT)", b"@") + HIDDEN), method)
    assert [one.status for one in got] == [status], got
    assert got[0].get(b"connection") == b"close"
    assert got[0].whole
    assert settled(server, origin) == []


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_a_wrong_chunked_body_ends_the_connection_and_is_never_whole(
    name: str, place: bytes, server: Process, origin: Origin
):
    raw = post(CHUNKED, REFUSED_BODIES[name]).replace(b"@", place)
    got = answers(talk(server.port, raw + HIDDEN), "POST")
    assert len(got) == 1, got
    if place == b"/fixed/x" and got[0].status == 200:
        assert got[0].body == b"fixed"  # answered before the body was looked at
    else:
        assert got[0].status == (431 if "long trailer" in name else 400), got
        assert got[0].get(b"connection") == b"close"
    assert settled(server, origin) == []


# ---- mutations of Transfer-Encoding


INNER = b"0\r\n\r\n" + HIDDEN


@pytest.mark.parametrize("place", ["/app/x", "/proxy/x"], ids=["app", "proxy"], indirect=True)
@pytest.mark.parametrize("length", ["whole", "short"])
def test_no_way_to_write_transfer_encoding_hides_a_request(place: bytes, length: str, server: Process, origin: Origin):
    """CL.TE and TE.CL: a length that covers the hidden request, and one that ends before it."""
    assert len(MUTATIONS) >= 130
    size = len(INNER) if length == "whole" else 5
    for lines, plain in MUTATIONS:
        origin.forget()
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n\r\n" % (place, size, lines)
        got = answers(talk(server.port, [head, INNER[:size] + LAST]))
        if not plain:
            assert [one.status for one in got] == [400], (lines, got)
            assert not origin.requests, (lines, origin.requests)
            continue
        assert [one.status for one in got] == [200, 200], (lines, got)
        if place == b"/proxy/x":
            (request,) = origin.requests
            assert request.all(b"content-length") == [b"%d" % size] and not request.get(b"transfer-encoding")
            assert request.body == INNER[:size]
    assert settled(server, origin) == [] or place == b"/proxy/x"


# ---- what is accepted


def ask(server: Process, raw: bytes, method: str = "GET") -> Said:
    """The one answer to a request that closes its connection."""
    (found,) = finals(talk(server.port, raw), method)
    assert found.whole, found
    return found


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_request_is_answered(name: str, pieces: str, place: bytes, server: Process, origin: Origin):
    raw = ACCEPTED[name].replace(b"@", place)
    if pieces == "bytes":
        (got,) = finals(talk(server.port, [raw[i : i + 1] for i in range(len(raw))]))
    else:
        got = ask(server, raw)
    assert got.status == 200, got
    body = b"hello" if b"ello" in raw or b"lo\r\n0" in raw else b""
    if place == b"/app/x":
        told = json.loads(got.body)
        assert told["size"] == len(body)
        if "absolute" in name:
            assert ["host", "b.example"] in told["headers"]
    if place == b"/proxy/x":
        (seen,) = settled(server, origin)
        assert seen.body == body and seen.start.endswith(b" HTTP/1.1")
        assert len(seen.all(b"host")) == 1
        assert not [one for one in (b"upgrade", b"keep-alive", b"http2-settings") if seen.get(one)], seen
        assert seen.get(b"te") in (None, b"trailers"), seen  # of TE only `trailers` may pass a proxy
        assert b"upgrade" not in (seen.get(b"connection") or b"")
        if "absolute" in name:
            assert seen.get(b"host") == b"b.example"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("target", ["/app/x", "/app/chunks", "/app/204", "/app/304", "/fixed/x", "/fixed/204", "/fixed/get",
                                    "/proxy/x", "/nothing"])  # fmt: skip
def test_head_has_the_fields_of_get_and_never_a_body(method: str, target: str, server: Process):
    raw = b"%b %b HTTP/1.1\r\nHost: x\r\n\r\n" % (method.encode(), target.encode())
    got = finals(talk(server.port, raw + LAST), method, "GET")
    assert len(got) == 2 and got[1].body == b"fixed", got
    if method == "HEAD":
        assert got[0].body == b""
    if target.endswith("204"):
        assert got[0].status == 204 and not got[0].get(b"content-length") and not got[0].get(b"transfer-encoding")


def test_options_asterisk_is_answered_by_the_server_itself(server: Process):
    got = ask(server, b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert got.status in (200, 204)
    got = ask(server, b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert got.status in (200, 204)


def test_a_method_that_does_not_fit_gets_405_with_allow(server: Process):
    got = ask(server, b"DELETE /fixed/get HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert got.status in (200, 405)
    if got.status == 405:
        assert b"GET" in (got.get(b"allow") or b"")


def test_connect_opens_no_tunnel_and_its_bytes_are_no_request(server: Process, origin: Origin):
    origin.forget()
    got = answers(talk(server.port, b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n" + HIDDEN))
    assert got[0].status in (405, 501)
    assert len(got) == 1, got
    assert settled(server, origin) == []


# ---- the course of a connection


def test_pipelined_requests_are_answered_in_order_whoever_answers(server: Process):
    paths = [b"/app/slow", b"/fixed/x", b"/proxy/x", b"/app/x", b"/nothing", b"/app/slow", b"/proxy/y", b"/fixed/x"]
    raw = b"".join(b"GET %b?n=%d HTTP/1.1\r\nHost: a\r\n\r\n" % (path, n) for n, path in enumerate(paths))
    for cuts in ([raw + LAST], [raw[i : i + 7] for i in range(0, len(raw), 7)] + [LAST]):
        got = finals(talk(server.port, cuts))
        assert [one.status for one in got] == [200, 200, 200, 200, 404, 200, 200, 200, 200]
        for n in (0, 3, 5):
            assert json.loads(got[n].body)["query"] == f"n={n}"


def test_pipelined_bodies_are_each_their_own(server: Process, origin: Origin):
    origin.forget()
    one = b"POST /proxy/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    two = b"POST /proxy/b HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    got = finals(talk(server.port, one + two + one + two + LAST))
    assert [answer.status for answer in got] == [200] * 5
    assert sorted(request.body for request in settled(server, origin)) == [b"abc", b"abc", b"de", b"de"]


def test_a_thousand_pipelined_requests(server: Process):
    raw = b"GET /fixed/x HTTP/1.1\r\nHost: a\r\n\r\n" * 1000 + LAST
    with connect(server.port) as sock:
        sock.sendall(raw)
        assert len(finals(rest(sock), *["GET"] * 1001)) == 1001


def test_nothing_behind_close_is_answered(server: Process, place: bytes, origin: Origin):
    raw = b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % place
    assert len(finals(talk(server.port, raw + HIDDEN))) == 1
    settled(server, origin)


def test_ten_keeps_the_connection_only_when_asked(server: Process, place: bytes):
    raw = b"GET %b HTTP/1.0\r\nHost: a\r\n" % place
    kept = raw + b"Connection: keep-alive\r\n\r\n"
    got = finals(talk(server.port, kept + kept + raw + b"\r\n" + kept))
    assert len(got) == 3, got
    assert b"keep-alive" in (got[0].get(b"connection") or b"")
    assert not [one for one in got if one.get(b"transfer-encoding")]


def test_an_answer_in_chunks_goes_to_ten_until_the_close(server: Process):
    got = ask(server, b"GET /app/chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert json.loads(got.body)["version"] == "1.0" and not got.get(b"transfer-encoding")


def test_a_half_closed_client_gets_its_answer(server: Process, place: bytes):
    raw = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" % place
    got = finals(talk(server.port, raw, half_close=True))
    assert [one.status for one in got] == [200] and got[0].whole


def test_a_half_close_inside_a_body_is_no_whole_request(server: Process, place: bytes, origin: Origin):
    for framed, part in ((b"Content-Length: 9", b"part"), (CHUNKED, b"4\r\npart\r\n")):
        raw = b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (place, framed, part)
        got = finals(talk(server.port, raw, half_close=True))
        assert [one.status for one in got] in ([400], [200] if place == b"/fixed/x" else [400], []), got
    assert settled(server, origin) == []


def test_a_half_close_inside_a_head_says_so_and_silence_is_left_in_silence(server: Process):
    assert [one.status for one in finals(talk(server.port, b"GET /fixed/x HTTP/1.1\r\nHost", half_close=True))] == [400]
    assert talk(server.port, b"", half_close=True) == b""
    assert talk(server.port, b"\r\n", half_close=True) == b""


# ---- 100-continue


def test_continue_is_sent_when_the_body_is_wanted_and_once(server: Process):
    for path in (b"/app/x", b"/proxy/x"):
        with connect(server.port) as sock:
            sock.sendall(
                b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\nConnection: close\r\n\r\n"
                % path
            )
            first = until(sock, lambda found: b"\r\n\r\n" in found)
            assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"hello")
            (got,) = answers(rest(sock))
            assert got.status == 200


def test_continue_is_not_sent_to_ten_nor_when_the_body_is_there(server: Process):
    for version, body in ((b"1.0", b"hello"), (b"1.1", b"hello")):
        raw = (
            b"POST /app/x HTTP/%b\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
            % version
        )
        got = answers(talk(server.port, raw + body))
        assert [one.status for one in got if one.status != 100 or version == b"1.0"] == [200], got
    assert not [one for one in answers(talk(server.port, b"POST /app/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")) if one.status == 100]  # fmt: skip


def test_a_final_answer_instead_of_continue_spoils_nothing(server: Process, origin: Origin):
    """The client may or may not send the body it announced: the connection must not go on."""
    raw = b"POST /fixed/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(HIDDEN)
    got = answers(talk(server.port, raw + HIDDEN))
    assert [one.status for one in got if one.status >= 200] == [200], got
    settled(server, origin)


# ---- answers before the request is over


def test_an_early_answer_arrives_while_a_large_body_is_still_sent(server: Process):
    for path in (b"/app/early", b"/fixed/x", b"/nothing"):
        with connect(server.port) as sock:
            sock.sendall(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n" % path)
            try:
                for _ in range(40):
                    sock.sendall(b"x" * 100000)
            except OSError:
                pass
            assert finals(rest(sock))[0].status in (200, 404)


def test_an_unread_body_is_never_read_as_a_request(server: Process, origin: Origin):
    for path in (b"/app/early", b"/fixed/x", b"/nothing"):
        origin.forget()
        raw = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, len(HIDDEN))
        got = finals(talk(server.port, raw + HIDDEN + LAST))
        assert len(got) in (1, 2) and (len(got) == 1 or got[1].body == b"fixed"), got
        settled(server, origin)


# ---- the hop


def test_fields_of_this_hop_do_not_reach_the_origin(server: Process, origin: Origin):
    origin.forget()
    raw = b"GET /proxy/x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, x-other\r\nX-Secret: 1\r\nX-OTHER: 2\r\nX-Kept: 3\r\n"
    raw += (
        b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
    )
    assert ask(server, raw).status == 200
    (seen,) = settled(server, origin)
    names = {name for name, _ in seen.headers}
    assert not names & {b"x-secret", b"x-other", b"keep-alive", b"proxy-connection", b"te"}
    assert seen.get(b"x-kept") == b"3" and b"via" in names


@pytest.mark.parametrize(
    "name", [b"Host", b"Content-Length", b"Transfer-Encoding", b"X-Forwarded-For", b"Via", b"Forwarded"]
)
def test_connection_cannot_take_away_what_frames_or_routes(name: bytes, server: Process, origin: Origin):
    origin.forget()
    raw = b"POST /proxy/x HTTP/1.1\r\nHost: a\r\nConnection: close, %b\r\nContent-Length: 5\r\n\r\nhello" % name
    assert ask(server, raw).status in (200, 400)
    for seen in settled(server, origin):
        assert seen.body == b"hello" and seen.get(b"host") == b"a" and seen.get(b"via")


def test_an_upgrade_is_a_tunnel_only_after_the_origin_agreed(server: Process, origin: Origin):
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    origin.scripts[b"/proxy/yes"] = [agreed]
    origin.upgrades[b"/proxy/yes"] = []
    fields = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    with connect(server.port) as sock:
        sock.sendall(b"GET /proxy/yes HTTP/1.1\r\n" + fields + b"early ")
        head = until(sock, lambda found: b"\r\n\r\n" in found)
        assert head.startswith(b"HTTP/1.1 101 ") and b"upgrade: echo" in head.lower()
        sock.sendall(b"late\r\n")
        said = head.partition(b"\r\n\r\n")[2] + until(sock, lambda found: b"LATE" in head + found)
        assert b"EARLY LATE" in said
    origin.forget()
    got = finals(talk(server.port, b"GET /proxy/no HTTP/1.1\r\n" + fields + LAST))
    assert [one.status for one in got] == [200, 200] and got[1].body == b"fixed"
    (seen,) = settled(server, origin)
    assert seen.start == b"GET /proxy/no HTTP/1.1"


# ---- what origins may get wrong


@pytest.mark.parametrize("name", LIES)
def test_a_wrong_answer_of_the_origin_is_a_502_and_its_connection_is_not_used_again(
    name: str, server: Process, origin: Origin
):
    origin.scripts[b"/proxy/lie"] = LIES[name]
    got = finals(talk(server.port, b"POST /proxy/lie HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + LAST))
    assert [one.status for one in got] == [502, 200], got
    assert got[1].body == b"fixed"
    assert settled(server, origin) is not None


@pytest.mark.parametrize("name", CUT)
def test_an_answer_cut_short_is_never_made_whole(name: str, server: Process, origin: Origin):
    origin.scripts[b"/proxy/cut"] = CUT[name]
    got = finals(talk(server.port, b"GET /proxy/cut HTTP/1.1\r\nHost: a\r\n\r\n" + LAST))
    assert len(got) == 1, got
    assert got[0].status == 502 or not got[0].whole, got
    settled(server, origin)


def test_bytes_behind_an_answer_are_nobodys_answer(server: Process, origin: Origin):
    """Response splitting: what follows a whole answer must not be given to the next client."""
    origin.scripts[b"/proxy/more"] = [OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"]
    for _ in range(5):
        got = finals(
            talk(
                server.port,
                b"GET /proxy/more HTTP/1.1\r\nHost: a\r\n\r\nGET /proxy/next HTTP/1.1\r\nHost: a\r\n\r\n" + LAST,
            )
        )
        assert [one.body for one in got] == [b"ok", b"ok", b"fixed"]


def test_answers_of_every_framing_arrive_whole(server: Process, origin: Origin):
    big = b"x" * 300000
    origin.scripts[b"/proxy/close"] = [HEAD + b"\r\n" + big, CLOSE]
    origin.scripts[b"/proxy/ten"] = [b"HTTP/1.0 200 OK\r\n\r\n" + big, CLOSE]
    origin.scripts[b"/proxy/chunks"] = [
        HEAD + CHUNKED + b"\r\n\r\n" + b"186a0\r\n%b\r\n" % big[:100000] * 3 + b"0\r\nX-Sum: 1\r\n\r\n"
    ]
    origin.scripts[b"/proxy/length"] = [HEAD + b"Content-Length: 300000\r\n\r\n" + big]
    origin.scripts[b"/proxy/hints"] = [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 300000\r\n\r\n" + big]  # fmt: skip
    for name in (b"close", b"ten", b"chunks", b"length", b"hints"):
        for version in (b"1.1", b"1.0"):
            raw = b"GET /proxy/%b HTTP/%b\r\nHost: a\r\nConnection: close\r\n\r\n" % (name, version)
            got = answers(talk(server.port, raw))
            assert got[-1].body == big and got[-1].whole, name
            assert [one.status for one in got[:-1]] == ([103] if name == b"hints" and version == b"1.1" else [])


def test_head_and_304_of_an_origin_have_no_body_whatever_their_length_says(server: Process, origin: Origin):
    origin.scripts[b"/proxy/head"] = [HEAD + b"Content-Length: 500\r\n\r\n"]
    origin.scripts[b"/proxy/304"] = [b'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: "a"\r\n\r\n']
    raw = b"HEAD /proxy/head HTTP/1.1\r\nHost: a\r\n\r\nGET /proxy/304 HTTP/1.1\r\nHost: a\r\n\r\n"
    got = finals(talk(server.port, raw + LAST), "HEAD", "GET", "GET")
    assert [one.status for one in got] == [200, 304, 200] and got[0].get(b"content-length") == b"500"
    assert got[2].body == b"fixed"


def test_every_answer_of_our_own_has_a_date(server: Process):
    for target in (b"/fixed/x", b"/nothing", b"/app/x", b"/proxy/x", b"bad"):
        got = ask(server, b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target)
        assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", got.get(b"date") or b""), got


def test_a_connection_that_says_nothing_wrong_survives_all_of_it(server: Process):
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        poll(lambda: server.running)
        sock.sendall(LAST)
        assert b"fixed" in rest(sock)
