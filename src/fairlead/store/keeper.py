"""The keeper: the one process that owns a store which only one process may own, serving it to the workers over a unix socket.

    worker                                        keeper
    hello(caller, topics, queues)         ->
                                          <-      welcome(declaration, done, shift, path)
    calls(seen, [(number, word, args)])   ->              one transaction for all that all workers sent meanwhile
                                          <-      done([(number, answer)])
    look(number, word, args)              ->              only where there is no file that the worker can read itself
                                          <-      seen(number, answer)
    mind(kind, name, wanted)              ->
                                          <-      minded(kind, name)      from here on news come: what came before, read
                                          <-      news([(topic, epoch, last, chunk)], [queue])
                                          <-      lost()
    bye()                                 ->

- Calls are numbered and done once, whatever is killed (`journal`): after a crash of the keeper the worker connects again, hears in
  `welcome` up to which number its calls were done, and sends again what it has no answer to.
- News are committed events, encoded once: the same bytes are in the file and on every line whose worker minds the topic. They
  are said before the answers of the same commit. A worker that does not take them (it is stopped, or stuck) is told nothing more
  until it does, and then `lost`: it looks for itself.
- The socket's listening end is the master's, so that workers can connect while no keeper lives; they wait in its backlog.
- Only processes of the same user (or root's) are heard.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from . import words
from .clock import Clock
from .contract import Declaration, StoreError
from .facade import CALLS, LOOKS
from .journal import Answer, Call, Origin, pack_answer
from .line import Line

log = logging.getLogger("fairlead")


class Local(Protocol):
    """An engine that a keeper can keep: `Sqlite` and `Memory`."""

    clock: Clock
    path: str
    on_group: Callable[[list[Any], set[str]], None] | None

    async def open(self) -> Declaration:
        """See `Engine`."""

    async def close(self) -> None:
        """See `Engine`."""

    def submit(self, call: Call, done: Callable[[Answer], None]) -> None:
        """Has a call done."""

    def look(self, word: str, *args: Any) -> Awaitable[Any]:
        """Has a look."""


class Client:
    """A worker: its line, what it minds, the answers of this group."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.caller = ""
        self.topics: set[str] = set()
        self.queues: set[str] = set()
        self.answers: list[Any] = []


