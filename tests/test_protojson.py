"""JSON of our own messages: what protobuf's json_format writes and reads of the same ones; what does not fit is refused."""

import json
import random
from typing import Any

import pytest

from fairlead.serve import grpcjobs, grpctopics
from fairlead.wire.protobuf import BOOL, BYTES, DOUBLE, MAP, PAIR, TEXT, UINT, Many, Shape
from fairlead.wire.protojson import taken, written

pytest.importorskip("grpc_tools")
json_format = pytest.importorskip("google.protobuf.json_format")

from grpcstubs import generated  # noqa: E402

NAMES = {
    "SubscribeRequest": grpctopics.SUBSCRIBE,
    "Batch": grpctopics.BATCH,
    "AppendRequest": grpctopics.APPEND,
    "AppendReply": grpctopics.APPENDED,
    "ClaimReply": grpctopics.CLAIM_REPLY,
    "AckRequest": grpctopics.ACK,
    "SubmitRequest": grpcjobs.SUBMIT,
    "Job": grpcjobs.JOB,
}
VALUES = {
    UINT: (0, 1, 3, 2**53 + 1, 2**64 - 1),
    BOOL: (False, True),
    DOUBLE: (0.0, 1.0, -2.5, 1e300, 1795612345.25, float("inf"), float("-inf")),
    TEXT: ("", "a", "\u00e9\n\"", "\U0001f600"),
    BYTES: (b"", b"\0\xff\xfe", b"x" * 20),
}


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    topics, _, jobs, _ = generated(tmp_path_factory.mktemp("stubs"))
    return {name: getattr(topics, name, None) or getattr(jobs, name) for name in NAMES}


def some(shape: Shape, draw: random.Random) -> dict[str, Any]:
    """A message."""
    found: dict[str, Any] = {}
    for name, (_, kind) in shape.fields.items():
        if kind is MAP:
            found[name] = {draw.choice(VALUES[TEXT]): draw.choice(VALUES[TEXT]) for _ in range(draw.randrange(3))}
        elif isinstance(kind, Many):
            found[name] = [some(kind.kind, draw) for _ in range(draw.randrange(3))]
        elif isinstance(kind, Shape):
            found[name] = some(kind, draw) if draw.random() < 0.5 else None
        elif name in shape.names:
            found[name] = draw.randrange(len(shape.names[name]))
        else:
            found[name] = draw.choice(VALUES[kind])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_messages_are_written_and_read_as_protobuf_does(name: str, messages: dict[str, Any]) -> None:
    shape, draw = NAMES[name], random.Random(name)
    for _ in range(50):
        value = some(shape, draw)
        theirs = messages[name].FromString(shape.encode(value))
        ours = json.loads(json.dumps(written(shape, value)))
        assert ours == json_format.MessageToDict(theirs)
        assert taken(shape, ours) == value
        assert taken(shape, json_format.MessageToDict(theirs, preserving_proto_field_name=True)) == value
        assert json_format.ParseDict(ours, messages[name]()) == theirs


def test_what_protobuf_understands_besides_is_understood(messages: dict[str, Any]) -> None:
    for given in (
        {"topic": None, "events": None, "producer": None},
        {"producer": {"epoch": 5, "seq": 7.0}},
        {"events": [{"data": "_-8"}, {"data": "_-8="}, {"data": "/+8="}, {"data": ""}]},
        {"close": False, "events": [], "after": ""},
    ):
        theirs = json_format.ParseDict(given, messages["AppendRequest"]())
        assert taken(grpctopics.APPEND, given) == grpctopics.APPEND.decode(theirs.SerializeToString())
    assert taken(grpctopics.ACK, {"action": 2}) == taken(grpctopics.ACK, {"action": "EXTEND"})
    assert taken(grpctopics.ACK, {"ttl": "1.5e1"})["ttl"] == 15.0


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (grpctopics.APPEND, "[]"),
        (grpctopics.APPEND, '{"topics":"a"}'),
        (grpctopics.APPEND, '{"topic":1}'),
        (grpctopics.APPEND, '{"topic":"\\ud800"}'),
        (grpctopics.APPEND, '{"close":"true"}'),
        (grpctopics.APPEND, '{"events":{}}'),
        (grpctopics.APPEND, '{"events":[1]}'),
        (grpctopics.APPEND, '{"events":[{"data":"%%%%"}]}'),
        (grpctopics.APPEND, '{"events":[{"data":"a"}]}'),
        (grpctopics.APPEND, '{"events":[{"data":"\u00e9"}]}'),
        (grpctopics.APPEND, '{"events":[{"headers":[]}]}'),
        (grpctopics.APPEND, '{"events":[{"headers":{"a":1}}]}'),
        (grpctopics.APPEND, '{"producer":{"epoch":-1}}'),
        (grpctopics.APPEND, '{"producer":{"epoch":1.5}}'),
        (grpctopics.APPEND, '{"producer":{"epoch":true}}'),
        (grpctopics.APPEND, '{"producer":{"epoch":"18446744073709551616"}}'),
        (grpctopics.ACK, '{"action":"ack"}'),
        (grpctopics.ACK, '{"ttl":NaN}'),
        (grpctopics.ACK, '{"ttl":1e999}'),
        (grpctopics.ACK, '{"ttl":"soon"}'),
        (grpctopics.ACK, '{"ttl":true}'),
    ],
)
def test_what_does_not_fit_is_refused(shape: Shape, text: str) -> None:
    with pytest.raises(ValueError):
        taken(shape, json.loads(text))


def test_the_entries_of_a_map_are_texts() -> None:
    assert PAIR.fields["key"][1] is TEXT and PAIR.fields["value"][1] is TEXT, "the only map that is understood"
