"""Uploads to S3-compatible storage, against moto's server: parts, the tail, fences, digests, the end done twice, leftovers."""

import asyncio
import base64
import hashlib
import os

import pytest

from fairlead.serve import uploads3
from fairlead.serve.uploads import UploadOptions
from fairlead.serve.uploads3 import S3, client_of, offset_of
from uploadrig import STREAM, play

moto = pytest.importorskip("moto.server")
BLOCK = os.urandom(1 << 20)
DATA = b"".join(bytes([number]) + BLOCK[1:] for number in range(11)) + b"the end"  # two parts and something


@pytest.fixture(scope="module")
def endpoint():
    given = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        patch.setattr(uploads3, "PART", 5 << 20)  # the least that S3 takes
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


def run(endpoint, story, **more):
    """A story with a bucket of its own. `more` goes to `play`."""
    bucket = f"b{os.urandom(6).hex()}"

    def make(folder):
        client_of(endpoint, "").create_bucket(Bucket=bucket)
        return S3(f"s3://{bucket}/pre/fix", endpoint=endpoint)

    play(story, storage=make, **more)


async def stored(client, place):
    storage = client.uploads.storage
    found = await storage.call("get_object", Key="pre/fix/" + place.rpartition("/")[2])
    return await asyncio.to_thread(found["Body"].read)


async def left(client):
    """Names of objects, and how many multipart uploads are open."""
    storage = client.uploads.storage
    objects = (await storage.call("list_objects_v2")).get("Contents", [])
    open_ones = (await storage.call("list_multipart_uploads")).get("Uploads", [])
    return [one["Key"] for one in objects], len(open_ones)


async def sent(client, place, data, offset, complete=True, **more):
    """A PATCH whose body comes in pieces, as from a socket."""
    sending = client.patching(place, len(data), offset, complete, **more)
    for at in range(0, len(data), 65536):
        sending.send(data[at : at + 65536], at + 65536 >= len(data))
        await asyncio.sleep(0)
    return await sending.answer()


def test_parts_and_a_tail_become_one_object(endpoint):
    async def story(one, two):
        got = await one.ask("POST", "/up", b"", upload_complete="?0", upload_length=len(DATA), content_type="image/png")
        place = got.headers["location"]
        cuts = [0, 3_000_000, 3_000_005, 7_000_000, len(DATA)]  # a tail, one that grows, parts and a tail, the rest
        for client, start, end in zip((one, two, one, two), cuts, cuts[1:]):
            got = await sent(client, place, DATA[start:end], start, complete=end == len(DATA))
            assert got.status == (201 if end == len(DATA) else 204), got.body
            assert (await client.head(place)).offset == end
        assert await stored(one, place) == DATA
        assert await left(one) == (["pre/fix/" + place.rpartition("/")[2]], 0)

    run(endpoint, story, clients=2)


def test_small_and_empty_ones(endpoint):
    async def story(client):
        for data in (b"", b"12345"):
            got = await client.ask("PUT", "/up/a.txt", data)
            assert got.status == 201 and await stored(client, got.headers["location"]) == data
        assert (await left(client))[1] == 0

    run(endpoint, story)


def test_a_newer_request_takes_over_from_another_worker(endpoint):
    async def story(one, two):
        got = await one.ask("POST", "/up", b"abc", upload_complete="?0", upload_length=6_000_003)
        place = got.headers["location"]
        old = one.patching(place, 6_000_000, 3)
        old.send(b"x" * 500_000)
        while not one.uploads.active:
            await asyncio.sleep(0.001)
        head = await two.head(place)
        assert head.offset == 3
        for _ in range(11):
            old.send(b"x" * 500_000)
            await asyncio.sleep(0.001)
        assert (await old.answer()).status == 409
        assert (await sent(two, place, b"y" * 6_000_000, 3)).status == 201
        assert await stored(two, place) == b"abc" + b"y" * 6_000_000

    run(endpoint, story, clients=2)


