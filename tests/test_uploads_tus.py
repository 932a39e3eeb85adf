"""Uploads by tus 1.0: core and its extensions, and what is refused."""

import asyncio
import base64
import hashlib
import os

import pytest

from fairlead.core.errors import Refused
from fairlead.serve.uploads import UploadOptions
from test_uploads import file_of
from uploadrig import STREAM, play

DATA = os.urandom(100_000)


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


async def begun(client, length=100_000, **more):
    got = await client.tus("POST", "/up", upload_length=length, **more)
    assert got.status == 201, got.body
    assert got.headers["tus-resumable"] == "1.0.0"
    return got.headers["location"]


def test_creation_head_patch_to_the_end():
    async def story(client):
        place = await begun(client, upload_metadata=f"filename {b64('../naïve.txt')},draft")
        head = await client.tus("HEAD", place)
        assert (head.status, head.offset, head.headers["upload-length"]) == (200, 0, str(len(DATA)))
        assert head.headers["upload-metadata"] == f"filename {b64('../naïve.txt')},draft"
        assert head.headers["cache-control"] == "no-store" and head.headers["upload-expires"].endswith("GMT")
        got = await client.tus("PATCH", place, DATA[:40_000], upload_offset=0)
        assert (got.status, got.offset) == (204, 40_000)
        got = await client.tus("PATCH", place, DATA[40_000:], upload_offset=40_000)
        assert (got.status, got.offset) == (204, len(DATA)) and "upload-expires" not in got.headers
        assert file_of(client, place).read_bytes() == DATA
        assert (await client.tus("HEAD", place)).offset == len(DATA)
        assert (await client.ask("GET", place)).json["filename"] == "naïve.txt"

    play(story)


def test_creation_with_upload_and_an_empty_one():
    async def story(client):
        got = await client.tus("POST", "/up", DATA[:10], upload_length=len(DATA), content_type=STREAM)
        assert (got.status, got.offset) == (201, 10)
        got = await client.tus("POST", "/up", DATA, upload_length=len(DATA), content_type=STREAM)
        assert (got.status, got.offset) == (201, len(DATA))
        assert file_of(client, got.headers["location"]).read_bytes() == DATA
        place = await begun(client, 0)
        assert file_of(client, place).read_bytes() == b""
        got = await client.tus("POST", "/up", DATA, upload_length=len(DATA), content_type="text/plain")
        assert got.status == 415

    play(story)


def test_a_length_that_comes_later():
    async def story(client):
        got = await client.tus("POST", "/up", upload_defer_length=1)
        place = got.headers["location"]
        assert (await client.tus("HEAD", place)).headers["upload-defer-length"] == "1"
        assert (await client.tus("PATCH", place, b"12345", upload_offset=0)).status == 204
        got = await client.tus("PATCH", place, b"67", upload_offset=5, upload_length=7)
        assert (got.status, got.offset) == (204, 7)
        assert file_of(client, place).read_bytes() == b"1234567"
        for more in ({}, {"upload_defer_length": 2}, {"upload_defer_length": 1, "upload_length": 4}, {"upload_length": "x"}):
            assert (await client.tus("POST", "/up", **more)).status == 400

    play(story)


def test_another_version_is_412():
    async def story(client):
        got = await client.tus("POST", "/up", upload_length=4, version="0.2.2")
        assert (got.status, got.headers["tus-version"]) == (412, "1.0.0")

    play(story)


@pytest.mark.parametrize("name", ["sha1", "md5", "sha256", "sha512"])
def test_a_checksum_is_checked_before_anything_counts(name):
    async def story(client):
        place = await begun(client)
        wrong = await client.tus(
            "PATCH", place, DATA[:50], upload_offset=0, upload_checksum=f"{name} {b64(hashlib.new(name, b'x').digest())}"
        )
        assert wrong.status == 460
        assert (await client.tus("HEAD", place)).offset == 0
        right = f"{name} {b64(hashlib.new(name, DATA[:50]).digest())}"
        got = await client.tus("PATCH", place, DATA[:50], upload_offset=0, upload_checksum=right)
        assert (got.status, got.offset) == (204, 50)

    play(story)


