"""serve.files and serve.beneath: names, folders, ranges, twins, and what never gets out."""

import asyncio
import gzip
import os

import pytest

from fairlead.serve import files as module
from fairlead.serve.beneath import Directory, segments
from fairlead.serve.files import Files
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from recorder import Peer

BIG = bytes(range(256)) * 4096  # a megabyte


@pytest.fixture
def root(tmp_path):
    top = tmp_path / "site"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / ".well-known").mkdir()
    (top / "index.html").write_text("<p>home</p>")
    (top / "sub" / "index.html").write_text("<p>sub</p>")
    (top / "sub" / "deep" / "a b&c.txt").write_text("text")
    (top / "app.js").write_text("let a = 1\n")
    (top / "big.bin").write_bytes(BIG)
    (top / ".secret").write_text("secret")
    (top / ".well-known" / "x").write_text("known")
    (top / "nothing").write_text("")
    (tmp_path / "outside").write_text("outside")
    (top / "out").symlink_to(tmp_path / "outside")
    (top / "in").symlink_to("app.js")
    return top


class Held:
    """A loop whose executor runs at once: reads that must wait are done by the test's own hand."""

    def run_in_executor(self, _, call, *args):
        future = asyncio.Future(loop=asyncio.new_event_loop())
        future.set_result(call(*args))
        return Now(future.result())


class Now:
    def __init__(self, value):
        self.value = value

    def add_done_callback(self, call):
        call(self)

    def exception(self):
        return None

    def result(self):
        return self.value


def ask(root, target=b"/", headers=(), method="GET", path="", **options):
    files = Files(str(root), Held(), **options)
    peer = Peer(Router(Table([Route(files, path=path)])))
    peer.ask(method, target, headers)
    peer.files = files
    taken(peer)
    return peer


def taken(peer):
    """The client takes all that is there, and what comes then."""
    while peer.conn.waiting:
        peer.conn.unsent = 0
        peer.conn.drained(1)


def test_a_file_is_answered_with_its_type_length_and_validators(root):
    peer = ask(root, b"/app.js")
    assert peer.status == 200 and peer.answer == b"let a = 1\n"
    headers = peer.codec.headers
    assert headers[b"content-type"] == b"text/javascript; charset=utf-8"
    assert headers[b"content-length"] == b"10" and headers[b"accept-ranges"] == b"bytes"
    again = ask(root, b"/app.js", [(b"if-none-match", headers[b"etag"])])
    assert again.status == 304 and again.answer == b"" and b"content-type" not in again.codec.headers
    again = ask(root, b"/app.js", [(b"if-modified-since", headers[b"last-modified"])])
    assert again.status == 304
    assert ask(root, b"/app.js", [(b"if-match", b'"other"')]).status == 412


@pytest.mark.parametrize("name, size", [(b"/app.js", 10), (b"/big.bin", len(BIG)), (b"/nothing", 0)])
def test_head_says_the_length_and_no_body(root, name, size):
    peer = ask(root, name, method="HEAD")
    assert peer.codec.headers[b"content-length"] == b"%d" % size and peer.answer == b""


def test_a_large_file_comes_in_pieces_as_the_client_takes_them(root):
    files = Files(str(root), Held())
    peer = Peer(Router(Table([Route(files)])))
    peer.codec.full = peer.carrier.hold = True
    peer.get(b"/big.bin")
    pieces = []
    while True:
        said = [word for word in peer.take() if word[0] == "data"]
        assert len(said) <= 1
        if not said:
            break
        pieces.append(said[0])
        peer.conn.room(peer.stream)
    assert b"".join(word[1] for word in pieces) == BIG and pieces[-1][2]
    assert len(pieces) == len(BIG) // module.PIECE


def test_what_is_not_in_memory_is_read_in_a_thread(root, monkeypatch):
    monkeypatch.setattr(module, "read_now", lambda fd, size, offset: None)
    peer = ask(root, b"/big.bin")
    assert peer.answer == BIG and peer.codec.said[-1][2]


def test_a_file_that_gets_shorter_cuts_the_connection(root, monkeypatch):
    whole = os.fstat

    class Longer:
        def __init__(self, found):
            for name in ("st_mode", "st_mtime", "st_mtime_ns", "st_ino"):
                setattr(self, name, getattr(found, name))
            self.st_size = found.st_size + 5

    monkeypatch.setattr(os, "fstat", lambda fd: Longer(whole(fd)))
    peer = ask(root, b"/big.bin")
    assert peer.codec.said[-1][0] == "reset" and "shorter" in peer.codec.said[-1][1]


