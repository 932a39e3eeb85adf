"""Uploads by the IETF draft and whole, as clients see them: beginning, going on, two at once, lies, limits, ends."""

import asyncio
import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from fairlead.core.errors import Refused
from fairlead.serve import uploadbody
from fairlead.serve.jobs import JobKind, JobOptions, Jobs, queue_of
from fairlead.serve.uploadfeeds import Feeds
from fairlead.serve.uploads import FINISHING, UploadOptions, loaded
from uploadrig import Client, play

DATA = os.urandom(300_000)


def sha(data):
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def file_of(client, place):
    return Path(client.uploads.storage.path) / place.rpartition("/")[2]


async def begun(client, body=b"", **more):
    got = await client.ask("POST", "/up", body, upload_complete="?0", **more)
    assert got.status == 201, got.body
    return got.headers["location"]


def test_a_whole_upload_in_one_request_is_there_and_told():
    async def story(client):
        got = await client.ask("POST", "/up", DATA, upload_complete="?1", content_disposition='inline; filename="a b.txt"')
        assert (got.status, got.headers["upload-complete"]) == (201, "?1")
        place = got.headers["location"]
        assert file_of(client, place).read_bytes() == DATA
        assert got.json["filename"] == "a b.txt" and got.json["length"] == len(DATA)
        head = await client.head(place)
        assert head.status == 204
        assert (head.headers["upload-complete"], head.offset, head.headers["upload-length"]) == ("?1", len(DATA), str(len(DATA)))
        assert head.headers["cache-control"] == "no-store"
        assert not os.listdir(client.uploads.storage.hidden)

    play(story)


def test_parts_come_one_after_the_other_and_in_other_workers():
    async def story(first, second):
        place = await begun(first, DATA[:100], upload_length=len(DATA))
        got = await second.patch(place, DATA[100:200_000], 100, complete=False)
        assert (got.status, got.headers["upload-complete"], got.offset) == (204, "?0", 200_000)
        assert (await first.head(place)).offset == 200_000
        got = await first.patch(place, DATA[200_000:], 200_000)
        assert (got.status, got.headers["upload-complete"]) == (201, "?1")
        assert file_of(first, place).read_bytes() == DATA

    play(story, clients=2)


def test_an_interrupted_upload_goes_on_where_it_was():
    async def story(client):
        sending = client.begin("POST", "/up", len(DATA), upload_complete="?1", upload_draft_interop_version="8")
        sending.send(DATA[:70_000])
        while not sending.peer.codec.said:
            await asyncio.sleep(0.001)
        place = dict(sending.peer.codec.said[0][2])[b"location"].decode()
        sending.leave()
        head = await client.head(place)
        assert head.headers["upload-complete"] == "?0" and 0 <= head.offset <= 70_000
        got = await client.patch(place, DATA[head.offset :], head.offset)
        assert got.status == 201
        assert file_of(client, place).read_bytes() == DATA

    play(story)


def test_104_is_for_those_who_ask_for_this_version():
    async def story(client):
        for version, count in (("8", 1), ("7", 0), (None, 0)):
            more = {} if version is None else {"upload_draft_interop_version": version}
            got = await client.ask("POST", "/up", b"x", upload_complete="?1", **more)
            assert len(got.interims) == count
            if count:
                assert got.interims[0][b"location"].decode() == got.headers["location"]
                assert b"max-age=" in got.interims[0][b"upload-limit"]

    play(story)


def test_a_plain_request_needs_no_words():
    async def story(client):
        got = await client.ask("PUT", "/up/report%20May.pdf", DATA, content_type="application/pdf")
        assert got.status == 201 and "upload-complete" not in got.headers
        assert got.json["filename"] == "report May.pdf" and got.json["type"] == "application/pdf"
        assert file_of(client, got.headers["location"]).read_bytes() == DATA
        got = await client.ask("POST", "/up", DATA, chunked=True)
        assert got.status == 201 and file_of(client, got.headers["location"]).read_bytes() == DATA

    play(story)


def test_a_plain_request_that_breaks_off_leaves_nothing():
    async def story(client):
        sending = client.begin("POST", "/up", len(DATA))
        sending.send(DATA[:1000])
        while not client.uploads.active:
            await asyncio.sleep(0.001)
        sending.leave()
        while client.route.bodies.running:
            await asyncio.sleep(0.001)
        assert os.listdir(client.uploads.storage.path) == [".uploads"]
        assert not os.listdir(client.uploads.storage.hidden)

    play(story)