def test_checksums_and_metadata_that_are_junk_are_400():
    async def story(client):
        place = await begun(client)
        for junk in ("crc99 AAAA", "sha1", "sha1 !!!", ""):
            got = await client.tus("PATCH", place, b"x", upload_offset=0, upload_checksum=junk)
            assert got.status == 400, junk
        for junk in ("filename !!!", "a b c", "a YQ==,a YQ==", "ü YQ==", ",,,", ",".join(f"k{n} YQ==" for n in range(65))):
            got = await client.tus("POST", "/up", upload_length=4, upload_metadata=junk)
            assert got.status == 400, junk

    play(story)


def test_wrong_offsets_types_and_ends_are_refused():
    async def story(client):
        place = await begun(client, 5)
        assert (await client.tus("PATCH", place, b"x", upload_offset=3)).status == 409
        assert (await client.tus("PATCH", place, b"x")).status == 400
        assert (await client.tus("PATCH", place, b"x", upload_offset="-1")).status == 400
        assert (await client.tus("PATCH", place, b"x", upload_offset=0, content_type="text/plain")).status == 415
        assert (await client.tus("PATCH", place, b"123456", upload_offset=0)).status == 400
        assert (await client.tus("PATCH", place, b"12345", upload_offset=0)).status == 204
        assert (await client.tus("PATCH", place, b"6", upload_offset=5)).status == 409
        assert (await client.tus("GET", place)).status == 405
        assert (await client.tus("POST", "/up", upload_length=101)).status == 413

    play(story, options=UploadOptions(max=100))


def test_termination():
    async def story(client):
        place = await begun(client)
        assert (await client.tus("DELETE", place)).status == 204
        assert (await client.tus("HEAD", place)).status == 404
        assert (await client.tus("POST", place, x_http_method_override="DELETE")).status == 404
        place = await begun(client)
        assert (await client.tus("POST", place, x_http_method_override="DELETE")).status == 204

    play(story)


def test_concatenation():
    fed = []

    async def feed(row, exchange):
        fed.append(row.length)
        return 201, [], b""

    async def story(client):
        places = []
        for part in (DATA[:60_000], DATA[60_000:]):
            place = await begun(client, len(part), upload_concat="partial")
            places.append(place)
        await client.tus("PATCH", places[0], DATA[:60_000], upload_offset=0)
        final = "final;" + " ".join([places[0], "http://shop.example" + places[1]])
        await client.tus("PATCH", places[1], DATA[60_000:], upload_offset=0)
        assert fed == []
        got = await client.tus("POST", "/up", upload_concat=final)
        assert got.status == 201
        place = got.headers["location"]
        head = await client.tus("HEAD", place)
        assert (head.headers["upload-concat"], head.offset) == (final, len(DATA))
        assert (await client.tus("HEAD", places[0])).headers["upload-concat"] == "partial"
        assert file_of(client, place).read_bytes() == DATA and fed == [len(DATA)]
        assert (await client.tus("PATCH", place, b"x", upload_offset=len(DATA))).status == 403
        assert (await client.tus("POST", "/up", upload_concat=final, upload_length=5)).status == 400
        assert (await client.tus("POST", "/up", upload_concat="other", upload_length=5)).status == 400
        assert (await client.tus("POST", "/up", upload_concat=final, principal="eve")).status == 404

    play(story, feed=feed)


def test_a_concatenation_of_what_is_still_on_its_way():
    fed = []

    async def feed(row, exchange):
        fed.append(row.length)
        return 201, [], b""

    async def story(client, other):
        places = [await begun(client, len(part), upload_concat="partial") for part in (DATA[:60_000], DATA[60_000:])]
        got = await client.tus("POST", "/up", upload_concat="final;" + " ".join(places))
        final = got.headers["location"]
        assert got.status == 201 and "upload-offset" not in got.headers
        await client.tus("PATCH", places[0], DATA[:60_000], upload_offset=0)
        head = await other.tus("HEAD", final)
        assert head.status == 200 and "upload-offset" not in head.headers and "upload-length" not in head.headers
        assert (await client.tus("PATCH", final, b"x", upload_offset=0)).status == 403
        assert (await client.head(final)).headers["upload-complete"] == "?0"
        await client.tus("PATCH", places[1], DATA[60_000:], upload_offset=0)
        while (head := await other.tus("HEAD", final)).headers.get("upload-offset") is None:  # whoever is first makes it
            await asyncio.sleep(0.001)
        assert (head.offset, head.headers["upload-length"]) == (len(DATA), str(len(DATA)))
        while not fed:
            await asyncio.sleep(0.001)
        assert file_of(client, final).read_bytes() == DATA and fed == [len(DATA)]
        lost = await begun(client, 5, upload_concat="partial")
        final = (await client.tus("POST", "/up", upload_concat="final;" + lost)).headers["location"]
        await client.tus("DELETE", lost)
        assert (await client.tus("HEAD", final)).status == 404

    play(story, feed=feed, clients=2)


