"""core.region, from the word to the socket: files that the kernel sends, and what happens when it can not."""

import asyncio
import contextlib
import os
import socket

import pytest

from fairlead.core.errors import AppError
from fairlead.core.handler import Service
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Response
from fairlead.core.region import Region
from fairlead.net.listen import Listener
from fairlead.net.pieces import next_batch, send_some
from fairlead.net.poll import Poller
from fairlead.serve import files as module
from fairlead.serve.app import App
from fairlead.serve.files import Files
from fairlead.serve.opened import Opened
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from fairlead.wire.h1 import H1
from kit import Transcript

BIG = bytes(range(256)) * (12 << 12)  # twelve megabytes: more than any socket takes at once


@pytest.fixture
def root(tmp_path):
    (tmp_path / "big").write_bytes(BIG)
    (tmp_path / "kept").write_bytes(BIG[:100_000])
    return tmp_path


class Served:
    def __init__(self, port, listener):
        self.port, self.listener = port, listener

    async def ask(self, path, *more, keep=False):
        """Everything that one request is answered with."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET {path} HTTP/1.1", "host: a", *([] if keep else ["connection: close"]), *more]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return reader, writer


@contextlib.asynccontextmanager
async def serving(make):
    """A listener of HTTP/1.1 in front of the handler that `make(loop)` gives."""
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    service = Service(make(loop), name="t", clock=poller, limits=Limits())
    listener = Listener(poller, sock, service, lambda conn, alpn: H1(conn, service.limits, common=Common()))
    listener.start()
    try:
        yield Served(sock.getsockname()[1], listener)
    finally:
        await listener.drain(0)
        poller.close()
        sock.close()


def files(root):
    return lambda loop: Router(Table([Route(Files(str(root), loop))]))


def run(test):
    def wrapped(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    wrapped.__name__ = test.__name__
    wrapped.__wrapped__ = test
    return wrapped


def body_of(answer):
    return answer.partition(b"\r\n\r\n")[2]


def open_files(path):
    """How many descriptors of this process are open for the file."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{fd}") == str(path)
    return found


def no_reading(*_):
    raise AssertionError("the file was read in this process")


@pytest.mark.parametrize("name, size", [("big", len(BIG)), ("kept", 100_000)])
@run
async def test_a_file_goes_out_whole_without_being_read(root, name, size, monkeypatch):
    async with serving(files(root)) as served:
        reader, writer = await served.ask("/kept")
        await reader.read()
        writer.close()
        monkeypatch.setattr(module, "read_now", no_reading)
        reader, writer = await served.ask("/" + name)
        assert body_of(await reader.read()) == BIG[:size]
        writer.close()
    assert open_files(root / "big") == 0


@run
async def test_the_next_request_is_answered_behind_a_file(root):
    async with serving(files(root)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\nGET /kept HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answers = await reader.read()
        writer.close()
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    first, second = answers.index(BIG), answers.rindex(BIG[:100_000])
    assert first < second and len(answers) - second == 100_000


@run
async def test_ranges_of_a_large_file_are_parts_of_one_answer(root):
    async with serving(files(root)) as served:
        reader, writer = await served.ask("/big", "range: bytes=0-99999,200000-1999999")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 206") and body_of(answer).count(b"--fairlead-") == 3
    assert BIG[:100_000] in answer and BIG[200_000:2_000_000] in answer
    length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(body_of(answer)) == length


@run
async def test_a_file_that_gets_shorter_while_it_is_sent_cuts_the_connection(root):
    async with serving(files(root)) as served:
        reader, writer = await served.ask("/big")
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(root / "big", 1 << 20)
        rest = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                rest += piece
        writer.close()
        assert len(rest) < len(BIG)
        assert open_files(root / "big") == 0


@run
async def test_a_client_that_leaves_in_the_middle_has_the_file_closed(root):
    async with serving(files(root)) as served:
        reader, writer = await served.ask("/big")
        await reader.readuntil(b"\r\n\r\n")
        assert open_files(root / "big") == 1
        writer.transport.abort()
        while open_files(root / "big"):
            await asyncio.sleep(0.005)


@run
async def test_a_kept_file_that_was_changed_in_its_place_is_read_anew_at_once(root):
    async with serving(files(root)) as served:
        for content in (BIG[:100_000], b"n" * 60_000):
            (root / "kept").write_bytes(content)
            reader, writer = await served.ask("/kept")
            assert body_of(await reader.read()) == content
            writer.close()


def app_of(*messages):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BIG))]})
        for message in messages:
            await send(message)

    return lambda loop: App(app, loop)


