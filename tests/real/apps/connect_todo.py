"""The Todo service by connectrpc, an ASGI framework that speaks gRPC, gRPC-Web and Connect by itself: it needs trailers."""

import todo_pb2 as pb
from connectrpc.compat import google_protobuf_codecs
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint


def method(name, kind, request, answer):
    return MethodInfo(name=name, service_name="todo.v1.Todo", input=request, output=answer,
                      idempotency_level=IdempotencyLevel.UNKNOWN, stream_type=kind)  # fmt: skip


class Todo:
    async def create(self, request, context):
        return pb.Item(id=7, text=request.text)

    async def read(self, request, context):
        for number in range(3):
            yield pb.Item(id=number)

    async def chat(self, notes, context):
        async for note in notes:
            yield note


class App(ConnectASGIApplication):
    path = "/todo.v1.Todo"


def endpoints(todo):
    return {
        "/todo.v1.Todo/CreateTodo": Endpoint.unary(method("CreateTodo", StreamType.UNARY, pb.Item, pb.Item), todo.create),
        "/todo.v1.Todo/ReadTodosStream": Endpoint.server_stream(
            method("ReadTodosStream", StreamType.SERVER_STREAM, pb.Nothing, pb.Item), todo.read
        ),
        "/todo.v1.Todo/Chat": Endpoint.bidi_stream(method("Chat", StreamType.BIDI_STREAM, pb.Note, pb.Note), todo.chat),
    }


app = App(service=Todo(), endpoints=endpoints, codecs=google_protobuf_codecs())