def test_who_takes_a_concatenation_over_goes_on_where_it_was():
    async def story(client, other):
        places = [await begun(client, 5, upload_concat="partial") for _ in range(2)]
        final = (await client.tus("POST", "/up", upload_concat="final;" + " ".join(places))).headers["location"]
        client.uploads.joined = other.uploads.joined = None  # both are too busy to look
        for place in places:
            row = await client.uploads.find(place.rpartition("/")[2], "")
            writer = await client.uploads.claim(row)
            await writer.write([b"12345"])
            await client.uploads.complete(row, writer)
            await writer.close()
        del client.uploads.joined, other.uploads.joined
        name = final.rpartition("/")[2]
        row = await client.uploads.find(name, "")
        writer = await client.uploads.claim(row)
        await writer.write([b"1234512"])  # and here it died
        await writer.sync()
        assert await other.uploads.sweep() == 1
        assert file_of(client, final).read_bytes() == b"1234512345"

    play(story, clients=2)


@pytest.mark.parametrize("said, status", [("sha1", 204), ("sha256", 204), ("wrong", 460), ("junk", 400), ("none", 400)])
def test_a_checksum_behind_the_body(said, status):
    async def story(client):
        place = await begun(client)
        name = said if said.startswith("sha") else "sha1"
        right = hashlib.new(name, DATA[: 50 - 2 * (said == "wrong")]).digest()
        trailers = {"junk": b"crc99 AAAA"}.get(said, f"{name} {b64(right)}".encode())
        sending = client.begin(
            "PATCH", place, -1, tus_resumable="1.0.0", upload_offset="0", content_type=STREAM, trailer="Upload-Checksum"
        )
        sending.send(DATA[:50])
        sending.peer.conn.end(sending.peer.stream, [(b"upload-checksum", trailers)] if said != "none" else None)
        got = await sending.answer()
        assert got.status == status
        assert (await client.tus("HEAD", place)).offset == (50 if status == 204 else 0)

    play(story)


def test_a_last_byte_whose_request_died_is_finished_by_head():
    async def story(client):
        place = await begun(client, 5)
        row = await client.uploads.find(place.rpartition("/")[2], "")
        writer = await client.uploads.claim(row)
        await writer.write([b"12345"])
        await writer.sync()
        await writer.close()
        assert (await client.tus("HEAD", place)).offset == 5
        assert file_of(client, place).read_bytes() == b"12345"

    play(story)


def test_what_it_feeds_may_refuse():
    async def feed(row, exchange):
        raise Refused("no such things here", status=422)

    async def story(client):
        place = await begun(client, 5)
        got = await client.tus("PATCH", place, b"12345", upload_offset=0)
        assert got.status == 422 and b"no such things" in got.body

    play(story, feed=feed)


def test_an_interrupted_patch_goes_on():
    async def story(client):
        place = await begun(client)
        sending = client.begin(
            "PATCH", place, len(DATA), tus_resumable="1.0.0", upload_offset="0", content_type=STREAM
        )
        await sending.send(DATA[:30_000]).stored(30_000)
        sending.leave()
        head = await client.tus("HEAD", place)
        assert head.offset == 30_000
        await asyncio.sleep(0)
        got = await client.tus("PATCH", place, DATA[30_000:], upload_offset=30_000)
        assert got.offset == len(DATA) and file_of(client, place).read_bytes() == DATA

    play(story)
