"""`unit = "thread"`: one process whose workers are threads, `python -m fairlead.run.threads FD`, started by the master.

Rules
1. Each thread is a worker like any other: a loop of its own, a channel of its own to the master, a region of the slab of
   its own, and its own descriptors. What is shared is the interpreter and the application's modules.
2. The main thread serves nothing. It begins threads when the master says so, and answers signals, which Python gives to
   the main thread only: SIGTERM asks every thread to leave.
3. The process ends when the last thread has, or when the master is gone. A thread that is stuck holds nobody: threads
   are daemons, and the master kills the process when the grace is over.
4. Under the GIL threads take turns; on free-threaded Python they run at once. What modules share must be guarded or
   never change: see docs/components/patterns.md for what was looked at.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from typing import Any

from fairlead.run import logs, worker
from fairlead.run.channel import Channel


class Host:
    """The process: its threads by number."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.living: dict[threading.Thread, worker.Life] = {}
        self.numbers = 0

    async def main(self) -> int:
        """Until the last thread has ended."""
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self.loop.create_future()
        self.loop.add_signal_handler(worker.signal.SIGTERM, self.leave)
        self.channel.watch(self.loop, self.heard, self.orphaned)
        await self.over
        return 0

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """The master's word: begin a thread on this channel."""
        if word == "begin":
            life = worker.Life(Channel(socket.socket(fileno=fds[0])), in_thread=True)
            thread = threading.Thread(target=self.live, args=(life,), daemon=True, name=f"role-{self.numbers}")
            self.numbers += 1
            self.living[thread] = life
            thread.start()

    def live(self, life: worker.Life) -> None:
        """A thread from its first word to its last."""
        try:
            life.run()
        except BaseException:
            logs.log.exception("a worker thread ended")
        finally:
            life.channel.sock.close()
            self.loop.call_soon_threadsafe(self.ended, threading.current_thread())

    def ended(self, thread: threading.Thread) -> None:
        """One thread less."""
        self.living.pop(thread, None)
        if not self.living and not self.over.done():
            self.over.set_result(None)

    def leave(self) -> None:
        """SIGTERM."""
        for life in self.living.values():
            life.leave()
        if not self.living and not self.over.done():
            self.over.set_result(None)

    def orphaned(self) -> None:
        """The master is gone: each thread sees that itself; nobody can begin another."""
        if not self.living and not self.over.done():
            self.over.set_result(None)


def main() -> int:
    """The process's entry."""
    worker.settle_signals()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    with asyncio.Runner() as runner:
        return runner.run(Host(channel).main())


if __name__ == "__main__":
    sys.exit(main())