class Keeper:
    """Serves an engine to whoever connects to `sock`, a listening unix socket."""

    def __init__(self, engine: Local, sock: socket.socket) -> None:
        self.engine = engine
        self.sock = sock
        self.clients: dict[Line, Client] = {}
        self.declared: Declaration | None = None
        self.stopping = False
        self.server: asyncio.AbstractServer | None = None
        self.empty = asyncio.Event()
        self.empty.set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.answered: set[Client] = set()
        self.heard: dict[str, Callable[..., None]] = {
            "hello": self.hello, "calls": self.calls, "look": self.look, "mind": self.mind, "bye": self.bye,
        }  # fmt: skip

    async def start(self) -> Declaration:
        """Open the engine and serve. StoreError."""
        self.engine.on_group = self.group
        self.declared = await self.engine.open()
        self.server = await asyncio.get_running_loop().create_unix_server(self.line, sock=self.sock)
        return self.declared

    async def stop(self) -> None:
        """Finish what was begun, and go. What comes from now on is not heard: it is sent again to the next keeper."""
        self.stopping = True
        if self.server is not None:
            self.server.close()
        await self.engine.close()
        await asyncio.sleep(0)
        for line in list(self.clients):
            line.close()

    def line(self) -> Line:
        """Somebody connects."""
        line = Line(self.message, self.gone)
        self.clients[line] = Client(line)
        self.empty.clear()
        return line

    def gone(self, line: Line) -> None:
        """A worker ended, or was told to."""
        self.clients.pop(line, None)
        if not self.clients:
            self.empty.set()

    def message(self, line: Line, message: Any) -> None:
        """One message of a worker. The first must be `hello`, of somebody who is allowed."""
        client = self.clients[line]
        word, *rest = message
        if self.stopping:
            return
        if not client.caller and (word != "hello" or not allowed(line)):
            line.close()
            return
        self.heard[word](client, *rest)

    # ---- the words

    def hello(self, client: Client, caller: str, topics: list[str], queues: list[str]) -> None:
        """Who it is, and what it minds."""
        client.caller = caller
        client.topics, client.queues = set(topics), set(queues)
        self.engine.submit(Call("greet", (caller,)), lambda answer: self.welcome(client, answer))

    def welcome(self, client: Client, answer: Answer) -> None:
        """The store as it is, and up to where the caller's calls are done."""
        done = answer.value if answer.error is None else 0
        path = os.path.abspath(self.engine.path) if self.engine.path else ""
        client.line.say("welcome", self.declared, done, self.engine.clock.shift, path)

    def calls(self, client: Client, seen: int, calls: list[Any]) -> None:
        """To be done, each once."""
        for number, word, args in calls:
            if word not in CALLS:
                self.answer(client, number, Answer(None, StoreError(f"no such call: {word}")))
                continue
            origin = Origin(client.caller, number, seen)
            self.engine.submit(Call(word, tuple(args), origin), partial(self.answer, client, number))

    def answer(self, client: Client, number: int, answer: Answer) -> None:
        """Gather a group's answers: they leave in one message."""
        if not self.answered:
            asyncio.get_running_loop().call_soon(self.flush)
        self.answered.add(client)
        value, error, packed = answer
        client.answers.append((0, number, *(packed if packed is not None else pack_answer(value, error))))

    def flush(self) -> None:
        """Say what was answered."""
        answered, self.answered = self.answered, set()
        for client in answered:
            answers, client.answers = client.answers, []
            client.line.send(words.marshalled((0, "done", answers)))

    def look(self, client: Client, number: int, word: str, args: list[Any]) -> None:
        """To be looked up."""
        task = asyncio.get_running_loop().create_task(self.looked(client, number, word, tuple(args)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def looked(self, client: Client, number: int, word: str, args: tuple[Any, ...]) -> None:
        """The answer of a look."""
        try:
            answer = Answer(await self.engine.look(word, *args)) if word in LOOKS else Answer(None, StoreError(word))
        except Exception as error:
            answer = Answer(None, error)
        client.line.send(words.marshalled((0, "seen", number, list(pack_answer(answer.value, answer.error)))))

    def mind(self, client: Client, kind: str, name: str, wanted: bool) -> None:
        """What news matter there."""
        minded = client.topics if kind == "topic" else client.queues
        if wanted:
            minded.add(name)
            client.line.say("minded", kind, name)
        else:
            minded.discard(name)

    def bye(self, client: Client) -> None:
        """It leaves in order: its answers are not needed any more."""
        self.engine.submit(Call("leave", (client.caller,)), lambda answer: client.line.close())

    # ---- news

    def group(self, raw: list[Any], stirred: set[str]) -> None:
        """A group is committed: tell whoever minds. The encoding of equal news is shared."""
        made: dict[tuple[Any, ...], bytes] = {}
        for client in self.clients.values():
            if not client.caller or self.holds_back(client):
                continue
            wanted = tuple([n for n, one in enumerate(raw) if one[0] in client.topics])
            queues = tuple(sorted(client.queues & stirred)) if client.queues else ()
            if wanted or queues:
                key = (wanted, queues)
                if key not in made:
                    made[key] = words.dumps(("news", [list(raw[n]) for n in wanted], list(queues)))
                client.line.send(made[key])

    def holds_back(self, client: Client) -> bool:
        """Whether a worker leaves too much untaken to be told more; when it takes again, it is told that it missed something."""
        if client.line.stalled and client.line.on_room is None:
            client.line.on_room = partial(self.room, client)
        return client.line.stalled

    def room(self, client: Client) -> None:
        """It takes again."""
        client.line.on_room = None
        client.line.say("lost")


def allowed(line: Line) -> bool:
    """Whether the other end is of our user, or root's. Where the system cannot say, the socket's folder guards it."""
    sock = line.transport.get_extra_info("socket") if line.transport is not None else None
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return sock is not None
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in (os.geteuid(), 0)
