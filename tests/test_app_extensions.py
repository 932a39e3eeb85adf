"""serve.extensions: files as bodies (`pathsend`, `zerocopysend`), what TLS knows, and the debug message."""

import asyncio

import pytest

from fairlead.serve.app import App
from recorder import Peer

START = {"type": "http.response.start", "status": 200, "headers": []}


def told(app, method="GET", *, debug=None, full=False, tls=None):
    """What one request of an application is answered: (status, length said in the head, body, what broke)."""

    async def scenario():
        handler = App(app, asyncio.get_running_loop())
        handler.debug = debug
        peer = Peer(handler)
        peer.conn.tls = tls
        peer.codec.full = full
        peer.ask(method, b"/")
        while handler.running:  # pieces beyond the first are read in a thread
            await asyncio.sleep(0.0005)
            peer.conn.unsent = 0
            peer.conn.drained(peer.conn.clock.now())
            if full:
                peer.conn.room(peer.stream)
        length = peer.codec.response.length if peer.status else None
        return peer.status, length, peer.answer, [str(error) for error in peer.watcher.broken]

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def sending(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "body"
    path.write_bytes(bytes(range(256)) * 3000)
    return path


def test_a_path_is_the_whole_body_with_its_length(file):
    path = {"type": "http.response.pathsend", "path": str(file)}
    assert told(sending(START, path)) == (200, 768000, file.read_bytes(), [])


def test_a_slow_client_gets_a_path_as_it_takes_it(file):
    path = {"type": "http.response.pathsend", "path": str(file)}
    assert told(sending(START, path), full=True) == (200, 768000, file.read_bytes(), [])


def test_head_of_a_path_has_its_length_and_no_body(file):
    path = {"type": "http.response.pathsend", "path": str(file)}
    assert told(sending(START, path), "HEAD") == (200, 768000, b"", [])


def test_an_empty_file_is_an_empty_body(tmp_path):
    (tmp_path / "none").write_bytes(b"")
    path = {"type": "http.response.pathsend", "path": str(tmp_path / "none")}
    assert told(sending(START, path)) == (200, 0, b"", [])


def test_a_path_that_is_not_there_can_still_be_answered():
    async def app(scope, receive, send):
        await send(START)
        with pytest.raises(FileNotFoundError):
            await send({"type": "http.response.pathsend", "path": "/no/such/file"})
        await send({"type": "http.response.body", "body": b"gone"})

    assert told(app) == (200, 4, b"gone", [])


@pytest.mark.parametrize("path", ["relative", None, b"/bytes"])
def test_a_path_that_is_none_is_named(path):
    status, _, _, broken = told(sending(START, {"type": "http.response.pathsend", "path": path}))
    assert status == 500
    assert "the app sent the path" in broken[0]


def test_a_path_after_body_bytes_is_refused(file):
    some = {"type": "http.response.body", "body": b"x", "more_body": True}
    _, _, _, broken = told(sending(START, some, {"type": "http.response.pathsend", "path": str(file)}))
    assert "body bytes already" in broken[0]


def test_parts_of_an_open_file_make_a_body(file):
    with file.open("rb") as one:
        parts = [
            {"type": "http.response.zerocopysend", "file": one, "offset": 10, "count": 300000, "more_body": True},
            {"type": "http.response.zerocopysend", "file": one, "count": 5, "more_body": True},
            {"type": "http.response.zerocopysend", "file": one, "count": 5, "more_body": True},
            {"type": "http.response.body", "body": b"end"},
        ]
        whole = file.read_bytes()
        assert told(sending(START, *parts))[2] == whole[10:300010] + whole[:10] + b"end"
    with file.open("rb") as one:
        assert told(sending(START, {"type": "http.response.zerocopysend", "file": one}))[2] == whole


@pytest.mark.parametrize("more", [{}, {"file": 3}, {"offset": -1}, {"count": "9"}])
def test_a_bad_zero_copy_is_named(file, more):
    with file.open("rb") as one:
        message = {"type": "http.response.zerocopysend", "file": one, **more}
        if not more:
            del message["file"]
        status, _, _, broken = told(sending(START, message))
    assert status == 500
    assert broken


def test_a_file_that_shrinks_cuts_the_answer(file):
    with file.open("rb") as one:
        message = {"type": "http.response.zerocopysend", "file": one, "offset": 0, "count": 10**9}
        _, _, _, broken = told(sending(START, message))
    assert "before its answer" in broken[0]


def test_debug_messages_are_errors_unless_somebody_listens():
    debug = {"type": "http.response.debug", "info": {"template": "x"}}
    end = {"type": "http.response.body", "body": b"ok"}
    assert told(sending(START, debug, end))[0] == 500
    heard = []
    assert told(sending(START, debug, end), debug=lambda exchange, info: heard.append(info))[0] == 200
    assert heard == [{"template": "x"}]


class Engine:
    """What the extension asks of a TLS engine."""

    scope = None
    peer_cert = None
    version = "TLSv1.3"
    cipher = "TLS_AES_256_GCM_SHA384"


def test_tls_tells_version_and_suite_as_numbers_once_per_connection():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["extensions"]["tls"])
        await send(START)
        await send({"type": "http.response.body", "body": b""})

    engine = Engine()
    told(app, tls=engine)
    told(app, tls=engine)
    assert seen[0] is seen[1]
    assert seen[0] == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1302,
    }