def test_names_are_never_paths():
    async def story(client):
        for name in ("..%2F..%2Fetc%2Fpasswd", "..%5C..%5Cpasswd", "%2Fetc%2Fpasswd"):
            got = await client.ask("PUT", f"/up/{name}", b"x")
            assert got.json["filename"] == "passwd"
        got = await client.ask("POST", "/up", b"x", content_disposition="inline; filename*=UTF-8''..%2F%2e%2e%2Fx%00y")
        assert got.json["filename"] == "xy"
        got = await client.ask("PUT", "/up/a/b", b"x")
        assert got.status == 404

    play(story)


@pytest.mark.parametrize("offset", [0, 99, 101, 10**14])
def test_a_wrong_offset_is_refused_with_the_right_one(offset):
    async def story(client):
        place = await begun(client, DATA[:100])
        got = await client.patch(place, b"y" * 10, offset)
        assert (got.status, got.offset) == (409, 100)
        assert got.json["type"].endswith("#mismatching-upload-offset")
        assert (got.json["expected-offset"], got.json["provided-offset"]) == (100, offset)
        assert (await client.head(place)).offset == 100

    play(story)


def test_a_patch_without_its_words_is_refused():
    async def story(client):
        place = await begun(client)
        for headers in ({"upload_offset": "0"}, {"upload_complete": "?1"}, {"upload_offset": "x", "upload_complete": "?1"}):
            got = await client.ask("PATCH", place, b"x", content_type="application/partial-upload", **headers)
            assert got.status == 400
        got = await client.ask("PATCH", place, b"x", content_type="text/plain", upload_offset="0", upload_complete="?1")
        assert got.status == 415 and got.headers["accept-patch"] == "application/partial-upload"
        assert (await client.head(place)).offset == 0

    play(story)


def test_lengths_that_contradict_each_other_are_refused():
    async def story(client):
        got = await client.ask("POST", "/up", b"12345", upload_complete="?1", upload_length="6")
        assert got.status == 400 and got.json["type"].endswith("#inconsistent-upload-length")
        place = await begun(client, b"12345", upload_length="10")
        got = await client.patch(place, b"6", 5)  # its end would be 6
        assert got.status == 400
        got = await client.patch(place, b"67", 5, complete=False, upload_length="11")
        assert got.status == 400
        got = await client.patch(place, b"678901", 5, complete=False)  # announced: nothing is written
        assert got.status == 400 and got.json["type"].endswith("#inconsistent-upload-length")
        assert (await client.head(place)).offset == 5
        got = await client.patch(place, b"67890", 5)
        assert got.status == 201

    play(story)


def test_more_than_was_said_ends_the_upload():
    async def story(client):
        place = await begun(client, b"12345", upload_length="10")
        got = await client.patch(place, b"678901", 5, complete=False, chunked=True)
        assert got.status == 400 and got.json["type"].endswith("#inconsistent-upload-length")
        assert (await client.head(place)).status == 404

    play(story)


def test_a_lying_content_length_is_kept_and_not_complete():
    async def story(client):
        place = await begun(client)
        sending = client.patching(place, 1000, 0)
        await sending.send(b"x" * 10).stored(10)
        sending.leave()
        head = await client.head(place)
        assert (head.headers["upload-complete"], head.headers["upload-length"]) == ("?0", "1000")

    play(story)


def test_what_is_complete_takes_no_more():
    async def story(client):
        place = await begun(client, b"12345")
        assert (await client.patch(place, b"", 5)).status == 201
        got = await client.patch(place, b"", 5)
        assert got.status == 400 and got.json["type"].endswith("#completed-upload")
        got = await client.patch(place, b"6", 5)
        assert got.status == 400 and got.json["type"].endswith("#inconsistent-upload-length")
        assert file_of(client, place).read_bytes() == b"12345"

    play(story)


