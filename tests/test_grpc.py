"""gRPC served to grpcio's own client and to one driven by hand: every kind of method, every way it can end, bad input."""

# ruff: noqa: E402 (what follows needs grpcio)

from __future__ import annotations

import asyncio
import gzip
import time
from pathlib import Path

import pytest

grpc = pytest.importorskip("grpc")

import fairlead
import fairlead.grpc
from fairlead.core.errors import AppError
from fairlead.wire import grpccoding
from fairlead.wire.grpc import message
from grpckit import ITEM, ONE, Client
from grpcserved import Blocking, ByReading, Notes, Todo, pb, rpc

DEADLINES = (0.1, 1.0, 10.0)  # a busy machine may take a while to begin a call
SERVICERS = {"async": Todo, "reading": ByReading, "blocking": Blocking}


class Served:
    """One server with its notes and a channel to it."""

    def __init__(self, servicer, **options):
        self.notes = Notes()
        self.server = fairlead.grpc.Server(**options)
        rpc.add_TodoServicer_to_server(servicer(self.notes), self.server)
        self.web = fairlead.Server(self.server)

    def __enter__(self):
        self.web.__enter__()
        self.port = self.web.port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = rpc.TodoStub(self.channel)
        return self

    def __exit__(self, *_):
        self.channel.close()
        self.web.__exit__()

    def fails(self, text, **options):
        """The error of CreateTodo."""
        with pytest.raises(grpc.RpcError) as caught:
            self.stub.CreateTodo(pb.Item(text=text), **options)
        return caught.value


@pytest.fixture(scope="module", params=SERVICERS)
def served(request):
    with Served(SERVICERS[request.param]) as one:
        yield one


@pytest.fixture(scope="module")
def plain():
    with Served(Todo, max_message=2000, max_sent=2500, maximum_concurrent_rpcs=50) as one:
        yield one


@pytest.fixture
def client(plain):
    with Client(plain.port) as one:
        yield one


def clear(served):
    for event in (served.notes.began, served.notes.cancelled, served.notes.done):
        event.clear()


# ---- grpcio's client


def test_every_kind_of_method(served):
    assert served.stub.CreateTodo(pb.Item(text="paint")) == pb.Item(id=7, text="paint")
    assert [item.id for item in served.stub.ReadTodosStream(pb.Nothing())] == [0, 1, 2]
    assert served.stub.UploadTodos(iter([pb.Item()] * 300)).count == 300
    assert served.stub.UploadTodos(iter([])).count == 0
    notes = [pb.Note(text=str(number)) for number in range(20)]
    assert [note.text for note in served.stub.Chat(iter(notes))] == [note.text for note in notes]


def test_a_message_larger_than_every_window(served):
    item = pb.Item(text="x" * 3_000_000)
    assert served.stub.UploadTodos(iter([item, item])).count == 2
    assert served.stub.CreateTodo(pb.Item(text="y" * 3_000_000)).text == "y" * 3_000_000


def test_ping_pong(served):
    """Each note is sent when the answer to the one before is there."""
    answers = []

    def notes():
        for number in range(5):
            while len(answers) < number:
                answers.append(next(calls).text)
            yield pb.Note(text=str(number))

    import queue

    waiting: queue.Queue = queue.Queue()
    calls = served.stub.Chat(iter(waiting.get, None))
    for number in range(5):
        waiting.put(pb.Note(text=str(number)))
        assert next(calls).text == str(number)
    waiting.put(None)
    assert list(calls) == []


def test_how_a_servicer_can_end(served):
    error = served.fails("abort")
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such ☺ 100%")
    error = served.fails("raises")
    assert error.code() is grpc.StatusCode.UNKNOWN and "secret" not in error.details() and "ValueError" in error.details()
    error = served.fails("code")
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "lost")
    assert served.fails("nothing").code() is grpc.StatusCode.INTERNAL


def test_metadata_both_ways(served):
    pairs = (("k", "v"), ("b-bin", b"\0\xff"))
    item, call = served.stub.CreateTodo.with_call(pb.Item(text="about"), metadata=pairs, timeout=20)
    assert item.text.startswith("ipv4:127.0.0.1:") and item.text.endswith("v b'\\x00\\xff' True")
    assert dict(call.initial_metadata())["first"] == "1"


def test_the_deadline_ends_the_call_on_both_sides(served):
    clear(served)
    for timeout in DEADLINES:
        assert served.fails("wait", timeout=timeout).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if served.notes.began.is_set():
            break
    assert served.notes.cancelled.wait(20) and served.notes.done.wait(20)