def test_a_client_that_leaves_closes_the_file(root):
    files = Files(str(root), Held())
    peer = Peer(Router(Table([Route(files)])))
    peer.codec.full = peer.carrier.hold = True
    peer.get(b"/big.bin")
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    peer.leave()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before - 1


# ---- names


@pytest.mark.parametrize(
    "target, status",
    [
        (b"/", 200),
        (b"/sub/", 200),
        (b"/sub", 308),
        (b"/none", 404),
        (b"/app.js/", 404),
        (b"/app.js/x", 404),
        (b"/empty/", 404),
        (b"/.secret", 404),
        (b"/.well-known/x", 200),
        (b"/sub/deep/a%20b%26c.txt", 200),
        (b"/out", 404),
        (b"/in", 200),
        (b"/sub%2Findex.html", 404),
        (b"/%00", 400),
        (b"/app.js%00.txt", 400),
        (b"//app.js", 404),
        (b"/sub//index.html", 404),
        (b"/" + b"a" * 5000, 404),
        (b"/" + b"a" * 300, 404),
    ],
)
def test_names(root, target, status):
    assert ask(root, target).status == status


@pytest.mark.parametrize(
    "raw", [b"/../x", b"/a/../../x", b"/%2e%2e/x", b"/..%2fx", b"/a/./b", b"/%2e", b"/a%2fb", b"/a//b", b"/a%00b"]
)
def test_no_segment_climbs(raw):
    assert segments(raw) is None


@pytest.mark.parametrize("kernel", [True, False])
def test_links_that_lead_out_are_refused_unless_allowed(root, kernel):
    strict, free = Directory(str(root)), Directory(str(root), links=True)
    if not kernel:
        strict.syscall = None
    with pytest.raises(OSError):
        strict.open([b"out"])
    for directory, name in ((strict, b"in"), (free, b"out")):
        fd, found = directory.open([name])
        os.close(fd)
        assert found.st_size > 0
    with pytest.raises(OSError):
        strict.open([b"..", b"outside"])
    strict.close()


def test_a_pipe_is_no_file_and_blocks_nobody(root):
    os.mkfifo(root / "pipe")
    assert ask(root, b"/pipe").status == 404


def test_a_folder_without_its_slash_is_redirected_relative_and_keeps_the_query(root):
    peer = ask(root, b"/sub?a=1")
    assert peer.codec.headers[b"location"] == b"./sub/?a=1"


def test_a_route_strips_its_fixed_part(root):
    assert ask(root, b"/static/app.js", path="/static/*", strip="/static").answer == b"let a = 1\n"


def test_hidden_names_can_be_shown_and_a_fallback_answers_for_the_rest(root):
    assert ask(root, b"/.secret", hidden=True).answer == b"secret"
    peer = ask(root, b"/some/view", fallback="index.html")
    assert peer.status == 200 and peer.answer == b"<p>home</p>"


def test_a_list_of_a_folder_escapes_names(root):
    (root / "empty" / "<b>&.txt").write_text("x")
    (root / "empty" / "folder").mkdir()
    page = ask(root, b"/empty/", listing=True).answer.decode()
    assert "&lt;b&gt;&amp;.txt" in page and "./%3Cb%3E%26.txt" in page and "<b>" not in page
    assert page.index("folder/") < page.index("&lt;b")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_405(root, method):
    peer = ask(root, b"/app.js", method=method)
    assert peer.status == 405 and peer.codec.headers[b"allow"] == b"GET, HEAD"


# ---- ranges and twins


@pytest.mark.parametrize("name", [b"/big.bin", b"/app.js"])
def test_one_range(root, name):
    whole = BIG if name == b"/big.bin" else b"let a = 1\n"
    peer = ask(root, name, [(b"range", b"bytes=2-5")])
    assert peer.status == 206 and peer.answer == whole[2:6]
    assert peer.codec.headers[b"content-range"] == b"bytes 2-5/%d" % len(whole)
    assert peer.codec.headers[b"content-length"] == b"4"
    peer = ask(root, name, [(b"range", b"bytes=%d-" % len(whole))])
    assert peer.status == 416 and peer.codec.headers[b"content-range"] == b"bytes */%d" % len(whole)
    assert ask(root, name, [(b"range", b"bytes=9-1")]).answer == whole