def test_above_the_limit_is_413_with_the_limit():
    async def story(client):
        assert (await client.ask("OPTIONS", "/up")).headers["upload-limit"] == "max-size=100"
        got = await client.ask("POST", "/up", b"x" * 101, upload_complete="?1")
        assert got.status == 413 and got.headers["upload-limit"] == "max-size=100"
        got = await client.ask("POST", "/up", b"x" * 101, upload_complete="?1", chunked=True)
        assert got.status == 413
        got = await client.ask("POST", "/up", b"", upload_complete="?0", upload_length="101")
        assert got.status == 413
        got = await client.ask("POST", "/up", b"x" * 100, upload_complete="?1", chunked=True)
        assert got.status == 201

    play(story, options=UploadOptions(max=100))


def test_options_says_what_is_taken():
    async def story(client):
        got = await client.ask("OPTIONS", "/up")
        assert got.status == 204 and got.headers["accept-patch"] == "application/partial-upload"
        assert got.headers["tus-version"] == "1.0.0" and "concatenation" in got.headers["tus-extension"]

    play(story)


def test_a_newer_request_takes_over_in_the_same_worker():
    async def story(client):
        place = await begun(client)
        old = client.patching(place, 1000, 0)
        await old.send(b"a" * 10).stored(10)
        head = await client.head(place)
        got = await old.answer()
        assert got.status == 409
        old.send(b"b" * 10)
        await client.patch(place, b"c" * (1000 - head.offset), head.offset)
        assert file_of(client, place).read_bytes() == b"a" * head.offset + b"c" * (1000 - head.offset)

    play(story)


def test_a_newer_request_takes_over_from_another_worker():
    async def story(one, two):
        place = await begun(one)
        old = one.patching(place, 1000, 0)
        await old.send(b"a" * 10).stored(10)
        head = await two.head(place)
        old.send(b"b" * 10)
        assert (await old.answer()).status == 409
        assert (await one.head(place)).offset == head.offset
        got = await two.patch(place, b"c" * (1000 - head.offset), head.offset)
        assert got.status == 201
        assert file_of(one, place).read_bytes() == b"a" * head.offset + b"c" * (1000 - head.offset)

    play(story, clients=2)


def test_many_writers_at_once_never_mix():
    async def story(*clients):
        place = await begun(clients[0], upload_length=len(DATA))

        async def push(client):
            while True:
                head = await client.head(place)
                if head.status != 204 or head.headers["upload-complete"] == "?1":
                    return
                end = min(len(DATA), head.offset + 40_000)
                await client.patch(place, DATA[head.offset : end], head.offset, complete=end == len(DATA))

        await asyncio.gather(*[push(client) for client in clients for _ in range(2)])
        assert file_of(clients[0], place).read_bytes() == DATA

    play(story, clients=3)


def test_delete_ends_it_for_everybody():
    async def story(one, two):
        place = await begun(one)
        old = one.patching(place, 1000, 0)
        await old.send(b"a" * 10).stored(10)
        assert (await two.ask("DELETE", place)).status == 204
        old.send(b"b" * 10)
        assert (await old.answer()).status in (404, 409)
        assert (await one.head(place)).status == 404
        assert not os.listdir(one.uploads.storage.hidden)

    play(story, clients=2)


def test_an_upload_belongs_to_its_principal():
    async def story(client):
        place = await begun(client, b"x", principal="ann")
        assert (await client.head(place, principal="bob")).status == 404
        assert (await client.head(place)).status == 404
        assert (await client.ask("DELETE", place, principal="bob")).status == 404
        assert (await client.head(place, principal="ann")).status == 204

    play(story)


def test_a_content_digest_is_checked_before_anything_counts():
    async def story(client):
        place = await begun(client, b"abc")
        got = await client.patch(place, DATA, 3, complete=False, content_digest=sha(DATA[1:]))
        assert got.status == 400
        assert (await client.head(place)).offset == 3
        sending = client.patching(place, len(DATA), 3, complete=False, content_digest=sha(DATA))
        await sending.send(DATA[:50_000]).stored(50_003)
        sending.leave()
        assert (await client.head(place)).offset == 3  # it cannot be known whether that was right
        assert (await client.patch(place, DATA, 3, content_digest=sha(DATA))).status == 201
        assert file_of(client, place).read_bytes() == b"abc" + DATA
        assert (await client.patch(await begun(client), b"x", 0, content_digest="sha-256=nonsense")).status == 400

    play(story)


