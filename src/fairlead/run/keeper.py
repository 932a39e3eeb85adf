"""The keeper's process: `python -m fairlead.run.keeper FD`, started by the master. It owns a store that one process must own, and
serves it to the workers (see `store.keeper`).

It leaves when the master says `drain`, at once; when the master is gone, after the last worker, which may still be finishing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.run import logs
from fairlead.run.channel import Channel
from fairlead.run.itself import name_thread
from fairlead.run.worker import new_loop, one_line, settle_signals
from fairlead.store.contract import Ack
from fairlead.store.keeper import Keeper, Local
from fairlead.store.memory import Memory
from fairlead.store.sqlfile import path_of
from fairlead.store.sqlite import Sqlite

log = logging.getLogger("fairlead")

ORPHAN = 6.0  # seconds that workers without a master may still need the store
PATIENCE = 15.0  # seconds that an earlier owner of the file has to end


class Keeping:
    """The process's life."""

    def __init__(self, channel: Channel, values: dict[str, Any], fds: list[int]) -> None:
        self.channel = channel
        self.keeper = Keeper(engine(values["url"], values["ack"]), socket.socket(fileno=fds[0]))
        self.leave = asyncio.Event()
        self.orphaned = False

    async def main(self) -> int:
        """Open, serve, close; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.orphan)
        self.channel.watch(loop, self.heard, self.orphan)
        try:
            declared = await self.keeper.start()
        except Exception as error:
            self.channel.say("failed", error=one_line(error))
            return 1
        self.channel.say("ready", declared=declared)
        await self.leave.wait()
        if self.orphaned:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.keeper.empty.wait(), ORPHAN)
        await self.keeper.stop()
        return 0

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """The master's word."""
        if word == "drain":
            self.leave.set()
        elif word == "reopen":
            logs.reopen()

    def orphan(self) -> None:
        """The master is gone."""
        self.orphaned = True
        self.leave.set()


def engine(url: str, ack: str) -> Local:
    """The engine to keep."""
    wanted = Ack(ack) if ack else None
    made: Any = Memory() if url.startswith("memory:") else Sqlite(path_of(url), wanted, inline=True, patience=PATIENCE)
    return made


def main() -> int:
    """The process's entry."""
    settle_signals()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        _, values, fds = channel.read()
    except EOFError:
        return 1
    logs.setup(values["log"])
    name_thread("keeper")
    try:
        loop = new_loop(values["loop"])
    except FairleadError as error:
        channel.say("failed", error=one_line(error))
        return 1

    async def live() -> int:
        return await Keeping(channel, values, fds).main()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(live())


if __name__ == "__main__":
    sys.exit(main())
