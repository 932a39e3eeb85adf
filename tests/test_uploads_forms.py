"""Forms of pages at an upload route: files become uploads, fields become what is said of them; all or nothing, and bounded."""

import asyncio
import base64
import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.errors import Refused
from fairlead.serve import uploadforms
from fairlead.serve.uploads import UploadOptions
from test_uploads import file_of
from uploadrig import play

pytest.importorskip("python_multipart")
DATA = os.urandom(300_000)
KIND = "multipart/form-data; boundary=X-1"


def form(*parts, end=b"--X-1--\r\n", **more):
    """(name, filename or None, bytes) as a browser writes them."""
    out = b""
    for name, filename, value in parts:
        said = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
        kind = "Content-Type: text/x\r\n" if filename else ""
        out += f"--X-1\r\nContent-Disposition: {said}\r\n{kind}\r\n".encode() + value + b"\r\n"
    return out + end


async def post(client, body, *, kind=KIND, **more):
    return await client.ask("POST", "/up", body, content_type=kind, **more)


def left(client):
    """Everything that is on the disk."""
    storage = client.uploads.storage
    return [*[name for name in os.listdir(storage.path) if name != ".uploads"], *os.listdir(storage.hidden)]


def test_files_and_fields_become_uploads_and_what_is_said_of_them():
    fed = []

    async def feed(row, exchange):
        fed.append((row.filename, row.kind, dict(row.meta)))
        return 201, [], row.filename.encode()

    async def story(client):
        tricky = b"\r\n--X-\r\n--X-12\r\n\r\n--" + DATA  # almost a boundary
        files = ("a", "../a b.png", tricky), ("b", "empty", b""), ("c", "", b"")
        body = form(("title", None, "Über".encode()), *files, ("to", None, b"x"))
        got = await post(client, body)
        assert got.status == 201 and got.json["fields"] == {"title": "Über", "to": "x"}
        one, two = got.json["uploads"]
        assert (one["filename"], one["type"], one["length"], one["status"]) == ("a b.png", "text/x", len(tricky), 201)
        assert file_of(client, one["location"]).read_bytes() == tricky and file_of(client, two["location"]).read_bytes() == b""
        meta = {"title": "Über", "to": "x"}
        assert fed == [("a b.png", "text/x", meta), ("empty", "text/x", meta)]
        assert (await client.ask("GET", one["location"])).json["state"] == "done"
        assert client.uploads.counts.completed == 2 and client.uploads.counts.active == 0

    play(story, feed=feed)


def test_a_form_byte_by_byte_is_the_same():
    async def story(client):
        body = form(("n", None, b"1"), ("f", "x", b"\r\n--X\r\n-- hello"))
        sending = client.begin("POST", "/up", len(body), content_type='Multipart/Form-Data; charset=x; boundary="X-1"')
        for at in range(len(body)):
            sending.send(body[at : at + 1], at == len(body) - 1)
            await asyncio.sleep(0)
        got = await sending.answer()
        assert got.status == 201 and file_of(client, got.json["uploads"][0]["location"]).read_bytes() == b"\r\n--X\r\n-- hello"

    play(story)


@pytest.mark.parametrize(
    "body, kind, status, word",
    [
        (form(("f", "x", b"1")), "multipart/form-data", 400, "boundary"),
        (form(("f", "x", b"1"), end=b""), KIND, 400, "ends before"),
        (b"", KIND, 400, "ends before"),
        (b"junk\r\n" + form(("f", "x", b"1")), KIND, 400, "multipart"),
        (form(("f", "x", b"1"), end=b"--X-1\r\n\r\nno head\r\n--X-1--"), KIND, 400, "no name"),
        (form(("f", "x", b"1"), ("n" * 256, None, b"1")), KIND, 400, "name"),
        (form(("f", "x" * 5000, b"1")), KIND, 400, "multipart"),
        (form(("f", "x", b"1"), ("n", None, b"1" * 20_000)), KIND, 413, "field n"),
        (form(("f", "x", b"1"), *[(f"n{n}", None, b"1" * 10_000) for n in range(8)]), KIND, 413, "field n"),
        (form(("f", "x", b"1"), *[("n", None, b"")] * 200), KIND, 413, "200 parts"),
        (form(("f", "x", b"1"), ("g", "y", b"1" * 101)), KIND, 413, "100"),
    ],
)
def test_a_form_that_is_wrong_or_too_much_is_refused_and_leaves_nothing(body, kind, status, word):
    async def story(client):
        got = await post(client, body, kind=kind, chunked=True)
        assert got.status == status and word in got.json["title"], got.body
        assert left(client) == [] and client.uploads.counts.completed == 0

    play(story, options=UploadOptions(max=100))


