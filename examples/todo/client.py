"""The Todo service asked by grpcio's own client, every kind of method.

    python client.py [127.0.0.1:8000]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import todo_pb2 as pb
import todo_pb2_grpc


async def main(address: str) -> None:
    """Ask."""
    async with grpc.aio.insecure_channel(address) as channel:
        todo = todo_pb2_grpc.TodoStub(channel)
        made = await todo.CreateTodo(pb.Item(text="paint the boat"), timeout=5)
        print("made", made.id, made.text)

        async def more() -> AsyncIterator[pb.Item]:
            for text in ("mend the net", "coil the lines"):
                yield pb.Item(text=text)

        print("uploaded", (await todo.UploadTodos(more())).count)
        print("all", [item.text for item in (await todo.ReadTodos(pb.Nothing())).items])
        async for item in todo.ReadTodosStream(pb.Nothing()):
            print("read", item.id, item.text)

        chat = todo.Chat()
        for text in ("ahoy", "is anybody there?"):
            await chat.write(pb.Note(who="python", text=text))
            print("heard", (await chat.read()).text)
        await chat.done_writing()
        try:
            await todo.CreateTodo(pb.Item())
        except grpc.aio.AioRpcError as error:
            print("refused", error.code().name, error.details())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"))
