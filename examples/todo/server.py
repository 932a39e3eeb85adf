"""The Todo service over gRPC: one method of every kind, kept in memory.

    cd examples/todo && fairlead run fairlead.toml         http://127.0.0.1:8000 is the page, gRPC is on the same port
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import todo_pb2 as pb
import todo_pb2_grpc

import fairlead


class Todo(todo_pb2_grpc.TodoServicer):
    """A list of things to do, and a chat that says to everybody what one of them says."""

    def __init__(self) -> None:
        self.items: list[pb.Item] = []
        self.listeners: set[asyncio.Queue[pb.Note]] = set()

    async def CreateTodo(self, request: pb.Item, context: grpc.aio.ServicerContext) -> pb.Item:
        """Unary: keep one item."""
        if not request.text:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an item needs a text")
        item = pb.Item(id=len(self.items) + 1, text=request.text)
        self.items.append(item)
        return item

    async def ReadTodos(self, request: pb.Nothing, context: grpc.aio.ServicerContext) -> pb.Items:
        """Unary: all items."""
        return pb.Items(items=self.items)

    async def ReadTodosStream(self, request: pb.Nothing, context: grpc.aio.ServicerContext) -> AsyncIterator[pb.Item]:
        """Server streaming: all items, one by one."""
        for item in self.items:
            yield item

    async def UploadTodos(
        self, request_iterator: AsyncIterator[pb.Item], context: grpc.aio.ServicerContext
    ) -> pb.Uploaded:
        """Client streaming: keep many items."""
        count = 0
        async for item in request_iterator:
            count += 1
            self.items.append(pb.Item(id=len(self.items) + 1, text=item.text))
        return pb.Uploaded(count=count)

    async def Chat(
        self, request_iterator: AsyncIterator[pb.Note], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Note]:
        """Both at once: what anybody says, everybody hears, whoever said it too."""
        heard: asyncio.Queue[pb.Note] = asyncio.Queue(maxsize=100)
        self.listeners.add(heard)
        speaking = asyncio.create_task(self.listen(request_iterator, heard))
        try:
            while (note := await heard.get()).text or note.who:
                yield note
        finally:
            self.listeners.discard(heard)
            speaking.cancel()

    async def listen(self, notes: AsyncIterator[pb.Note], own: asyncio.Queue[pb.Note]) -> None:
        """Pass on what one client says; an empty note at its end."""
        async for note in notes:
            for one in self.listeners:
                if one is own or not one.full():  # who does not listen misses something
                    await one.put(note)
        await own.put(pb.Note())


server = fairlead.grpc.Server()
todo_pb2_grpc.add_TodoServicer_to_server(Todo(), server)
