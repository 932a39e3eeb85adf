"""One process that the master started: its channel, its state, and what it told. Started by exec, never by a fork of
the loop.

    starting --ready--> serving --drain--> draining --exit--> gone
        '------------------- exit at any time ------------------'

The state only moves to the right. `Role` knows nothing of other roles; who is replaced by whom is the master's
business. With `unit = "thread"` a role is a thread of a process that it shares with others (run/threads.py has the other
side): the same words over a channel of its own, but a signal reaches all of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, time
from typing import Any

from fairlead.run.channel import Channel

STARTING, SERVING, DRAINING, GONE = "starting", "serving", "draining", "gone"


class Role:
    """A worker process, as the master sees it. `index` is its place (below nought: what stands before the workers),
    `slot` its region of the slab, `number` counts starts, `title` is what it is called.
    """

    def __init__(self, index: int, slot: int, number: int, title: str = "worker", shown: int | None = None) -> None:
        self.index = index
        self.title = f"{title} {shown if shown is not None else index if index >= 0 else -1 - index}"
        self.thread = 0
        self.hops = False
        self.apps: tuple[int, ...] = ()
        self.slot = slot
        self.number = number
        self.state = STARTING
        self.started = monotonic()
        self.since = time()
        self.error = ""
        self.detail = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None
        self.became = asyncio.get_running_loop().create_future()
        self.gone = asyncio.get_running_loop().create_future()
        self.asked: dict[int, asyncio.Future[dict[str, Any]]] = {}  # by the question's number
        self.questions = 0
        self.on_word: Callable[[Role, str, dict[str, Any]], None] | None = None

    @property
    def pid(self) -> int:
        """The process id, 0 before the start."""
        return self.process.pid if self.process else 0

    def start(self, values: dict[str, Any], fds: Sequence[int], **popen: Any) -> None:
        """Execute the worker and tell it what to serve, with the descriptors that it needs."""
        self.channel, theirs = Channel.pair()
        try:
            command = [sys.executable, "-m", "fairlead.run.worker", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, **popen)
        except OSError as error:
            self.error = f"a process cannot be started: {error.strerror or error}"
            self.state = GONE
            self.channel.close()
            self.settle(False)
            self.gone.set_result(1)
            return
        finally:
            theirs.close()
        self.channel.watch(asyncio.get_running_loop(), self.heard, self.cut)
        self.channel.say("start", fds, **values)

    def say(self, word: str, fds: Sequence[int] = (), **values: Any) -> None:
        """Send a message; a role that is gone hears nothing."""
        if self.channel is not None and self.channel.loop is not None:
            self.channel.say(word, fds, **values)

    async def ask(self, word: str, fds: Sequence[int] = (), timeout: float = 30.0, **values: Any) -> dict[str, Any]:
        """Send a question and wait for the answer to it; raises TimeoutError, or EOFError when the role goes. Its number is
        said with it and comes back with the answer, so that many may be open at once, of one word too.
        """
        if self.state == GONE or self.channel is None or self.channel.loop is None:
            raise EOFError(f"{self.title} is gone")
        self.questions = number = self.questions + 1
        future = self.asked[number] = asyncio.get_running_loop().create_future()
        self.say(word, fds, question=number, **values)
        try:
            return await asyncio.wait_for(future, timeout)
        finally:
            self.asked.pop(number, None)

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """A message from the role."""
        if word == "ready":
            self.thread = values.get("thread", 0)
            if self.state == STARTING:
                self.state = SERVING
            self.settle(True)
        elif word == "failed":
            self.error, self.detail = values["error"], values.get("detail", "")
            self.settle(False)
        elif "question" in values:
            future = self.asked.get(values.pop("question"))
            if future is not None and not future.done():  # nobody waits for an answer that comes late
                future.set_result(values)
        elif self.on_word is not None:
            self.on_word(self, word, values)

    def settle(self, ready: bool) -> None:
        """Tell who waits for the start how it went."""
        if not self.became.done():
            self.became.set_result(ready)

    def cut(self) -> None:
        """The channel's other end is closed: the process has ended or will."""
        for future in self.asked.values():
            if not future.done():
                future.set_exception(EOFError(f"{self.title} is gone"))

    def reap(self) -> bool:
        """True, once, when the process has ended."""
        if self.state == GONE or self.process is None or self.ended() is None:
            return False
        self.state = GONE
        if self.channel is not None:
            self.channel.fill()
            self.channel.tell()
            self.channel.close()
        self.cut()
        self.settle(False)
        if not self.gone.done():
            self.gone.set_result(self.ended())
        return True

    def ended(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll() if self.process is not None else None

    def drain(self, grace: float, settle: float) -> None:
        """Ask for a drain: stop accepting, finish, leave. Idle connections are kept `settle` seconds for a last
        request.
        """
        if self.state in (STARTING, SERVING):
            self.state = DRAINING
            self.say("drain", grace=grace, settle=settle)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        if self.process is not None and self.ended() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def ending(self) -> str:
        """How the process ended, in words."""
        code = self.ended()
        if code is None:
            return "still running"
        if code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


class Host:
    """A process whose threads are roles. It ends when its last thread has."""

    def __init__(self, **popen: Any) -> None:
        self.channel, theirs = Channel.pair()
        try:
            command = [sys.executable, "-m", "fairlead.run.threads", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, **popen)
        finally:
            theirs.close()

    def begin(self, theirs: socket.socket) -> None:
        """Start a thread at the other end of this channel."""
        self.channel.say("begin", [theirs.fileno()])

    @property
    def alive(self) -> bool:
        """Can it take another thread?"""
        return self.process.poll() is None

    def end(self) -> None:
        """Its threads are gone: the process goes now, if it has not yet."""
        if self.alive:
            self.process.kill()
            self.process.wait()
        self.channel.close()


class ThreadRole(Role):
    """A role that is a thread of `host`. `on_gone` is called when the thread has ended."""

    def __init__(self, index: int, slot: int, number: int, title: str, host: Host, on_gone: Callable[[], None]) -> None:
        super().__init__(index, slot, number, title)
        self.host = host
        self.on_gone = on_gone
        self.code: int | None = None

    def start(self, values: dict[str, Any], fds: Sequence[int], **popen: Any) -> None:
        """Have the process begin a thread, and tell it what to serve."""
        self.process = self.host.process
        self.channel, theirs = Channel.pair()
        self.host.begin(theirs)
        theirs.close()
        self.channel.watch(asyncio.get_running_loop(), self.heard, self.cut)
        self.channel.say("start", fds, **values)

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """A message from the thread."""
        if word == "ended":
            self.code = values["code"]
        else:
            super().heard(word, values, fds)

    def cut(self) -> None:
        """The thread has ended, with its process or without."""
        super().cut()
        if self.state != GONE:
            if self.code is None and self.host.alive:
                self.code = 1
            asyncio.get_running_loop().call_soon(self.on_gone)

    def ended(self) -> int | None:
        """The thread's exit code, or its process's."""
        return self.code if self.code is not None else super().ended()