def test_what_broke_off_is_kept_as_a_tail(endpoint):
    async def story(client):
        place = (await client.ask("POST", "/up", b"", upload_complete="?0")).headers["location"]
        sending = client.patching(place, 1_000_000)
        sending.send(b"z" * 400_000)
        while not client.uploads.active:
            await asyncio.sleep(0.001)
        sending.leave()
        while client.route.bodies.running:
            await asyncio.sleep(0.001)
        head = await client.head(place)
        assert head.offset == 400_000
        assert (await client.patch(place, b"z" * 600_000, 400_000)).status == 201
        assert await stored(client, place) == b"z" * 1_000_000

    run(endpoint, story)


def test_digests_hold_parts_back_and_check_the_whole(endpoint):
    def sha(data):
        return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"

    async def story(client):
        got = await client.ask("POST", "/up", b"abc", upload_complete="?0", repr_digest=sha(b"abc" + DATA))
        place = got.headers["location"]
        got = await sent(client, place, DATA, 3, content_digest=sha(b"other"))
        assert got.status == 400 and (await client.head(place)).offset == 3
        got = await sent(client, place, DATA, 3, content_digest=sha(DATA))
        assert got.status == 201 and await stored(client, place) == b"abc" + DATA
        got = await client.ask("POST", "/up", b"abc", upload_complete="?1", repr_digest=sha(b"abd"))
        assert got.status == 400
        assert await left(client) == (["pre/fix/" + place.rpartition("/")[2]], 0)

    run(endpoint, story)


def test_the_end_may_be_done_again(endpoint):
    async def story(client):
        place = (await client.ask("POST", "/up", b"12345", upload_complete="?0", upload_length=5)).headers["location"]
        row = await client.uploads.find(place.rpartition("/")[2], "")
        assert offset_of(row) == 5
        await client.uploads.storage.finish(row)  # and then it dies
        got = await client.patch(place, b"", 5)
        assert got.status == 201 and await stored(client, place) == b"12345"

    run(endpoint, story)


def test_cancelled_and_expired_ones_leave_nothing(endpoint):
    async def story(client):
        place = (await client.ask("POST", "/up", b"abc", upload_complete="?0")).headers["location"]
        assert await left(client) != ([], 0)
        assert (await client.ask("DELETE", place)).status == 204
        client.uploads.options = UploadOptions(keep=-1.0)
        await client.ask("POST", "/up", b"abc", upload_complete="?0")
        await client.uploads.sweep()
        assert await left(client) == ([], 0)

    run(endpoint, story)


def test_tus_concatenation_and_a_bucket_that_is_not_there(endpoint):
    async def story(client):
        places = []
        for part in (b"123", b"45"):
            got = await client.tus(
                "POST", "/up", part, upload_length=len(part), upload_concat="partial", content_type=STREAM
            )
            places.append(got.headers["location"])
        got = await client.tus("POST", "/up", upload_concat="final;" + " ".join(places))
        assert got.status == 201 and await stored(client, got.headers["location"]) == b"12345"
        client.uploads.storage.bucket = "nowhere"
        got = await client.ask("PUT", "/up/x", b"1")
        assert got.status >= 400

    run(endpoint, story)


def test_a_form_and_a_concatenation_that_waits(endpoint):
    async def story(client, other):
        pytest.importorskip("python_multipart")
        parts = [f'--x\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'.encode() for name in ("a", "b")]
        form = parts[0] + DATA[: 6 << 20] + b"\r\n" + parts[1] + b"tail\r\n--x--\r\n"
        got = await client.ask("POST", "/up", form, content_type="multipart/form-data; boundary=x")
        assert got.status == 201, got.body
        one, two = [place["location"] for place in got.json["uploads"]]
        assert await stored(client, one) == DATA[: 6 << 20] and await stored(client, two) == b"tail"
        got = await client.ask("POST", "/up", form[:-8], content_type="multipart/form-data; boundary=x")
        names, open_ones = await left(client)
        assert got.status == 400 and len(names) == 2 and not open_ones
        got = await client.tus("POST", "/up", upload_length=4, upload_concat="partial")
        place = got.headers["location"]
        final = (await client.tus("POST", "/up", upload_concat="final;" + place)).headers["location"]
        assert "upload-offset" not in (await other.tus("HEAD", final)).headers
        await client.tus("PATCH", place, b"1234", upload_offset=0)
        while (await client.ask("GET", final)).json["state"] != "done":
            await other.uploads.sweep()
        assert await stored(client, final) == b"1234"

    run(endpoint, story, clients=2)