@run
async def test_a_path_that_an_application_sends_is_not_read(root, monkeypatch):
    monkeypatch.setattr("fairlead.serve.extensions.os.pread", no_reading)
    async with serving(app_of({"type": "http.response.pathsend", "path": str(root / "big")})) as served:
        reader, writer = await served.ask("/")
        assert body_of(await reader.read()) == BIG
        writer.close()
    assert open_files(root / "big") == 0


@run
async def test_an_application_may_close_its_file_once_send_has_returned(root):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BIG))]})
        with open(root / "big", "rb") as file:
            half = len(BIG) // 2
            await send({"type": "http.response.zerocopysend", "file": file, "count": half, "more_body": True})
            await send({"type": "http.response.zerocopysend", "file": file, "offset": half})
        with open(root / "kept", "rb"):  # likely the same number again
            await receive()

    async with serving(lambda loop: App(app, loop)) as served:
        reader, writer = await served.ask("/")
        await asyncio.sleep(0)
        assert body_of(await reader.read()) == BIG
        writer.close()


def test_a_file_that_the_kernel_will_not_send_is_read(tmp_path):
    with open("/proc/version", "rb") as file:
        text = file.read()
        left, right = socket.socketpair()
        with left, right:
            whole = Region(file, file.fileno(), 0, len(text))
            while whole.left:
                assert send_some(left.fileno(), whole) > 0
            assert right.recv(4096) == text
            with pytest.raises(AppError, match="shorter"):
                send_some(left.fileno(), Region(file, file.fileno(), len(text), 10))


def test_an_opened_file_closes_with_its_last_reference(root):
    owner = Opened(os.open(root / "kept", os.O_RDONLY))
    held = Region(owner, owner.fd, 0, 10)
    del owner
    assert open_files(root / "kept") == 1
    del held
    assert open_files(root / "kept") == 0


def answering(length):
    """An HTTP/1.1 codec that has said the head of an answer; a length below 0 is unknown."""
    talk = Transcript(lambda sink: H1(sink, Limits())).peer(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    talk.codec.head(1, Response(200, [], length), False)
    talk.sent()
    return talk.codec


def region(size):
    return Region(None, -1, 0, size)


def test_a_region_that_ends_the_answer_ends_it_when_it_was_sent():
    codec = answering(10)
    assert codec.put_region(1, region(10), True) and not codec.silent
    assert codec.saying != 6 and codec.region is not None
    codec.region_sent()
    assert codec.region is None and codec.hearing == 0 and not codec.finished


def test_a_body_of_unknown_length_is_no_place_for_a_region():
    assert not answering(-1).put_region(1, region(10), True)


@pytest.mark.parametrize("size, end", [(11, False), (11, True), (9, True)])
def test_a_region_is_held_to_the_promised_length(size, end):
    codec = answering(10)
    with pytest.raises(AppError):
        codec.put_region(1, region(size), end)
    assert codec.finished and codec.region is None


@pytest.mark.parametrize("word", [("data", b"x", False), ("end", None), ("put_region", region(1), False)])
def test_nothing_is_said_before_the_region_ahead_of_it_was_sent(word):
    codec = answering(10)
    assert codec.put_region(1, region(5), False)
    with pytest.raises(AppError, match="before the file ahead"):
        getattr(codec, word[0])(1, *word[1:])
    assert codec.finished and codec.region is None


def test_a_reset_forgets_the_region():
    codec = answering(10)
    assert codec.put_region(1, region(5), False)
    codec.reset(1, AppError("x"), "both")
    assert codec.finished and codec.region is None


def test_batches_join_what_is_small_and_cut_what_is_large():
    plain = [b"a" * 10, b"b" * 10, b"c" * 70_000]
    assert next_batch(plain) == b"a" * 10 + b"b" * 10
    assert next_batch(plain) == b"c" * 65_536
    assert next_batch(plain) == b"c" * (70_000 - 65_536)
    assert plain == []