def test_what_was_held_when_a_worker_died_does_not_count():
    async def story(one, two):
        place = await begun(one, b"abc")
        row = await one.uploads.find(place.rpartition("/")[2], "")
        writer = await one.uploads.claim(row)
        await writer.hold()
        await writer.write([DATA])
        await writer.sync()  # and here it dies
        assert (await two.head(place)).offset == 3

    play(story, clients=2)


def test_after_a_power_failure_only_what_was_synced_counts():
    async def story(client):
        place = await begun(client, b"abc")
        storage = client.uploads.storage
        name = place.rpartition("/")[2]
        with open(storage.hidden / name, "ab") as file:
            file.write(b"garbage")
        assert (await client.head(place)).offset == 10  # the same machine: the page cache is the truth
        with open(storage.hidden / name, "ab") as file:
            file.write(b"garbage")
        storage.boot = bytes(range(16))
        assert (await client.head(place)).offset == 10

    play(story)


def test_a_repr_digest_is_checked_at_the_end_and_given_when_wanted():
    async def story(client):
        place = await begun(client, DATA[:1000], repr_digest=sha(DATA))
        got = await client.patch(place, DATA[1000:-1] + bytes([DATA[-1] ^ 1]), 1000)
        assert got.status == 400
        assert (await client.head(place)).status == 404
        got = await client.ask("POST", "/up", DATA, upload_complete="?1", repr_digest=sha(DATA), want_repr_digest="sha-256=5")
        assert got.status == 201 and got.headers["repr-digest"] == sha(DATA)

    play(story)


def test_what_expires_is_gone_with_its_bytes():
    async def story(client):
        place = await begun(client, b"abc")
        client.uploads.options = UploadOptions(keep=-1.0)
        old = await begun(client, b"abc")
        assert (await client.head(old)).status == 410
        assert await client.uploads.sweep() >= 1
        assert (await client.head(old)).status == 404
        assert not (client.uploads.storage.hidden / old.rpartition("/")[2]).exists()
        client.uploads.options = UploadOptions()
        assert (await client.head(place)).offset == 3

    play(story)


def test_orphans_are_swept():
    async def story(client):
        await client.uploads.start()
        client.uploads.storage.make("A" * 22)
        for name in os.listdir(client.uploads.storage.hidden):
            os.utime(client.uploads.storage.hidden / name, (1, 1))
        place = await begun(client, b"abc")
        await client.uploads.sweep()
        assert (await client.head(place)).offset == 3
        assert {name.partition(".")[0] for name in os.listdir(client.uploads.storage.hidden)} == {place.rpartition("/")[2]}

    play(story)


def test_quotas_of_a_principal_and_of_all():
    async def story(client):
        kept = await begun(client, upload_length=60, principal="ann")
        got = await client.ask("POST", "/up", b"", upload_complete="?0", upload_length=50, principal="ann")
        assert got.status == 413 and "quota" in got.json["title"]
        assert (await client.ask("POST", "/up", b"x" * 80, upload_complete="?1", principal="bob")).status == 201
        got = await client.ask("POST", "/up", b"x" * 30, upload_complete="?1", principal="eve")
        assert got.status == 507
        assert (await client.ask("DELETE", kept, principal="ann")).status == 204
        assert (await client.ask("POST", "/up", b"x" * 30, upload_complete="?1", principal="eve")).status == 201
        places = [await begun(client, principal="cat") for _ in range(2)]
        got = await client.ask("POST", "/up", b"", upload_complete="?0", principal="cat")
        assert got.status == 429 and got.headers["retry-after"]
        assert (await client.patch(places[0], b"x", 0, principal="cat")).status == 201
        assert (await client.ask("POST", "/up", b"", upload_complete="?0", principal="cat")).status == 201

    play(story, options=UploadOptions(quota=100, total=150, unfinished=2))


def test_bytes_that_nobody_announced_count_as_they_come():
    async def story(client):
        got = await client.ask("POST", "/up", b"x" * 90, upload_complete="?1", chunked=True)
        assert got.status == 201
        place = await begun(client)
        got = await client.patch(place, b"x" * 11, 0, chunked=True)
        assert got.status == 413 and "quota" in got.json["title"]
        assert (await client.patch(place, b"x" * 10, 0, chunked=True)).status == 201
        assert (await client.ask("POST", "/up", b"x", upload_complete="?1", principal="bob")).status == 507

    play(story, options=UploadOptions(quota=100, total=100))