def test_a_form_that_breaks_off_leaves_nothing():
    async def story(client):
        body = form(("f", "x", b"1"), ("g", "y", DATA))
        sending = client.begin("POST", "/up", len(body), content_type=KIND)
        sending.send(body[:200_000])
        while client.uploads.counts.bytes < 100_000:
            await asyncio.sleep(0.001)
        sending.leave()
        while client.route.bodies.running:
            await asyncio.sleep(0.001)
        assert left(client) == [] and client.uploads.counts.aborted == 1

    play(story)


def test_a_digest_is_of_the_whole_form():
    async def story(client):
        body = form(("f", "x", b"1"))
        right = base64.b64encode(hashlib.sha256(body).digest()).decode()
        assert (await post(client, body, content_digest=f"sha-256=:{right}:")).status == 201
        assert (await post(client, form(("f", "x", b"2")), content_digest=f"sha-256=:{right}:")).status == 400
        assert (await post(client, body, repr_digest=f"sha-256=:{right}:")).status == 400
        assert len(left(client)) == 2  # the first, and what is known of it

    play(story)


def test_hooks_and_quotas_are_of_each_file():
    async def before(upload):
        if upload.filename.endswith(".exe"):
            raise Refused("no programs", status=415)

    async def feed(row, exchange):
        if row.filename == "bad":
            raise Refused("not this one", status=422)
        return 201, [], b""

    async def story(client):
        assert (await post(client, form(("f", "x", b"1"), ("g", "y.exe", b"1")))).status == 415
        assert left(client) == []
        got = await post(client, form(("f", "bad", b"1"), ("g", "good", b"1")))
        assert got.status == 422 and [one["status"] for one in got.json["uploads"]] == [422, 201]
        assert file_of(client, got.json["uploads"][1]["location"]).exists()
        got = await post(client, form(("f", "x", b"1" * 60), ("g", "y", b"1" * 60)))
        assert got.status == 413 and "quota" in got.json["title"]

    play(story, before=before, feed=feed, options=UploadOptions(quota=100))


PIECES = [
    b"--X-1", b"\r\n--X-1", b"--", b"\r\n", b"\r", b"\n", b"Content-Disposition: form-data", b'; name="f"', b'; filename="x"',
    b"; name=", b'"', b"\\", b": ", b"\0", b"\xff", b"a" * 300, b"Content-Type: x", b"\r\n\r\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=9)), max_size=40))
def test_no_bytes_of_a_form_are_more_than_refused(pieces):
    parts, seen = uploadforms.Parts(b"X-1"), []
    try:
        for piece in [b'--X-1\r\nContent-Disposition: form-data; name="f"\r\n\r\n', *pieces]:
            seen += parts.feed(piece)
    except Refused as error:
        assert error.status == 400
    assert all(word[0] in ("part", "data", "end") for word in seen)


@pytest.mark.parametrize("name", ['"a\\"b"', '"a"; name="b"', "a b", '"' + "\u00fc" * 60 + '"', '""'])
def test_names_that_are_odd_are_names_or_refused(name):
    async def story(client):
        got = await post(client, b"--X-1\r\nContent-Disposition: form-data; name=" + name.encode() + b"\r\n\r\nv\r\n--X-1--\r\n")
        assert got.status == 200 and list(got.json["fields"].values()) == ["v"]

    play(story)


def test_no_more_than_one_file_of_a_form_is_open(monkeypatch):
    opened = []

    async def story(client):
        claim = client.uploads.storage.claim

        async def counting(row):
            opened.append(writer := await claim(row))
            assert sum([one.fd >= 0 for one in opened]) == 1
            return writer

        client.uploads.storage.claim = counting
        assert (await post(client, form(*[("f", f"x{n}", b"1") for n in range(5)]))).status == 201
        assert len(opened) == 10 and not any([one.fd >= 0 for one in opened])

    play(story)


def test_what_says_it_may_be_resumed_or_asks_an_application_is_not_taken_apart():
    async def story(client):
        body = form(("f", "x", b"1"))
        got = await post(client, body, upload_complete="?1")
        assert file_of(client, got.headers["location"]).read_bytes() == body
        client.route.forms = False
        got = await post(client, body)
        assert file_of(client, got.headers["location"]).read_bytes() == body
        assert uploadforms.PARTS == 200

    play(story)
