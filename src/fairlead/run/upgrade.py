"""A new binary without a lost connection: a new master takes the sockets, and the old one drains when the new one serves.

    old master ── exec, one end of a socket pair ──▶ new master
               ── sockets, ticket keys ─────────────▶   its workers start beside the old ones
               ◀── "serving" ────────────────────────
    drains, exits                                     goes on

Rules
1. The new master is executed by the command line and in the directory of the old one, so it is whatever Python, Fairlead,
   application and configuration are installed there now.
2. Until "serving" the old one serves as if nothing were. A new one that ends, says nothing for `PATIENCE`, or cannot start
   its workers changes nothing; its own error is in the log.
3. A unix socket's path belongs to who holds the socket last: the old master leaves it alone.
4. Process 1 of a container cannot do it: with its end the container ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import NetError
from fairlead.core.slab import Slab
from fairlead.net.quicshare import Share
from fairlead.run import systemd
from fairlead.run.channel import Channel

if TYPE_CHECKING:
    from fairlead.run.master import Master

log = logging.getLogger("fairlead")

QUIC_KEYS = 96  # bytes at the beginning of what workers share for QUIC
VARIABLE = "FAIRLEAD_UPGRADE"
PATIENCE = 300.0  # seconds for the new master until it serves: applications may import for long


async def upgrade(master: Master) -> dict[str, Any]:
    """The old master's side; what was done, as `Master.reload` says it."""
    if os.getpid() == 1:
        return refused("this server is process 1: with its end the container ends", "use: fairlead reload --workers")
    async with master.busy:
        if not master.ready:
            return refused("the server is stopping")
        channel, theirs = Channel.pair()
        try:
            new = master.heir = execute(theirs)
        except OSError as error:
            channel.close()
            return refused(f"a process cannot be started: {error.strerror or error}")
        finally:
            theirs.close()
        hand_over(master, channel)
        await master.keepers.yield_all()
        problem = await serving(channel, new)
        channel.close()
        if problem:
            await ended(new)
            await master.keepers.resume()
            return refused(f"the new server did not start: {problem}", code=new.returncode)
        systemd.notify(MAINPID=new.pid)
        message = f"process {new.pid} serves now, process {os.getpid()} drains"
        log.info("upgrade: %s", message)
        master.leave_to_successor()
        return {"did": "binary", "message": message, "pid": new.pid}


def refused(error: str, message: str = "nothing was changed", **more: Any) -> dict[str, Any]:
    """Nothing was done."""
    log.error("upgrade: %s (%s)", error, message)
    return {"did": "failed", "error": error, "message": message, **more}


def execute(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start the new master; it finds its end of the channel by `VARIABLE`."""
    command = [sys.executable, *sys.orig_argv[1:]]
    env = {**os.environ, VARIABLE: str(theirs.fileno())}
    return subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL)


def hand_over(master: Master, channel: Channel) -> None:
    """Send every socket, each address in a message of its own, then what else the new master goes on with."""
    for address, held in master.holder.held.items():
        fds = [sock.fileno() for sock in held.socks]
        channel.say("sockets", fds, address=address, made=held.made, fixed=held.fixed)
        if held.datagrams:
            channel.say("datagrams", [sock.fileno() for sock in held.datagrams], address=address)
    for name, sock in master.admin.socks.items():
        channel.say("admin", [sock.fileno()], name=name)
    for url, kept in master.keepers.kept.items():
        if kept.sock is not None:
            channel.say("keeper", [kept.sock.fileno()], url=url, address=kept.address)
    channel.say("go", ticket_keys=master.tickets.keys, token=master.admin.token, made=master.admin.made,
                quic=bytes(master.slab.quic()[:QUIC_KEYS]))  # fmt: skip


async def serving(channel: Channel, new: subprocess.Popen[bytes]) -> str:
    """Wait until the new master serves; what went wrong, "" when it does."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[str] = loop.create_future()

    def heard(word: str, values: dict[str, Any], fds: list[int]) -> None:
        if not said.done():
            said.set_result("" if word == "serving" else str(values.get("error", word)))

    def ended() -> None:
        if not said.done():
            said.set_result("it ended; its own words are above")

    channel.watch(loop, heard, ended)
    try:
        return await asyncio.wait_for(said, PATIENCE)
    except TimeoutError:
        return f"it does not serve after {PATIENCE:g} s"


async def ended(new: subprocess.Popen[bytes]) -> None:
    """Let a new master that failed say why, then see that it is gone."""
    for _ in range(250):
        if new.poll() is not None:
            return
        await asyncio.sleep(0.02)
    with suppress(OSError):
        new.kill()
    new.wait()


@dataclass
class Inheritance:
    """The new master's side: what it was given."""

    channel: Channel | None = None
    passed: list[systemd.Passed] = field(default_factory=list)
    admin: dict[str, socket.socket] = field(default_factory=dict)
    keepers: dict[str, tuple[str, socket.socket | None]] = field(default_factory=dict)
    datagrams: dict[Any, list[socket.socket]] = field(default_factory=dict)
    quic: bytes = b""
    ticket_keys: list[bytes] = field(default_factory=list)
    token: str = ""
    made: tuple[int, int] | None = None

    def settle(self, slab: Slab) -> None:
        """QUIC goes on with the keys of the old master: its workers still have connections."""
        if self.quic:
            Share(slab.quic(), slab.fd).succeed(self.quic)

    def serving(self) -> None:
        """Tell the old master that it can go."""
        if self.channel is not None:
            self.channel.say("serving")
            self.close()

    def close(self) -> None:
        """The old master hears the end of file: without "serving" it stays."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        for one in self.passed:
            one.sock.close()
        self.passed.clear()
        for sock in (*self.admin.values(), *(one for many in self.datagrams.values() for one in many)):
            sock.close()
        self.datagrams.clear()
        self.admin.clear()


def inheritance() -> Inheritance:
    """What this process was given at its start: by an old master, or the sockets that systemd opened."""
    number = os.environ.pop(VARIABLE, "")
    if not number.isdigit():
        return Inheritance(passed=systemd.passed_sockets())
    if os.environ.get("WATCHDOG_PID"):
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    found = Inheritance(channel=Channel(socket.socket(fileno=int(number))))
    assert found.channel is not None
    found.channel.sock.set_inheritable(False)
    while True:
        try:
            word, values, fds = found.channel.read()
        except (EOFError, OSError):
            raise NetError("the server that started this one is gone", side="us") from None
        socks = [socket.socket(fileno=fd) for fd in fds]
        if word == "sockets":
            found.passed += [
                systemd.Passed(sock, values["address"], "", values["made"], values["fixed"]) for sock in socks
            ]
        elif word == "datagrams":
            found.datagrams[values["address"]] = socks
        elif word == "admin":
            found.admin[values["name"]] = socks[0]
        elif word == "keeper":
            found.keepers[values["url"]] = (values["address"], socks[0])
        else:
            found.ticket_keys, found.token, found.made = values["ticket_keys"], values["token"], values["made"]
            found.quic = values.get("quic", b"")
            return found