def test_progress_is_told_to_those_who_listen(monkeypatch):
    monkeypatch.setattr(uploadbody, "PROGRESS", -1.0)

    async def story(client):
        for version, told in (("8", True), ("7", False)):
            place = await begun(client, DATA[:5])
            sending = client.patching(place, 20, 5, upload_draft_interop_version=version)
            for count in range(20):
                sending.send(b"x", count == 19)
                await sending.stored(6 + count)
            got = await sending.answer()
            offsets = [int(fields[b"upload-offset"]) for fields in got.interims]
            assert bool(offsets) == told and offsets == sorted(offsets) and len(offsets) <= uploadbody.INTERIMS
            assert not [fields for fields in got.interims if b"location" in fields]

    play(story)


def test_a_full_disk_keeps_what_was_written():
    import resource
    import signal

    async def story(client):
        place = await begun(client, upload_length=len(DATA))
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        try:
            got = await client.patch(place, DATA, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, handler)
        assert got.status == 507
        assert (await client.head(place)).offset == 100_000
        assert (await client.patch(place, DATA[100_000:], 100_000)).status == 201
        assert file_of(client, place).read_bytes() == DATA

    play(story)


def test_before_may_refuse_and_change_the_name():
    async def before(upload):
        if upload.length is None or upload.length > 10:
            raise Refused("only small ones here", status=403)
        upload.filename = "../x/renamed.txt"

    async def story(client):
        got = await client.ask("POST", "/up", b"x" * 11, upload_complete="?1")
        assert got.status == 403 and got.json["title"] == "only small ones here"
        got = await client.ask("POST", "/up", b"x", upload_complete="?1")
        assert got.json["filename"] == "renamed.txt"

    play(story, before=before)


def test_what_it_feeds_makes_the_answer_and_may_reject():
    async def feed(row, exchange):
        if row.length == 3:
            raise Refused("three is too few", status=422)
        if row.length == 4:
            raise ValueError("a bug")
        return 200, [(b"content-type", b"text/plain")], b"thanks"

    async def story(client):
        got = await client.ask("POST", "/up", b"12345", upload_complete="?1")
        assert (got.status, got.body, got.headers["upload-complete"]) == (200, b"thanks", "?1")
        told = await client.ask("GET", got.headers["location"])
        assert told.json["answer"]["body"] == "thanks" and told.json["state"] == "done"
        got = await client.ask("POST", "/up", b"123", upload_complete="?1")
        assert (got.status, got.headers["upload-complete"]) == (422, "?1")
        assert not file_of(client, got.headers["location"]).exists()
        got = await client.ask("POST", "/up", b"1234", upload_complete="?1")
        assert got.status == 500 and file_of(client, got.headers["location"]).exists()

    play(story, feed=feed)


def test_another_worker_finishes_what_one_left_in_the_middle():
    fed = []

    async def feed(row, exchange):
        fed.append(row.id)
        return 201, [], b""

    async def story(one, two):
        place = await begun(one, b"12345", upload_length=5)
        name = place.rpartition("/")[2]
        row = await one.uploads.find(name, "")
        row.state, row.by = FINISHING, "dead"
        await one.uploads.state.put_if(one.uploads.root + name, row.stored(), row.version, due=1.0)
        assert await two.uploads.sweep() == 1
        assert fed == [name] and file_of(two, place).read_bytes() == b"12345"
        assert loaded(await one.uploads.state.get(one.uploads.root + name)).state == "done"
        assert (await one.head(place)).headers["upload-complete"] == "?1"

    play(story, feed=feed, clients=2)


def test_a_topic_and_a_job_hear_of_a_file_once_however_often_its_end_begins():
    told = []

    async def made(upload):
        return upload

    async def story(one, two):
        store = one.uploads.store
        jobs = Jobs(store)
        jobs.add(JobKind(made, "made", JobOptions()))
        for client in (one, two):
            uploads = client.uploads
            uploads.feed = Feeds(
                uploads.storage, done=lambda upload: told.append(upload.id), topic="news", log=store.log, jobs=jobs, kind="made"
            )
        place = (await one.ask("POST", "/up", b"12345", upload_complete="?1")).headers["location"]
        name = place.rpartition("/")[2]
        entry = await store.state.get(one.uploads.root + name)
        row = loaded(entry)
        row.state, row.by = FINISHING, "died before it could write that it was done"
        await store.state.put_if(one.uploads.root + name, row.stored(), row.version, due=1.0)
        assert await two.uploads.sweep() == 1
        assert told == [name, name]
        (event,) = (await store.log.read("news", None)).events
        assert json.loads(event.data)["id"] == name
        assert (await store.leases.depth(queue_of("made"))).ready == 1

    play(story, clients=2)


