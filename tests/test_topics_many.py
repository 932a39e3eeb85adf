"""Several topics on one connection: one id for all of them, patterns, bounds, gaps and ends."""

import asyncio
import json
import random

import pytest

from fairlead.core.errors import Refused
from fairlead.serve.topicmany import Known, Vector, parted, place_in
from fairlead.serve.topicmatch import pattern
from fairlead.store.contract import Head, Offset, TopicConfig
from topickit import JSON, STREAM, answered, events_of, header, play, says, until

LAST = b"last-event-id"


def frames(text):
    """[(id, frame)] of an event stream."""
    return [(token, json.loads(data)) for token, name, data in events_of(text) if not name]


def data_of(found):
    """{topic: [data]} of frames."""
    heard = {}
    for _, frame in found:
        for event in frame.get("events", ()):
            heard.setdefault(frame["topic"], []).append(event["data"])
    return heard


def test_one_stream_has_several_topics_and_one_id_resumes_all_of_them():
    async def story(server):
        for topic in "abc":
            await server.publish(f"{topic}1", topic=topic)
        stream = server.ask("GET", "/t/a?topic=b&topic=c&offset=-1", b"", STREAM)
        said = await says(stream, '1"', 3)
        assert data_of(frames(said)) == {"a": ["a1"], "b": ["b1"], "c": ["c1"]}
        await server.publish("b2", "b3", topic="b")
        await server.publish("c2", topic="c")
        said = await says(stream, '"c2"')
        stream.leave()
        await server.publish("a2")
        await server.publish("b4", topic="b")
        found = frames(said)
        token = next(token for token, frame in found if "b3" in json.dumps(frame))  # it had not heard c2
        again = server.ask("GET", "/t/a?topic=b&topic=c", b"", STREAM, (LAST, token.encode()))
        said = await says(again, '"b4"')
        said = await says(again, '"a2"')
        assert data_of(frames(await says(again, '"c2"'))) == {"a": ["a2"], "b": ["b4"], "c": ["c2"]}

    play(story)


def test_the_same_vector_goes_on_by_every_way_of_reading():
    async def story(server):
        for topic in "ab":
            await server.publish(f"{topic}1", topic=topic)
        poll = await server.done("GET", "/t/a?topic=b&offset=-1")
        assert [frame["topic"] for frame in json.loads(poll.answer)] == ["a", "b"]
        token = header(poll, "stream-next-offset")
        assert token.startswith("m_") and len(token) == 2 + 2 * 24 and header(poll, "stream-up-to-date") == "true"
        await server.publish("b2", topic="b")
        long = await server.done("GET", f"/t/$many?topic=a&topic=b&offset={token}&live=long-poll")
        [frame] = json.loads(long.answer)
        assert (frame["topic"], frame["events"][0]["data"]) == ("b", "b2")
        durable = server.ask("GET", f"/t/a?topic=b&offset={token}&live=sse")
        said = await says(durable, "streamNextOffset", 2)
        [(_, _, data)] = [one for one in events_of(said) if one[1] == "data"]
        assert json.loads(data)[0]["events"][0]["data"] == "b2"
        control = json.loads([one for one in events_of(said) if one[1] == "control"][-1][2])
        assert control["streamNextOffset"] == header(long, "stream-next-offset")
        alone = await server.done("GET", f"/t/b?offset={token}")  # a topic's own URL takes it too
        assert alone.answer == b'["b2"]'

    play(story)


def test_a_long_poll_of_several_waits_for_the_first_and_holds_no_task():
    async def story(server):
        for topic in "abc":
            await server.publish(0, topic=topic)
        poll = server.ask("GET", "/t/$many?topic=a&topic=b&topic=c&offset=now&live=long-poll")
        await until(lambda: "c" in server.feed.rings and server.feed.rings["c"].polls)
        await until(lambda: not server.route.calls.running)
        await server.publish("news", topic="b")
        [frame] = json.loads((await answered(poll)).answer)
        assert frame["topic"] == "b" and not any(ring.polls for ring in server.feed.rings.values())
        assert server.feed.legs == 0
        nothing = await server.done("GET", "/t/a?topic=b&offset=now", b"", (b"prefer", b"wait=0"))
        assert nothing.status in (200, 204)

    play(story)