def test_a_client_that_cancels_is_heard(served):
    clear(served)
    call = served.stub.CreateTodo.future(pb.Item(text="wait"))
    assert served.notes.began.wait(20)
    call.cancel()
    assert served.notes.cancelled.wait(20) and served.notes.done.wait(20)


def test_a_servicer_that_gives_up_early(plain):
    calls = plain.stub.Chat(iter([pb.Note(text="bye"), pb.Note(text="never")]))
    assert [note.text for note in calls] == ["bye"]
    assert calls.code() is grpc.StatusCode.OK


def test_what_is_not_implemented(plain):
    with pytest.raises(grpc.RpcError) as caught:
        plain.channel.unary_unary("/todo.v1.Todo/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED and "no method" in caught.value.details()


def test_trailing_metadata_comes_with_an_abort(plain):
    found = dict(plain.fails("abort").trailing_metadata())
    assert found["x-bin"] == b"\0\1" and found["x"] == "y"
    assert dict(plain.fails("code").trailing_metadata())["k"] == "v"


def test_an_abort_counts_once(plain):
    assert plain.fails("abort twice").details() == "first"
    assert "already" in plain.notes.twice
    assert plain.fails("go on after abort").details() == "first"


def test_a_message_of_ours_that_is_too_long(plain):
    error = plain.fails("large")
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "limit of 2500" in error.details()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_both_ways(compression):
    with Served(Todo, compression=compression) as served:
        calls = served.channel.unary_unary("/todo.v1.Todo/CreateTodo")
        item = pb.Item(text="paint " * 500)
        answer, _ = calls.with_call(item.SerializeToString(), compression=compression)
        assert pb.Item.FromString(answer).text == item.text
        with Client(served.port) as client:
            name = "gzip" if compression is grpc.Compression.Gzip else "deflate"
            body = message(item.SerializeToString(), False)
            back = client.ask(body, ("grpc-accept-encoding", f"identity, {name}"))
            assert back.head["grpc-encoding"] == name and back.body[0] == 1 and len(back.body) < 200
            assert pb.Item.FromString(grpccoding.inflate(name, back.body[5:], 0)).text == item.text
            assert "grpc-encoding" not in client.ask(body).head


# ---- by hand


def test_a_plain_call_on_the_wire(client):
    answer = client.ask(ONE, ("grpc-timeout", "10S"))
    assert answer.head[":status"] == "200" and answer.head["content-type"] == "application/grpc"
    assert answer.body == message(b"\x08\x07" + ITEM, False)
    assert answer.trailers == {"grpc-status": "0"}


def test_many_messages_in_one_frame_and_one_in_many(client):
    stream = client.open("/todo.v1.Todo/UploadTodos")
    client.send(stream, ONE * 50 + ONE[:3])
    for byte in ONE[3:]:
        client.send(stream, bytes((byte,)))
    client.send(stream, b"", True)
    assert client.answer(stream).body == message(b"\x08\x33", False)


def test_a_failure_before_a_message_is_one_frame(client):
    answer = client.ask(path="/todo.v1.Todo/Nothing")
    assert answer.head["grpc-status"] == "12" and answer.trailers == {} and answer.body == b""
    assert answer.head["content-type"] == "application/grpc"


@pytest.mark.parametrize(
    "body, fields, status, words",
    [
        (b"", (), 12, "none came"),
        (ONE + ONE, (), 12, "more came"),
        (b"\2\0\0\0\0", (), 13, "neither 0 nor 1"),
        (ONE[:-1], (), 13, "inside of a message"),
        (ONE[:4], (), 13, "inside of a message"),
        (b"\0\xff\xff\xff\xff", (), 8, "longer than the limit of 2000"),
        (message(b"\xff\xff", False), (), 13, "could not be decoded"),
        (b"\1" + ONE[1:], (), 13, "grpc-encoding does not say how"),
        (b"\1" + ONE[1:], (("grpc-encoding", "gzip"),), 13, "no gzip data"),
        (message(gzip.compress(b"\0" * 100_000), True), (("grpc-encoding", "gzip"),), 8, "longer than the limit"),
        (ONE, (("grpc-encoding", "snappy"),), 12, "does not have the encoding snappy"),
        (ONE, (("grpc-timeout", "1"),), 13, "grpc-timeout"),
        (ONE, (("grpc-timeout", "0n"),), 4, "has passed"),
        (ONE, (("te", "gzip"),), None, ""),
    ],
)
def test_bad_input(client, body, fields, status, words):
    answer = client.ask(body, *fields)
    if status is None:
        assert answer.reset is not None  # HTTP/2 itself forbids it
    else:
        assert answer.status == status and words in answer.message.replace("%2C", ",")
    assert client.ask().status == 0  # and the connection goes on


def test_without_te_a_call_is_refused(client):
    answer = client.ask(without=("te",))
    assert answer.status == 13 and "te: trailers is missing" in answer.message


def test_an_encoding_that_we_do_not_have_comes_with_those_that_we_do(client):
    answer = client.ask(ONE, ("grpc-encoding", "snappy"))
    assert {"gzip", "deflate"} <= set(answer.head["grpc-accept-encoding"].split(", "))


@pytest.mark.parametrize("kind", ["text/plain", "application/grpcx", ""])
def test_the_wrong_content_type_is_415(client, kind):
    assert client.ask(ONE, ("content-type", kind)).head[":status"] == "415"


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;x=y"])
def test_content_types_that_are_grpc(client, kind):
    assert client.ask(ONE, ("content-type", kind)).status == 0


def test_the_wrong_method_is_405(client):
    assert client.ask(b"", method="PUT").head[":status"] == "405"


def test_metadata_that_is_no_base64_fails_only_who_reads_it(client):
    about = message(b"\x12\x05about", False)
    answer = client.ask(about, ("k-bin", "?"))
    assert answer.status == 13 and "k-bin is not base64" in answer.message
    assert client.ask(ONE, ("k-bin", "?")).status == 0


def test_a_reset_in_the_middle_of_a_stream_ends_the_servicer(plain, client):
    clear(plain)
    stream = client.open("/todo.v1.Todo/ReadTodosStream", ("count", "0"))
    client.send(stream, b"\0\0\0\0\0", True)
    assert plain.notes.began.wait(20)
    client.conn.reset_stream(stream, 8)
    client.flush()
    assert plain.notes.cancelled.wait(20)
    assert client.ask().status == 0


def test_a_client_that_goes_in_the_middle_of_a_stream_ends_the_servicer(plain):
    clear(plain)
    with Client(plain.port) as client:
        stream = client.open("/todo.v1.Todo/ReadTodosStream", ("count", "0"))
        client.send(stream, b"\0\0\0\0\0", True)
        assert plain.notes.began.wait(20)
    assert plain.notes.cancelled.wait(20)


def test_a_client_that_does_not_read_stops_the_servicer(served):
    clear(served)
    if isinstance(served.server.handlers[b"/todo.v1.Todo/ReadTodosStream"].unary_stream.__self__, ByReading):
        pytest.skip("it sends three")
    with Client(served.port, window=0) as client:
        stream = client.open("/todo.v1.Todo/ReadTodosStream", ("count", "100000"))
        client.send(stream, b"\0\0\0\0\0", True)
        assert served.notes.began.wait(20)
        assert served.stub.CreateTodo(pb.Item(text="x")).id == 7  # others are served
    assert served.notes.cancelled.wait(20)
    assert served.notes.sent < 3000


def test_messages_that_nobody_takes_are_not_credited(plain):
    """A servicer that ended no longer reads: what comes is dropped. One that waits is sent no more than its window."""
    with Client(plain.port) as client:
        stream = client.open("/todo.v1.Todo/Chat")
        client.send(stream, message(b"\x12\x03bye", False))
        answer = client.answer(stream)
        assert answer.status == 0


def test_too_many_calls_at_once(plain):
    with Client(plain.port) as client:
        held = [client.open() for _ in range(50)]
        answer = client.ask()
        assert answer.status == 8 and "too many calls" in answer.message
        client.send(held[0], ONE, True)
        assert client.answer(held[0]).status == 0
        assert client.ask().status == 0


def test_over_http_1_it_is_505(plain):
    import http.client

    conn = http.client.HTTPConnection("127.0.0.1", plain.port)
    conn.request("POST", "/todo.v1.Todo/CreateTodo", ONE, {"content-type": "application/grpc", "te": "trailers"})
    assert conn.getresponse().status == 505
    conn.close()


# ---- interceptors, generic handlers, threads


class Named(grpc.aio.ServerInterceptor):
    def __init__(self, name, seen):
        self.name, self.seen = name, seen

    async def intercept_service(self, continuation, handler_call_details):
        self.seen.append((self.name, handler_call_details.method, dict(handler_call_details.invocation_metadata).get("k")))
        if dict(handler_call_details.invocation_metadata).get("deny") == self.name:

            async def deny(request, context):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, self.name)

            return grpc.unary_unary_rpc_method_handler(deny)
        return await continuation(handler_call_details)


