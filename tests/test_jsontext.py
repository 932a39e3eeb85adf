"""What is taken as JSON, what is written, and that nothing a client says harms a topic's other readers."""

import asyncio
import json
import random

import pytest

from fairlead.core.errors import Refused
from fairlead.serve import jsontext
from fairlead.serve.jsontext import DEPTH, compact, finite, good, parsed, word
from fairlead.store.contract import NewEvent
from topickit import JSON, STREAM, play, says, until

NESTED = "[" * DEPTH + "]" * DEPTH


@pytest.mark.parametrize(
    "text", [b"1", b'"\\ud800"', b"1e999", '"\u00e9"'.encode(), NESTED.encode(), b'["' + b"[{" * 9000 + b'"]', b"[[],{}]"]
)
def test_what_is_json(text):
    assert parsed(text) == json.loads(text) and good(text)
    assert good(compact(parsed(text)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "Expecting value"), (b"NaN", "NaN is not JSON"), (b"[-Infinity]", "-Infinity is not JSON"), (b"\xff", "decode"),
        ('"x"'.encode("utf-16"), "decode"), (b"\xef\xbb\xbf1", "BOM"), (f"[{NESTED}]".encode(), "nests deeper"),
        (b"[" * 100_000, "nests deeper"), (b"[" * 100_000 + b"]" * 100_000, "nests deeper"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nests deeper"),
        (b"1" * 5000, "digits"),
    ],
)  # fmt: skip
def test_what_is_none(text, says):
    with pytest.raises(ValueError, match=says):
        parsed(text)


def test_what_is_written_is_utf8_and_json_whatever_it_holds():
    assert compact({"a": "é"}) == '{"a":"é"}'.encode()
    assert compact(["\ud800"]) == b'["\\ud800"]'
    assert compact([float("inf"), {"a": (float("nan"), 1.5)}]) == b'[null,{"a":[null,1.5]}]'
    assert finite(["\ud800", 1]) == ["\ud800", 1] and compact([float("inf"), "\ud800"]) == b'[null,"\\ud800"]'


def test_a_word_is_one_line():
    assert word(7, "key") == "7"
    for text in ("a\nb", "\ud800", "x" * 1025):
        with pytest.raises(Refused, match="key has at most 1024"):
            word(text, "key")


BODIES = [
    (b'"\\ud800"', 204), (b'["\\ud800", "\\udfff\\ud800"]', 204), (b"1e999", 204), (b"[1e999]", 204), (NESTED.encode(), 204),
    (b"NaN", 400), (b"[NaN]", 400), (f"[[{NESTED}]]".encode(), 400), ('"x"'.encode("utf-16"), 400), (b"\xef\xbb\xbf1", 400),
]  # fmt: skip


def test_no_event_is_the_end_of_anybodys_stream(caplog):
    async def story(server):
        await server.publish("first")
        sockets = [server.socket(), server.socket()]
        streams = [server.ask("GET", f"/t/a?{query}", b"", STREAM) for query in ("form=frames", "offset=now")]
        await until(lambda: server.feed.legs == 4)
        for body, status in BODIES:
            assert (await server.done("POST", "/t/a", body, JSON)).status == status, body[:40]
        await server.store.log.append("a", [NewEvent(b"no JSON {", "a\ud800", "k")])  # an outbox may do that
        await server.publish("last")
        for socket in sockets:
            said = []
            while not said or said[-1].get("data") != "last":
                said += (await socket.next(topic="a", events=None))["events"]
            assert len(said) == 8 and said[0]["data"] == "\ud800" and said[-2]["base64"]
        for stream in streams:
            assert (await says(stream, '"last"')).count("data:") >= 7
        poll = await server.done("GET", "/t/a?offset=-1&form=frames")
        assert len(json.loads(poll.answer)["events"]) == 9
        batch = await server.done("GET", "/t/a?offset=-1", b"", (b"accept", b"application/cloudevents-batch+json"))
        assert len(json.loads(batch.answer)) == 9

    play(story)
    assert not caplog.records


def nasty(chance, level=0):
    """Any JSON value, seldom a good one."""
    kinds = [None, True, 0, -1, 1 << 70, 1e308, 1e999, "", "a", "g", "\ud800", "a\nb", "\0", "$made", "x" * 3000, "*", "a.>", "now"]
    if level < 3 and chance.random() < 0.3:
        names = chance.sample(["topic", "group", "items", "id", "fence", "after", "data", "a", "publish"], 3)
        values = [nasty(chance, level + 1) for _ in range(3)]
        return values if chance.random() < 0.5 else dict(zip(names, values))
    return chance.choice(kinds)


def words(chance):
    """A frame's word and what it is given: often what it should be, with one thing wrong."""
    word = chance.choice(["sub", "pub", "unsub", "claim", "ack", "nack", "extend", "term"])
    given = {"topic": "a", "group": "g", "data": 1, "after": "now", "items": [{"id": "x", "fence": 1, "publish": {"topic": "a"}}]}
    names = [*given, "type", "key", "dedupe", "content_type", "base64", "n", "ttl", "owner", "delay", "reason", "match", "presence"]
    for _ in range(chance.randrange(3)):
        given[chance.choice(names)] = nasty(chance)
    return {word: given if chance.random() < 0.95 else nasty(chance)}


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_every_frame_is_answered_whatever_is_in_it(engine, tmp_path, caplog):
    chance = random.Random(11)
    url = "memory:" if engine == "memory" else f"sqlite:///{tmp_path}/store.db"

    async def story(server):
        await server.publish(1)
        witness = server.socket()
        await until(lambda: server.feed.legs == 1)
        socket = server.socket("/t/a?sub=0")
        for number in range(200 if engine == "memory" else 100):
            frame = json.dumps({"id": number, **words(chance)}).replace("Infinity", "1e999")
            socket.say(frame)
            async with asyncio.timeout(10):
                said = await socket.next(id=number)
            assert said.get("ok") or said["error"]["status"] in (400, 403, 404, 409, 410, 413, 429), said
        await server.publish("last")
        while (await witness.next(topic="a", events=None))["events"][-1].get("data") != "last":
            pass
        socket.say('{"ping": 1e999}')
        assert (await socket.next(pong=None))["pong"] is None
        assert not caplog.records, caplog.text

    play(story, url=url, ack="memory", presence=True, wildcards=True, message=2000)


def test_the_depth_that_is_taken_can_be_written_wherever_it_stands():
    value = jsontext.parsed(NESTED)
    for _ in range(300):
        value = [value]
    assert compact(value)