@pytest.mark.parametrize("name", [b"/big.bin", b"/app.js"])
def test_several_ranges_are_parts_of_a_message_that_a_parser_reads(root, name):
    from email.parser import BytesParser

    whole = BIG if name == b"/big.bin" else b"let a = 1\n"
    peer = ask(root, name, [(b"range", b"bytes=0-1, -3")])
    kind, body = peer.codec.headers[b"content-type"], peer.answer
    assert peer.status == 206 and peer.codec.headers[b"content-length"] == b"%d" % len(body)
    message = BytesParser().parsebytes(b"content-type: " + kind + b"\r\n\r\n" + body)
    parts = message.get_payload()
    assert [part["content-range"] for part in parts] == [
        f"bytes 0-1/{len(whole)}",
        f"bytes {len(whole) - 3}-{len(whole) - 1}/{len(whole)}",
    ]
    assert body.count(whole[:2]) >= 1 and whole[-3:] in body


def test_a_range_of_a_large_file_ends_in_the_middle_of_a_piece(root):
    first, last = module.PIECE - 10, module.PIECE * 2 + 10
    peer = ask(root, b"/big.bin", [(b"range", b"bytes=%d-%d" % (first, last))])
    assert peer.answer == BIG[first : last + 1]


def test_a_precompressed_twin_answers_where_the_client_takes_it(root):
    (root / "app.js.gz").write_bytes(gzip.compress(b"let a = 1\n"))
    (root / "app.js.br").write_bytes(b"brotli")
    peer = ask(root, b"/app.js", [(b"accept-encoding", b"gzip")], precompressed=True)
    headers = peer.codec.headers
    assert gzip.decompress(peer.answer) == b"let a = 1\n" and headers[b"content-encoding"] == b"gzip"
    assert headers[b"content-type"] == b"text/javascript; charset=utf-8" and headers[b"vary"] == b"accept-encoding"
    assert ask(root, b"/app.js", [(b"accept-encoding", b"gzip, br")], precompressed=True).answer == b"brotli"
    plain = ask(root, b"/app.js", precompressed=True)
    assert plain.answer == b"let a = 1\n" and plain.codec.headers[b"etag"] != headers[b"etag"]
    assert plain.codec.headers[b"vary"] == b"accept-encoding"
    assert ask(root, b"/app.js", [(b"accept-encoding", b"gzip")]).answer == b"let a = 1\n"


def test_a_twin_asked_for_by_its_own_name_is_another_answer(root):
    (root / "app.js.br").write_bytes(b"brotli")
    for order in ((b"/app.js.br", b"/app.js"), (b"/app.js", b"/app.js.br")):
        files = Files(str(root), Held(), precompressed=True)
        told = {}
        for path in order:
            peer = Peer(Router(Table([Route(files)])))
            peer.get(path, [(b"accept-encoding", b"br")])
            assert peer.answer == b"brotli"
            told[path] = peer.codec.headers.get(b"content-encoding")
        assert told == {b"/app.js": b"br", b"/app.js.br": None}


# ---- what is kept


def test_a_small_file_is_kept_and_looked_at_again_after_a_second(root):
    from kit import Clock

    clock, files = Clock(), Files(str(root), Held())

    def now():
        peer = Peer(Router(Table([Route(files)])), clock=clock)
        peer.get(b"/app.js")
        return peer.answer if peer.status == 200 else peer.status

    assert now() == b"let a = 1\n"
    (root / "app.js").write_text("let a = 2\n\n")
    assert now() == b"let a = 1\n"
    clock.pass_(1.1)
    assert now() == b"let a = 2\n\n"
    (root / "app.js").unlink()
    clock.pass_(1.1)
    assert now() == 404


def test_what_is_kept_is_bounded(root, monkeypatch):
    monkeypatch.setattr(module, "KEEP", 100)
    files = Files(str(root), Held())
    for n in range(30):
        (root / f"f{n}").write_text("x" * 10)
        peer = Peer(Router(Table([Route(files)])))
        peer.get(f"/f{n}".encode())
        assert peer.answer == b"x" * 10
    assert files.kept_bytes <= 100 and len(files.kept) == 10