class BlockingNamed(grpc.ServerInterceptor):
    def __init__(self, name, seen):
        self.name, self.seen = name, seen

    def intercept_service(self, continuation, handler_call_details):
        self.seen.append((self.name, handler_call_details.method, None))
        return continuation(handler_call_details)


@pytest.mark.parametrize("servicer", ["async", "blocking"])
def test_interceptors_are_asked_in_order(servicer):
    seen: list = []
    chain = [Named("a", seen), BlockingNamed("z", seen), Named("b", seen)]
    with Served(SERVICERS[servicer], interceptors=chain) as served:
        assert served.stub.CreateTodo(pb.Item(text="x"), metadata=(("k", "v"),)).text == "x"
        path = "/todo.v1.Todo/CreateTodo"
        assert seen == [("a", path, "v"), ("b", path, "v"), ("z", path, None)]
        assert served.fails("x", metadata=(("deny", "b"),)).code() is grpc.StatusCode.PERMISSION_DENIED
        assert served.stub.UploadTodos(iter([pb.Item()] * 3)).count == 3
        assert len(list(served.stub.ReadTodosStream(pb.Nothing()))) == 3
        with Client(served.port) as client:
            assert client.ask(b"").status == client.ask(ONE + ONE).status == 12
            assert client.ask(path="/no/such").status == 12


