"""fairlead.v1.Topics and fairlead.v1.Jobs: their bytes against protobuf's own, and what they do over a store in memory, asked by
grpcio with stubs that were generated from our .proto files."""

# ruff: noqa: E402 (what follows needs grpcio)

from __future__ import annotations

import queue

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_tools")

from google.protobuf.message import DecodeError

import fairlead
from fairlead.core.errors import WireError
from fairlead.serve import grpcjobs, grpctopics
from fairlead.serve.jobrun import current_job
from fairlead.wire.protobuf import TEXT, UINT, Shape
from grpcstubs import generated

CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
[[route]]
grpc = "fairlead.services:server"
[store]
url = "memory:"
"""
SECONDS = 30


@fairlead.job(name="double", retries=0)
async def double(n=1):
    await current_job().progress({"at": n})
    return n * 2


@fairlead.job(name="refuses", retries=0)
async def refuses():
    raise ValueError("no")


FEEDS = []


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return generated(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="module")
def served(modules, tmp_path_factory):
    """(topics' messages, topics' stub, jobs' messages, jobs' stub)."""
    file = tmp_path_factory.mktemp("served") / "fairlead.toml"
    file.write_text(CONFIG)
    topics, topics_rpc, jobs, jobs_rpc = modules
    with fairlead.Server(str(file)) as web, grpc.insecure_channel(f"127.0.0.1:{web.port}") as channel:
        FEEDS.append(web.builder.realtime.feed)
        yield topics, topics_rpc.TopicsStub(channel), jobs, jobs_rpc.JobsStub(channel)


@pytest.fixture
def feed(served):
    """The feed of the server."""
    return FEEDS[-1]


def fails(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=SECONDS)
    return caught.value


# ---- bytes

BATCH = {
    "topic": "t ☺", "next": "n", "up_to_date": True, "closed": False, "gone": False, "gap": {"earliest": "e", "latest": ""},
    "events": [
        {"offset": "o", "data": b"\0\xff" * 100, "type": "", "key": "k", "at": 1.5, "headers": {"a": "b", "": ""}},
        {"offset": "", "data": b"", "type": "", "key": "", "at": 0.0, "headers": {}},
    ],
}  # fmt: skip


def test_a_message_has_the_bytes_that_protobuf_reads_and_back(modules):
    theirs = modules[0].Batch.FromString(grpctopics.BATCH.encode(BATCH))
    assert theirs.topic == "t ☺" and theirs.up_to_date and theirs.gap.earliest == "e" and len(theirs.events) == 2
    assert theirs.events[0].data == b"\0\xff" * 100 and dict(theirs.events[0].headers) == {"a": "b", "": ""}
    assert theirs.events[0].at == 1.5
    assert grpctopics.BATCH.decode(theirs.SerializeToString()) == BATCH


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 1 << 53, (1 << 64) - 1])
def test_numbers_of_every_length_are_protobuf_s(modules, number):
    held = modules[0].Held(id="x", fence=number)
    assert grpctopics.HELD.encode({"id": "x", "fence": number}) == held.SerializeToString()
    assert grpctopics.HELD.decode(held.SerializeToString()) == {"id": "x", "fence": number}


def test_every_shape_has_the_fields_of_its_message(modules):
    topics, _, jobs, _ = modules
    pairs = [
        (topics.Event, grpctopics.EVENT), (topics.Gap, grpctopics.GAP), (topics.SubscribeRequest, grpctopics.SUBSCRIBE),
        (topics.Batch, grpctopics.BATCH), (topics.ReadRequest, grpctopics.READ_REQUEST), (topics.NewEvent, grpctopics.NEW),
        (topics.Producer, grpctopics.PRODUCER), (topics.AppendRequest, grpctopics.APPEND),
        (topics.AppendReply, grpctopics.APPENDED), (topics.ClaimRequest, grpctopics.CLAIM),
        (topics.Claimed, grpctopics.CLAIMED), (topics.ClaimReply, grpctopics.CLAIM_REPLY), (topics.Held, grpctopics.HELD),
        (topics.AckRequest, grpctopics.ACK), (topics.AckReply, grpctopics.ACK_REPLY), (jobs.SubmitRequest, grpcjobs.SUBMIT),
        (jobs.GetRequest, grpcjobs.GET), (jobs.CancelRequest, grpcjobs.CANCEL), (jobs.WatchRequest, grpcjobs.WATCH),
        (jobs.Job, grpcjobs.JOB),
    ]  # fmt: skip
    for message, shape in pairs:
        theirs = {field.name: field.number for field in message.DESCRIPTOR.fields}
        assert theirs == {name: number for name, (number, _) in shape.fields.items()}, message.DESCRIPTOR.name
    assert tuple(map(str.lower, topics.AckRequest.Action.keys())) == grpctopics.ACTIONS


def test_fields_that_are_unknown_or_of_another_type_are_skipped(modules):
    made = modules[0].AppendReply(last="a", count=3, duplicate=True, closed=True).SerializeToString()
    assert Shape(last=(1, TEXT)).decode(made) == {"last": "a"}
    assert Shape(last=(1, UINT), count=(2, UINT)).decode(made) == {"last": 0, "count": 3}
    assert Shape(n=(3, UINT)).decode(b"\x09" + bytes(8) + b"\x15" + bytes(4) + b"\x18\x05") == {"n": 5}


def test_a_message_in_two_parts_is_merged_as_protobuf_does(modules):
    pieces = grpctopics.BATCH.encode({"gap": {"earliest": "e"}}) + grpctopics.BATCH.encode({"gap": {"latest": "l"}})
    assert grpctopics.BATCH.decode(pieces)["gap"] == {"earliest": "e", "latest": "l"}
    assert modules[0].Batch.FromString(pieces).gap.latest == "l"


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05ab", b"\x0a\x01\xff", b"\x80" * 11, b"\x0e", b"\x00\x00", b"\x29\x01", b"\x0a" + b"\xff" * 9 + b"\x01"],
)
def test_bytes_that_are_no_message_are_an_error_here_and_there(modules, data):
    with pytest.raises(WireError):
        grpctopics.EVENT.decode(data)
    with pytest.raises(DecodeError):
        modules[0].Event.FromString(data)


# ---- topics


def test_what_is_appended_is_read_with_its_offset(served):
    pb, stub, _, _ = served
    event = pb.NewEvent(data=b'{"n": 1}', type="made", key="k", headers={"a": "b"})
    request = pb.AppendRequest(topic="read", events=[event, event], create="application/json", dedupe="once")
    first = stub.Append(request, timeout=SECONDS)
    again = stub.Append(request, timeout=SECONDS)
    assert first.count == 2 and not first.duplicate and again.duplicate and again.last == first.last
    batch = stub.Read(pb.ReadRequest(topic="read", limit=1), timeout=SECONDS)
    assert [(e.data, e.type, e.key, dict(e.headers)) for e in batch.events] == [(b'{"n": 1}', "made", "k", {"a": "b"})]
    rest = stub.Read(pb.ReadRequest(topic="read", after=batch.next), timeout=SECONDS)
    assert [e.offset for e in rest.events] == [first.last] == [rest.next] and rest.up_to_date
    assert not stub.Read(pb.ReadRequest(topic="read", after="now"), timeout=SECONDS).events


def test_errors_are_statuses(served):
    pb, stub, _, _ = served
    code = grpc.StatusCode
    assert fails(stub.Read, pb.ReadRequest(topic="nowhere")).code() is code.NOT_FOUND
    assert fails(stub.Read, pb.ReadRequest(topic="$jobs")).code() is code.PERMISSION_DENIED
    assert fails(stub.Read, pb.ReadRequest(topic="a\nb")).code() is code.INVALID_ARGUMENT
    assert fails(stub.Append, pb.AppendRequest(topic="nowhere", events=[pb.NewEvent(data=b"1")])).code() is code.NOT_FOUND
    made = pb.AppendRequest(topic="ended", events=[pb.NewEvent(data=b"1")], create="application/json", close=True)
    end = stub.Append(made, timeout=SECONDS)
    assert end.closed
    closed = fails(stub.Append, made)
    assert closed.code() is code.FAILED_PRECONDITION and dict(closed.trailing_metadata())["fairlead-latest"] == end.last
    bad = pb.AppendRequest(topic="bad", events=[pb.NewEvent(data=b"{")], create="application/json")
    assert fails(stub.Append, bad).code() is code.INVALID_ARGUMENT
    injected = pb.AppendRequest(topic="bad", events=[pb.NewEvent(data=b"1", type="a\ndata: b")], create="text/plain")
    assert fails(stub.Append, injected).code() is code.INVALID_ARGUMENT
    gap = fails(stub.Read, pb.ReadRequest(topic="ended", after="0000000000001_0000000000000001"))
    assert gap.code() is code.OUT_OF_RANGE and dict(gap.trailing_metadata())["fairlead-latest"] == end.last
    late = pb.AppendRequest(topic="late", events=[pb.NewEvent(data=b"1")], create="text/plain")
    first = stub.Append(late, timeout=SECONDS)
    stub.Append(late, timeout=SECONDS)
    late.after = first.last
    assert fails(stub.Append, late).code() is code.ABORTED


def test_one_stream_follows_many_topics_and_ends_with_them(served):
    pb, stub, _, _ = served
    asked: queue.Queue = queue.Queue()
    batches = stub.Subscribe(iter(asked.get, None), timeout=SECONDS)
    for topic in ("one", "two"):
        asked.put(pb.SubscribeRequest(topic=topic, after="-1", create="text/plain"))
    for topic in ("one", "two"):
        made = pb.AppendRequest(topic=topic, events=[pb.NewEvent(data=topic.encode())], create="text/plain")
        stub.Append(made, timeout=SECONDS)
    seen = set()
    while len(seen) < 2:
        seen |= {(batch.topic, event.data) for batch in [next(batches)] for event in batch.events}
    assert seen == {("one", b"one"), ("two", b"two")}
    asked.put(pb.SubscribeRequest(topic="two", unsubscribe=True))
    asked.put(None)
    stub.Append(pb.AppendRequest(topic="one", events=[pb.NewEvent(data=b"last")], close=True), timeout=SECONDS)
    rest = list(batches)
    assert [event.data for batch in rest for event in batch.events] == [b"last"] and rest[-1].closed
    assert batches.code() is grpc.StatusCode.OK


def test_a_stream_says_in_band_that_events_are_missing(served):
    pb, stub, _, _ = served
    made = pb.AppendRequest(topic="missing", events=[pb.NewEvent(data=b"here")], create="text/plain", close=True)
    stub.Append(made, timeout=SECONDS)
    request = pb.SubscribeRequest(topic="missing", after="0000000000001_0000000000000001")
    batches = list(stub.Subscribe(iter([request]), timeout=SECONDS))
    assert batches[0].HasField("gap") and batches[0].gap.earliest == batches[0].next
    assert [event.data for batch in batches for event in batch.events] == [b"here"] and batches[-1].closed


def test_more_than_a_stream_has_room_for_arrives_in_order(served):
    pb, stub, _, _ = served
    for number in range(10):
        events = [pb.NewEvent(data=b"%d " % n + b"x" * 50_000) for n in range(number * 20, number * 20 + 20)]
        stub.Append(pb.AppendRequest(topic="large", events=events, create="text/plain", close=number == 9), timeout=SECONDS)
    batches = stub.Subscribe(iter([pb.SubscribeRequest(topic="large", after="-1")]), timeout=SECONDS)
    assert [int(event.data.split()[0]) for batch in batches for event in batch.events] == list(range(200))


def test_a_stream_whose_client_is_gone_follows_no_more(served, feed):
    pb, stub, _, _ = served
    stub.Append(pb.AppendRequest(topic="left", events=[pb.NewEvent(data=b"x")], create="text/plain"), timeout=SECONDS)
    before = feed.outs
    batches = stub.Subscribe(iter([pb.SubscribeRequest(topic="left", after="-1")]), timeout=SECONDS)
    assert next(batches).up_to_date and feed.outs == before + 1
    batches.cancel()
    asked = 0
    while feed.outs > before and asked < 5000:  # each answer is a few turns of the server's loop
        stub.Read(pb.ReadRequest(topic="left"), timeout=SECONDS)
        asked += 1
    assert feed.outs == before and not feed.rings["left"].live


def test_a_stream_about_no_topic_ends_with_not_found(served):
    pb, stub, _, _ = served
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Subscribe(iter([pb.SubscribeRequest(topic="nowhere")]), timeout=SECONDS))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_group_claims_and_acknowledges_under_a_fence(served):
    pb, stub, _, _ = served
    events = [pb.NewEvent(data=b"%d" % n) for n in range(3)]
    stub.Append(pb.AppendRequest(topic="work", events=events, create="application/json"), timeout=SECONDS)
    items = stub.Claim(pb.ClaimRequest(topic="work", group="g", limit=10, after="-1"), timeout=SECONDS).items
    assert [item.event.data for item in items] == [b"0", b"1", b"2"] and items[0].event.offset
    held = [pb.Held(id=item.id, fence=item.fence) for item in items]
    action = pb.AckRequest.Action
    assert stub.Ack(pb.AckRequest(topic="work", group="g", items=held[:1]), timeout=SECONDS).done == 1
    extend = pb.AckRequest(topic="work", group="g", items=held[1:], action=action.EXTEND, ttl=60)
    assert stub.Ack(extend, timeout=SECONDS).done == 2
    back = pb.AckRequest(topic="work", group="g", items=held[1:2], action=action.NACK)
    assert stub.Ack(back, timeout=SECONDS).done == 1
    [again] = stub.Claim(pb.ClaimRequest(topic="work", group="g", limit=10), timeout=SECONDS).items
    assert again.event.data == b"1" and again.attempt == 2 and again.fence > held[1].fence
    assert fails(stub.Ack, pb.AckRequest(topic="work", group="g", items=held[1:2])).code() is grpc.StatusCode.FAILED_PRECONDITION
    assert fails(stub.Claim, pb.ClaimRequest(topic="work", group="")).code() is grpc.StatusCode.INVALID_ARGUMENT
    unknown = pb.AckRequest(topic="work", group="g", items=held[1:2], action=9)
    assert fails(stub.Ack, unknown).code() is grpc.StatusCode.INVALID_ARGUMENT


# ---- jobs


def test_a_job_is_submitted_watched_and_looked_at(served):
    _, _, pb, stub = served
    job = stub.Submit(pb.SubmitRequest(kind="double", arguments='{"n": 21}'), timeout=SECONDS)
    seen = list(stub.Watch(pb.WatchRequest(kind="double", id=job.id), timeout=SECONDS))
    assert seen[-1].state == "succeeded" and seen[-1].result == "42" and all(one.id == job.id for one in seen)
    assert stub.Get(pb.GetRequest(kind="double", id=job.id, wait=20), timeout=SECONDS).progress == '{"at":21}'
    again = list(stub.Watch(pb.WatchRequest(kind="double", id=job.id), timeout=SECONDS))
    assert again[-1].offset == seen[-1].offset
    assert not list(stub.Watch(pb.WatchRequest(kind="double", id=job.id, after=seen[-1].offset), timeout=SECONDS))
    over = fails(stub.Cancel, pb.CancelRequest(kind="double", id=job.id))
    assert over.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_job_that_waits_is_cancelled_and_one_that_raises_has_failed(served):
    _, _, pb, stub = served
    waits = stub.Submit(pb.SubmitRequest(kind="double", delay=1000), timeout=SECONDS)
    assert stub.Cancel(pb.CancelRequest(kind="double", id=waits.id), timeout=SECONDS).state == "cancelled"
    job = stub.Submit(pb.SubmitRequest(kind="refuses"), timeout=SECONDS)
    seen = stub.Get(pb.GetRequest(kind="refuses", id=job.id, wait=20), timeout=SECONDS)
    assert seen.state == "failed" and "no" in seen.error


def test_what_a_client_asks_wrongly_of_jobs(served):
    _, _, pb, stub = served
    code = grpc.StatusCode
    assert fails(stub.Submit, pb.SubmitRequest(kind="nothing")).code() is code.NOT_FOUND
    assert fails(stub.Submit, pb.SubmitRequest(kind="double", arguments="{")).code() is code.INVALID_ARGUMENT
    assert fails(stub.Submit, pb.SubmitRequest(kind="double", delay=-1)).code() is code.INVALID_ARGUMENT
    assert fails(stub.Get, pb.GetRequest(kind="double", id="none")).code() is code.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Watch(pb.WatchRequest(kind="double", id="none"), timeout=SECONDS))
    assert caught.value.code() is code.NOT_FOUND
