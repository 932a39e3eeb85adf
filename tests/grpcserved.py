"""The servers that the gRPC tests ask: the Todo service of examples/todo, async and blocking, with what goes wrong on demand."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "todo"))

import grpc
import todo_pb2 as pb
import todo_pb2_grpc as rpc


class Notes:
    """What servicers saw."""

    def __init__(self):
        self.cancelled = threading.Event()
        self.began = threading.Event()
        self.done = threading.Event()
        self.sent = 0
        self.twice = ""
        self.contexts = []


class Todo(rpc.TodoServicer):
    """Does what the text of the item says."""

    def __init__(self, notes):
        self.notes = notes

    async def CreateTodo(self, request, context):
        context.add_done_callback(lambda _: self.notes.done.set())
        does = getattr(self, request.text.replace(" ", "_"), None) if request.text else None
        if does is not None:
            return await does(context)
        return pb.Item(id=7, text=request.text)

    async def abort(self, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such ☺ 100%", (("x-bin", b"\0\1"), ("x", "y")))

    async def abort_twice(self, context):
        try:
            await context.abort(grpc.StatusCode.NOT_FOUND, "first")
        except grpc.aio.AbortError:
            try:
                await context.abort(grpc.StatusCode.INTERNAL, "second")
            except grpc.aio.UsageError as error:
                self.notes.twice = str(error)
            raise

    async def go_on_after_abort(self, context):
        try:
            await context.abort(grpc.StatusCode.NOT_FOUND, "first")
        except grpc.aio.AbortError:
            return pb.Item(id=1)

    async def raises(self, context):
        raise ValueError("a secret")

    async def nothing(self, context):
        return None

    async def code(self, context):
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")
        context.set_trailing_metadata((("k", "v"),))
        return pb.Item(id=1)

    async def wait(self, context):
        self.notes.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.notes.cancelled.set()
            raise

    async def about(self, context):
        await context.send_initial_metadata((("first", "1"),))
        found = dict(context.invocation_metadata())
        return pb.Item(text=f"{context.peer()} {found.get('k')} {found.get('b-bin')} {context.time_remaining() is not None}")

    async def large(self, context):
        return pb.Item(text="x" * 3000)

    async def ReadTodos(self, request, context):
        return pb.Items(items=[pb.Item(id=1, text="one")])

    async def ReadTodosStream(self, request, context):
        count = int(dict(context.invocation_metadata()).get("count", "3"))
        try:
            self.notes.began.set()
            for number in range(count):
                self.notes.sent = number + 1
                yield pb.Item(id=number, text="x" * 1000 if count > 1000 else "")
            if count == 0:
                await asyncio.Event().wait()
        finally:
            self.notes.cancelled.set()

    async def UploadTodos(self, request_iterator, context):
        count = 0
        async for _ in request_iterator:
            count += 1
        return pb.Uploaded(count=count)

    async def Chat(self, request_iterator, context):
        async for note in request_iterator:
            yield pb.Note(who="you", text=note.text)
            if note.text == "bye":
                return


class ByReading(Todo):
    """The same streams with `context.read` and `context.write`."""

    async def ReadTodosStream(self, request, context):
        for number in range(3):
            await context.write(pb.Item(id=number))

    async def UploadTodos(self, request_iterator, context):
        count = 0
        while await context.read() is not grpc.aio.EOF:
            count += 1
        return pb.Uploaded(count=count)

    async def Chat(self, request_iterator, context):
        while (note := await context.read()) is not grpc.aio.EOF:
            await context.write(pb.Note(who="you", text=note.text))


class Blocking(rpc.TodoServicer):
    """The same with blocking methods."""

    def __init__(self, notes):
        self.notes = notes

    def CreateTodo(self, request, context):
        context.add_callback(self.notes.done.set)
        if request.text == "abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such ☺ 100%")
        if request.text == "raises":
            raise ValueError("a secret")
        if request.text == "nothing":
            return None
        if request.text == "code":
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("lost")
        if request.text == "wait":
            self.notes.began.set()
            while context.is_active():
                threading.Event().wait(0.005)
            self.notes.cancelled.set()
        if request.text == "about":
            context.send_initial_metadata((("first", "1"),))
            found = dict(context.invocation_metadata())
            left = context.time_remaining() is not None
            return pb.Item(text=f"{context.peer()} {found.get('k')} {found.get('b-bin')} {left}")
        return pb.Item(id=7, text=request.text)

    def ReadTodosStream(self, request, context):
        count = int(dict(context.invocation_metadata()).get("count", "3"))
        try:
            self.notes.began.set()
            for number in range(count):
                self.notes.sent = number + 1
                yield pb.Item(id=number, text="x" * 1000 if count > 1000 else "")
        finally:
            self.notes.cancelled.set()

    def UploadTodos(self, request_iterator, context):
        return pb.Uploaded(count=sum(1 for _ in request_iterator))

    def Chat(self, request_iterator, context):
        try:
            for note in request_iterator:
                yield pb.Note(who="you", text=note.text)
        finally:
            self.notes.cancelled.set()