class Generic(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        if handler_call_details.method == "/any/Echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        return None


def test_generic_handlers_and_methods_without_protobuf():
    server = fairlead.grpc.Server(handlers=[Generic()])
    with fairlead.Server(server) as web, grpc.insecure_channel(f"127.0.0.1:{web.port}") as channel:
        for _ in range(2):
            assert channel.unary_unary("/any/Echo")(b"raw") == b"raw"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/any/Other")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_standard_health_and_reflection_register_unchanged():
    health = pytest.importorskip("grpc_health.v1.health")
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with Served(Todo) as served:
        pass
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), served.server)
    reflection.enable_server_reflection(["todo.v1.Todo", reflection.SERVICE_NAME], served.server)
    with fairlead.Server(served.server) as web, grpc.insecure_channel(f"127.0.0.1:{web.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == 1
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == 1
        watch.cancel()
        assert set(ProtoReflectionDescriptorDatabase(channel).get_services()) == {"todo.v1.Todo", reflection.SERVICE_NAME}


def test_a_service_of_our_own_needs_no_generated_code():
    from fairlead.serve.grpcmethods import handled

    async def count(request, context):
        for number in range(len(request)):
            yield b"%d" % number

    async def last(requests, context):
        found = b""
        async for one in requests:
            found = one
        return found

    server = fairlead.grpc.Server()
    methods = {"Count": handled(count, server_stream=True), "Last": handled(last, client_stream=True)}
    server.add_registered_method_handlers("fairlead.v1.Test", methods)
    with fairlead.Server(server) as web, grpc.insecure_channel(f"127.0.0.1:{web.port}") as channel:
        assert list(channel.unary_stream("/fairlead.v1.Test/Count")(b"abc")) == [b"0", b"1", b"2"]
        assert channel.stream_unary("/fairlead.v1.Test/Last")(iter([b"a", b"b"])) == b"b"


def test_what_belongs_to_the_configuration_is_refused_by_name():
    server = fairlead.grpc.Server()
    with pytest.raises(AppError, match="no ports"):
        server.add_insecure_port("[::]:50051")
    with pytest.raises(AppError, match=r"grpc.max_connection_age_ms"):
        fairlead.grpc.Server(options=[("grpc.max_connection_age_ms", 1)])
    with pytest.raises(AppError):
        asyncio.run(server.start())
    assert fairlead.grpc.Server(options=[("grpc.max_receive_message_length", 10)]).max_message == 10
    assert fairlead.grpc.Server(options=[("grpc.max_receive_message_length", -1)]).max_message == 0


def latest(web, method):
    """The record of a method's call: it is written just after the client has the answer."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for one in web.requests():
            if one["target"].endswith(method):
                return one
        time.sleep(0.01)
    raise AssertionError(f"no record of {method}")


def test_the_journey_has_decode_and_encode():
    from fairlead.run.observe import Observation

    with Served(Todo) as served:
        served.stub.UploadTodos(iter([pb.Item(text="x" * 100_000)] * 20))
        found = latest(served.web, "/UploadTodos")
        assert {"decode", "process"} <= {piece[0] for piece in found["pieces"]}
        assert "message-in" in str(Observation(served.web.slab).find(found["id"]))
        served.stub.CreateTodo(pb.Item(text="x" * 1_000_000))
        assert {"decode", "process", "encode"} <= {piece[0] for piece in latest(served.web, "/CreateTodo")["pieces"]}


def test_counts_by_method_are_summed_over_workers():
    from fairlead.run import grpcstats

    with Served(Todo) as served:
        served.stub.CreateTodo(pb.Item(text="x"))
        served.fails("raises")
        [one] = grpcstats.of(served.web.built).values()  # counted before the answer leaves
        counts = one["methods"]["/todo.v1.Todo/CreateTodo"]
        assert counts == {"started": 2, "succeeded": 1, "failed": 1, "messages_in": 2, "messages_out": 1}
        twice = grpcstats.summed([{"m:s": one}, {"m:s": one}])["m:s"]
        assert twice["methods"]["/todo.v1.Todo/CreateTodo"]["started"] == 4


def test_a_server_with_a_lifespan_and_threads_of_its_own():
    from contextlib import asynccontextmanager

    seen = []

    @asynccontextmanager
    async def lifespan(server):
        seen.append("in")
        yield
        seen.append("out")

    with Served(Todo, lifespan=lifespan) as served:
        assert seen == ["in"]
        assert served.stub.CreateTodo(pb.Item(text="x")).text == "x"
    assert seen == ["in", "out"]


def test_a_client_certificate_is_in_the_context():
    from fairlead.net.certs import dev_ca
    from fairlead.serve.grpccontext import names_of

    pytest.importorskip("cryptography")
    import ssl
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        certificate, _ = dev_ca(folder).leaf()
        der = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())
    assert b"localhost" in names_of(der)["x509_subject_alternative_name"]


def test_a_servicer_that_never_yields_is_ended_by_its_deadline(plain):
    """An async generator that waits without a message: the deadline ends it, and its `finally` runs."""
    clear(plain)
    for timeout in DEADLINES:
        with pytest.raises(grpc.RpcError) as caught:
            list(plain.stub.ReadTodosStream(pb.Nothing(), metadata=(("count", "0"),), timeout=timeout))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if plain.notes.began.is_set():
            break
    assert plain.notes.cancelled.wait(20)


def test_nothing_is_left_of_calls_that_are_over():
    """However a call ended, nothing keeps it: no garbage collector is needed."""
    import gc

    from fairlead.serve.grpccall import Call

    with Served(Todo) as served:
        served.stub.CreateTodo(pb.Item(text="warm"))
        gc.collect()
        gc.disable()
        try:
            for text in ("x", "abort", "wait", "code"):
                try:
                    served.stub.CreateTodo(pb.Item(text=text), timeout=0.1 if text == "wait" else 20)
                except grpc.RpcError:
                    pass
            list(served.stub.ReadTodosStream(pb.Nothing()))
            served.stub.UploadTodos(iter([pb.Item()] * 3))
            list(served.stub.Chat(iter([pb.Note(text="a")])))
            served.stub.CreateTodo(pb.Item(text="last"))
            end = time.monotonic() + 20  # the last word is heard before its Task has come to its end
            while (left := sum(isinstance(one, Call) for one in gc.get_objects())) > 1 and time.monotonic() < end:
                time.sleep(0.01)
            assert left <= 1
        finally:
            gc.enable()


def ended(client):
    """Does the connection still answer?"""
    try:
        client.sock.sendall(b"")
        return bool(client.sock.recv(1))
    except OSError:
        return False


def test_a_call_that_outlasts_a_drain_is_unavailable(plain):
    clear(plain)
    calls = plain.stub.ReadTodosStream(pb.Nothing(), metadata=(("count", "0"),))
    assert plain.notes.began.wait(20)
    for tcp in list(plain.web.listeners[0].tcps):
        plain.web.loop.call_soon_threadsafe(tcp.conn.farewell)
    with pytest.raises(grpc.RpcError) as caught:
        list(calls)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE and "shutting down" in caught.value.details()
    assert plain.notes.cancelled.wait(20)


def test_floods_of_resets_cost_the_connection(plain):
    """Rapid reset: HTTP/2's own limit, also here; other connections go on."""
    with Client(plain.port) as client:
        try:
            for _ in range(400):
                stream = client.open()
                client.conn.reset_stream(stream, 8)
                client.flush()
            while client.read():
                pass
        except OSError:
            pass
        assert client.sock.fileno() < 0 or not ended(client)
    assert plain.stub.CreateTodo(pb.Item(text="x")).id == 7