def test_no_append_falls_between_looking_and_waiting_of_several():
    async def story(server):
        for topic in "ab":
            await server.publish(0, topic=topic)
        for steps in range(16):
            token = header(await server.done("GET", "/t/a?topic=b&offset=now"), "stream-next-offset")
            poll = server.ask("GET", f"/t/a?topic=b&offset={token}&live=long-poll")
            for _ in range(steps):
                await asyncio.sleep(0)
            await server.publish(steps, topic="ab"[steps % 2])
            [frame] = json.loads((await answered(poll)).answer)
            assert [event["data"] for event in frame["events"]] == [steps]

    play(story)


def test_a_topic_that_ends_or_is_deleted_says_so_and_the_stream_ends_with_the_last():
    async def story(server):
        for topic in "ab":
            await server.publish(1, topic=topic)
        stream = server.ask("GET", "/t/a?topic=b&offset=-1", b"", STREAM)
        await says(stream, "data:", 2)
        await server.done("POST", "/t/a", b"[2]", JSON, (b"stream-closed", b"true"))
        await says(stream, '"closed":true')
        await server.publish("on", topic="b")
        assert '"on"' in await says(stream, '"on"')
        await server.done("DELETE", "/t/b")
        said = await says(stream, '"gone":true')
        await until(lambda: stream.codec.said[-1][-1] is True)
        assert server.feed.outs == 0 and said.count('"closed":true') == 2
        ends = header(await server.done("GET", "/t/a?offset=now"), "stream-next-offset")
        over = await server.done("GET", "/t/$many?topic=a", b"", STREAM, (LAST, ends.encode()))
        assert over.status == 204

    play(story)


def test_lost_events_are_said_in_band_with_their_topic():
    async def story(server):
        for topic in "ab":
            await server.publish(*range(5), topic=topic)
        first = (await server.store.log.head("b")).first
        await server.store.log.trim("b", Offset(first.epoch, 3))
        vector = Vector()
        vector.set("a", (await server.store.log.head("a")).last)
        vector.set("b", first)
        stream = server.ask("GET", "/t/a?topic=b", b"", STREAM, (LAST, str(vector).encode()))
        said = await says(stream, '"o"')
        gap = next(frame for _, frame in frames(said) if "gap" in frame)
        assert gap["topic"] == "b" and gap["gap"]["earliest"] == str(Offset(first.epoch, 3))
        poll = await server.done("GET", f"/t/a?topic=b&offset={vector}")
        assert next(frame for frame in json.loads(poll.answer) if "gap" in frame)["topic"] == "b"
        await server.done("DELETE", "/t/a")
        await server.publish("new", topic="a")  # the same name, another life
        anew = server.ask("GET", "/t/a?topic=b", b"", STREAM, (LAST, str(vector).encode()))
        said = await says(anew, '"new"')
        assert next(frame for _, frame in frames(said) if "gap" in frame and frame["topic"] == "a")

    play(story)


# ---- patterns


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("orders", ["orders"], ["orders.eu", "order", "xorders"]),
        ("orders.*", ["orders.eu", "orders.$x"], ["orders", "orders.eu.1", "orders."]),
        ("orders.>", ["orders.eu", "orders.eu.1"], ["orders", "order.eu"]),
        ("*.eu", ["a.eu", "b.eu"], ["a.us", "a.b.eu", "eu"]),
        (">", ["a", "a.b"], ["$made", "$here/a"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c", "aXbXc"]),
        ("a[1]+.*", ["a[1]+.x"], ["a11.x"]),
    ],
)
def test_what_a_pattern_matches(text, yes, no):
    one = pattern(text)
    assert [name for name in yes + no if one.matches(name)] == yes
    assert all(name.startswith(one.prefix) for name in yes)


@pytest.mark.parametrize("text", ["", ".", "a..b", "a.>.b", "a*", "x.y>", "a." + "b" * 600])
def test_what_is_no_pattern(text):
    with pytest.raises(Refused):
        pattern(text)


