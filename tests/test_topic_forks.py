"""Forks of topics over the memory store: what is inherited, which offsets hold, what a deleted source is while forks of it live."""

import asyncio
import json

import pytest

from fairlead.serve import topicforks
from test_topics import JSON, header, play

TEXT = (b"content-type", b"text/plain")
START = b"0000000000000000_0000000000000000"


async def fork(server, path, *headers, kind=TEXT, body=b""):
    return await server.done("PUT", path, body, kind, *headers)


def made_from(source, *more):
    return ((b"stream-forked-from", source), *more)


async def text_of(server, path):
    peer = await server.done("GET", path)
    assert peer.status == 200, peer.answer
    return peer.answer


def test_a_fork_has_what_the_source_had_and_goes_its_own_way():
    async def story(server):
        first = await server.done("PUT", "/t/a", b"one", TEXT)
        await server.done("POST", "/t/a", b"two", TEXT)
        middle = header(first, "stream-next-offset").encode()
        assert (await fork(server, "/t/b", *made_from(b"/t/a"))).status == 201
        assert (await fork(server, "/t/c", *made_from(b"/t/a", (b"stream-fork-offset", middle)))).status == 201
        beyond = made_from(b"/t/a", (b"stream-fork-offset", middle), (b"stream-fork-sub-offset", b"2"))
        assert (await fork(server, "/t/d", *beyond, body=b"!")).status == 201
        await server.done("POST", "/t/a", b"three", TEXT)
        await server.done("POST", "/t/b", b"+", TEXT)
        assert [await text_of(server, f"/t/{one}") for one in "abcd"] == [b"onetwothree", b"onetwo+", b"one", b"onetw!"]

    play(story)


def test_an_offset_of_the_source_holds_in_the_fork_up_to_where_it_was_forked():
    async def story(server):
        first = await server.publish(1)
        second = await server.publish(2)
        while int(await server.store.now() * 1000) <= int(second.partition("_")[0]):
            await asyncio.sleep(0)  # the fork's epoch is another one
        await fork(server, "/t/b", *made_from(b"/t/a"), kind=JSON)
        third = await server.publish(3)
        await server.publish(4, topic="b")
        assert await text_of(server, f"/t/b?offset={first}") == b"[2,4]"
        assert await text_of(server, f"/t/b?offset={second}") == b"[4]"
        assert (await server.done("GET", f"/t/b?offset={third}")).status == 410

    play(story)


def test_a_deleted_source_is_410_as_long_as_a_fork_lives_and_then_not_there():
    async def story(server):
        await server.done("PUT", "/t/a", b"x", TEXT)
        await fork(server, "/t/b", *made_from(b"/t/a"))
        await fork(server, "/t/c", *made_from(b"/t/b"))
        for one in "ab":
            assert (await server.done("DELETE", f"/t/{one}")).status == 204
        for method, body in (("GET", b""), ("HEAD", b""), ("POST", b"y"), ("DELETE", b"")):
            assert (await server.done(method, "/t/a", body, TEXT)).status == 410
        assert (await server.done("PUT", "/t/a", b"", TEXT)).status == 409
        assert (await fork(server, "/t/d", *made_from(b"/t/a"))).status == 409
        assert await text_of(server, "/t/c") == b"x"
        assert (await server.done("DELETE", "/t/c")).status == 204
        assert [(await server.done("HEAD", f"/t/{one}")).status for one in "abc"] == [404, 404, 404]
        assert await server.store.state.scan(topicforks.GONE) == []
        assert (await server.done("PUT", "/t/a", b"", TEXT)).status == 201

    play(story, create="put")


def test_a_fork_is_made_once_by_the_same_words():
    async def story(server):
        await server.done("PUT", "/t/a", b"hello", TEXT)
        words = made_from(b"/t/a", (b"stream-fork-offset", START), (b"stream-fork-sub-offset", b"2"))
        assert (await fork(server, "/t/b", *words)).status == 201
        assert (await fork(server, "/t/b", *words)).status == 200
        assert (await fork(server, "/t/b", *words[:-1])).status == 409
        await server.done("DELETE", "/t/b")
        await server.done("PUT", "/t/b", b"", TEXT)
        assert (await fork(server, "/t/b", *words)).status == 409  # now it is a topic of its own

    play(story)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (made_from(b"/t/nobody"), 404),
        (made_from(b"/elsewhere/a"), 404),
        (made_from(b"/t/$jobs"), 404),
        (((b"stream-fork-offset", START),), 400),
        (made_from(b"/t/a", (b"stream-fork-offset", b"9999999999999_9999999999999999")), 400),
        (made_from(b"/t/a", (b"stream-fork-sub-offset", b"1")), 400),
        (made_from(b"/t/a", (b"stream-fork-offset", START), (b"stream-fork-sub-offset", b"6")), 400),
        (made_from(b"/t/a", (b"stream-fork-offset", START), (b"stream-fork-sub-offset", b"01")), 400),
        (made_from(b"/t/json"), 409),
    ],
)
def test_what_is_refused_leaves_no_fork(headers, status):
    async def story(server):
        await server.done("PUT", "/t/a", b"hello", TEXT)
        await server.done("PUT", "/t/json", json.dumps([1]).encode(), JSON)
        assert (await fork(server, "/t/b", *headers)).status == status
        assert (await server.done("HEAD", "/t/b")).status == 404
        assert await server.store.state.scan(topicforks.OF) == []

    play(story, create="put")


def test_a_source_that_is_too_large_to_copy_is_refused(monkeypatch):
    async def story(server):
        await server.publish(1, 2, 3)
        assert (await fork(server, "/t/b", *made_from(b"/t/a"), kind=JSON)).status == 413

    monkeypatch.setattr(topicforks, "COPY_EVENTS", 2)
    play(story)