def test_the_answer_waits_for_no_client():
    async def feed(row, exchange):
        await asyncio.sleep(0.01)
        return 201, [], b"made"

    async def story(client):
        place = await begun(client, b"12345")
        sending = client.patching(place, 0, 5)
        sending.leave()
        while (await client.ask("GET", place)).json["state"] != "done":
            await asyncio.sleep(0.005)
        assert (await client.ask("GET", place)).json["answer"]["body"] == "made"

    play(story, feed=feed)


def test_back_pressure_holds_the_client():
    async def story(client):
        place = await begun(client)
        row = await client.uploads.find(place.rpartition("/")[2], "")
        gate = asyncio.Event()
        claim = client.uploads.storage.claim

        async def slow(row):
            writer = await claim(row)
            write = writer.write

            async def waits(chunks):
                await gate.wait()
                await write(chunks)

            writer.write = waits
            return writer

        client.uploads.storage.claim = slow
        sending = client.patching(place, -1, 0)
        chunk, sent, codec = b"z" * 65536, 0, sending.peer.codec

        async def push(until, turns):
            nonlocal sent
            for _ in range(turns):
                if sent < until and sent - codec.credited < len(chunk):  # the window, which a codec keeps to
                    sending.send(chunk)
                    sent += len(chunk)
                await asyncio.sleep(0.001)

        await push(100 * len(chunk), 200)
        assert sent <= 3 << 20  # of 6.4 MiB
        gate.set()
        while sent < 100 * len(chunk):
            await push(100 * len(chunk), 1)
        sending.send(b"", True)
        assert (await sending.answer()).status == 201
        assert codec.credited == 100 * len(chunk)
        assert row.id in place

    play(story)


def test_where_the_time_went_is_told_and_what_came_of_it_is_counted():
    async def feed(row, exchange):
        return (422, [], b"") if row.length == 3 else (201, [], b"")

    async def story(client):
        sending = client.begin("POST", "/up", 5, upload_complete="?1", content_digest=sha(b"12345"))
        sending.send(b"12345", True)
        await sending.answer()
        steps = sending.peer.watcher.finished[0].journey.custom
        assert {name for name, _, _ in steps} == {"receive", "digest", "write", "finish", "feed"}
        assert all([start > 0 and took >= 0 for _, start, took in steps])
        place = await begun(client, b"abc")
        broken = client.patching(place, 1000, 3)
        await broken.send(b"x" * 10).stored(13)
        assert client.uploads.counts.active == 1
        broken.leave()
        while client.uploads.counts.active:
            await asyncio.sleep(0.001)
        assert (await client.patch(place, b"y" * 990, 13)).status == 201
        assert (await client.ask("POST", "/up", b"123", upload_complete="?1")).status == 422
        await client.ask("DELETE", await begun(client))
        client.uploads.options = UploadOptions(keep=-1.0)
        await begun(client)
        await client.uploads.sweep()
        assert client.uploads.counts.told() == {
            "started": 5, "completed": 2, "rejected": 1, "resumed": 2, "aborted": 1, "cancelled": 1, "expired": 1,
            "bytes": 1011, "active": 0,
        }  # fmt: skip

    play(story, feed=feed)


def test_a_server_that_stops_keeps_what_it_has():
    async def story(client):
        place = await begun(client)
        sending = client.patching(place, 1000, 0)
        await sending.send(b"x" * 10).stored(10)
        sending.peer.conn.farewell()
        got = await sending.answer()
        assert got.status == 503 and got.headers["retry-after"]
        assert (await client.head(place)).offset == 10

    play(story)


def test_a_client_is_not_fooled_by_ids():
    async def story(client):
        for name in ("x", "A" * 22, "../" + "A" * 19, "%00" * 7):
            assert (await client.head("/up/" + name)).status == 404
        assert isinstance(client, Client)

    play(story)