def test_a_pattern_follows_what_is_there_and_what_is_made_later_by_any_worker():
    async def story(server, other):
        await server.publish(1, topic="x.a")
        await server.publish(1, topic="y.a")
        stream = server.ask("GET", "/t/$many?match=x.*&offset=-1", b"", STREAM)
        await says(stream, '"x.a"')
        poll = server.ask("GET", "/t/$many?match=x.>&offset=now&live=long-poll")
        await until(lambda: not server.route.calls.running)
        await other.publish("from afar", topic="x.b")
        said = await says(stream, "from afar")
        assert "y.a" not in said
        [frame] = json.loads((await answered(poll)).answer)
        assert (frame["topic"], frame["events"][0]["data"]) == ("x.b", "from afar")
        token = frames(said)[-1][0]
        stream.leave()
        await server.publish("one", topic="x.c")  # made while nobody was there: heard from its start
        await server.publish("two", topic="x.c")
        again = server.ask("GET", "/t/$many?match=x.*", b"", STREAM, (LAST, token.encode()))
        assert data_of(frames(await says(again, '"two"'))) == {"x.c": ["one", "two"]}
        for peer in (stream, again, poll):
            peer.leave()
        await until(lambda: not server.names.watchers)

    play(story, workers=2, wildcards=True)


def test_topics_on_one_connection_are_bounded():
    async def story(server):
        for n in range(3):
            await server.publish(n, topic=f"x.{n}")
        named = await server.done("GET", "/t/a?topic=b&topic=c&topic=d&offset=-1")
        assert named.status == 400 and b"at most 3" in named.answer
        stream = server.ask("GET", "/t/$many?match=x.*&offset=-1", b"", STREAM)
        await says(stream, "data:", 3)
        await server.publish("four", topic="x.3")
        await server.publish("five", topic="x.4")
        await says(stream, '"limit":3')
        await server.publish("still", topic="x.0")
        said = await says(stream, '"still"')
        assert said.count('"limit"') == 1 and "four" not in said
        too_many = await server.done("GET", "/t/$many?match=x.*&offset=-1", b"", STREAM)
        assert too_many.status == 400 and b"narrowly" in too_many.answer

    play(story, wildcards=True, many=3)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/t/$many", 400),
        ("/t/$many?match=x.*", 403),
        ("/t/$many?topic=$jobs", 403),
        ("/t/a?topic=b&offset=m_short", 400),
        ("/t/a?topic=b&offset=m_" + "!" * 24, 400),
        ("/t/a?topic=b&offset=yesterday", 400),
        ("/t/a?offset=m_AAAA", 400),
        ("/t/a?" + "&".join(["topic=b"] * 3000), 400),
        ("/t/$many?topic=", 400),
    ],
)
def test_what_is_refused_of_several(target, status):
    async def story(server):
        await server.publish(1)
        peer = await server.done("GET", target, b"", STREAM)
        assert peer.status == status, peer.answer
        assert (await server.done("POST", "/t/$many", b"[1]", JSON)).status == 405

    play(story)


# ---- the vector


def test_a_vector_is_exact_for_any_topics_and_offsets():
    dice = random.Random(7)
    for _ in range(200):
        vector, places = Vector(), {}
        for n in range(dice.randint(0, 30)):
            name = f"t{n}" + "ü" * dice.randint(0, 3)
            places[name] = Offset(dice.randint(0, 2**48 - 1), dice.randint(0, 2**64 - 1))
            vector.set(name, places[name])
        text = str(vector)
        assert {name: place_in(text, name, at.epoch) for name, at in places.items()} == places
        assert len(list(parted(text))) == len(places) and text.replace("_", "").replace("-", "").isalnum()


def test_two_names_of_one_tag_are_told_apart_by_their_epochs():
    known = Known("now")
    known.token = "m_"
    from fairlead.serve.topicmany import tag_of

    known.places = {tag_of("a"): [Offset(5, 1), Offset(9, 2)]}
    head = Head("a", Offset(9, 0), Offset(9, 3), False, TopicConfig())
    assert known.of("a", head, False) == Offset(9, 2)
    assert known.of("b", head, False) == head.last and known.of("b", head, True) is None
