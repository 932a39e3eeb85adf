"""One worker process: `python -m fairlead.run.worker FD`, started by the master. Builds what the plan says and serves
it.

Rules
1. All it needs comes over the control channel: the configuration, its listening sockets, the slab. It opens no port.
2. `ready` is said when every application is loaded, every lifespan has started and all listeners accept. What goes
   wrong before is said as `failed`, in one line, with the traceback of the application's own code as detail.
3. It leaves when the master says `drain`, when somebody sends SIGTERM, or when the channel ends because the master is
   gone. SIGINT is the terminal's word to the whole group: the master's to answer.
4. Drain: accept what waits in the queue and then no more; `Connection: close` or GOAWAY on each next answer;
   connections that stay idle are closed after `settle` seconds, busy ones after their answer; what is open after
   `grace` is bid farewell (event streams and WebSockets end in the way that has their clients come again, tunnels by
   end of file), and a second later what is left is cut; lifespans end.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

from fairlead.core.errors import ConfigError, FairleadError
from fairlead.core.slab import Slab
from fairlead.core.tally import Tally
from fairlead.run import config as c
from fairlead.run import filtering, grpcstats, logs, patterns
from fairlead.run import plan as plans
from fairlead.run.build import Builder, Built
from fairlead.run.channel import Channel
from fairlead.run.itself import die_with_master, name_thread, pin
from fairlead.run.limiting import share
from fairlead.run.state import State
from fairlead.run.storing import Works
from fairlead.run.watchdog import Watchdog, dump_on_signal
from fairlead.run.wear import Wear

log = logging.getLogger("fairlead")

ORPHAN_GRACE = 3.0  # seconds a worker without a master still finishes requests
TICK = 0.02


class Worker:
    """The process."""

    def __init__(self, channel: Channel, values: dict[str, Any], fds: list[int]) -> None:
        self.channel = channel
        self.values = values
        self.index: int = values["index"]
        self.config = values["config"]
        self.slab = Slab.attach(fds[0])
        self.sockets = adopt(values["listeners"], fds[1:])
        self.state = State()
        self.listeners: dict[int, Any] = {}
        self.lent: dict[int, list[Any]] = {}
        self.built: Built | None = None
        self.pending: tuple[Built, dict[str, Any], list[int]] | None = None
        self.draining = False
        self.early: list[str] = []

    async def main(self) -> int:
        """Start, serve until told to drain; the exit code."""
        self.loop = asyncio.get_running_loop()
        self.leave: asyncio.Future[tuple[float, float]] = self.loop.create_future()
        if not self.values["in_thread"]:
            self.loop.add_signal_handler(signal.SIGTERM, self.told_to_leave)
        self.channel.watch(self.loop, self.heard, self.orphaned)
        try:
            self.builder = Builder(self.loop, self.slab.region(self.values["slot"]), self.state, self.values)
        except FairleadError as error:  # the access log cannot be written
            self.failed(error)
            return 1
        self.builder.works = self.works()
        self.builder.slab = self.slab
        self.builder.rates = filtering.shared_buckets(self.slab)
        self.builder.tally = Tally(self.slab, self.values["slot"])
        self.builder.gate = patterns.find(self.config.server.chosen_pattern).gate(self.slab, self.values["slot"])
        self.loop.set_default_executor(self.builder.threads.executor(threads_of(self.config)))
        try:
            share(self.builder.admission, self.slab, self.values["slot"])
            self.equip()
            self.built = await self.builder.build(self.plan(self.config), self.values)
            self.builder.serve(self.built, None)
            self.open(self.sockets)
        except BaseException as error:
            self.failed(error)
            return 1
        gc.collect()
        gc.freeze()
        logs.reclaim()
        sys.unraisablehook = logs.unraisable
        self.tell_store()
        self.channel.say("ready", thread=threading.get_native_id())
        watchdog = Watchdog(self.loop, self.builder.recorder, self.index, lambda: self.config.server.stuck)
        watchdog.start()
        self.loop.call_later(1.0, self.grow_old, Wear(self.loop.time()))
        grace, settle = await self.leave
        await self.drain(grace, settle)
        watchdog.stop()
        return 0

    def tell_store(self) -> None:
        """What the store promises, as it was opened here."""
        if self.builder.store is not None:
            self.channel.say("store", declared=dict(self.builder.store.declarations))

    async def tell_topics(self, values: dict[str, Any]) -> None:
        """What the page shows of topics, or what is done to them."""
        from fairlead.run.topicstats import answer

        self.channel.say("topics", question=values["question"], **await answer(self.builder.realtime, values))

    async def tell_jobs(self, values: dict[str, Any]) -> None:
        """What the page shows of jobs, or what is done to one."""
        from fairlead.run.jobstats import answer

        self.channel.say("jobs", question=values["question"], **await answer(self.builder.realtime, values))

    def tell_uploads(self, values: dict[str, Any]) -> None:
        """What the page shows of uploads."""
        from fairlead.run.uploadstats import answer

        self.channel.say("uploads", question=values["question"], **answer(self.builder.realtime))

    def plan(self, config: c.Config) -> plans.Plan:
        """What of a configuration is served here."""
        return plans.make(config)

    def works(self) -> Works:
        """What of jobs runs here."""
        own = not self.config.jobs.workers
        return Works(code=own, requests=own)

    def equip(self) -> None:
        """For roles of another kind: what the builder needs before it builds."""

    def grow_old(self, wear: Wear) -> None:
        """Ask for a successor when this worker is worn out."""
        why = wear.why(self.lifetime(), self.loop.time(), self.builder.answered())
        if why:
            self.channel.say("worn", why=why)
        self.loop.call_later(10.0 if why else 1.0, self.grow_old, wear)

    def lifetime(self) -> c.Server:
        """The limits after which this role is replaced."""
        return self.config.server

    def failed(self, error: BaseException) -> None:
        """Tell the master why we cannot start."""
        self.channel.say("failed", error=one_line(error), detail=detail(error))

    # ---- the master's words

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """One message."""
        if word == "drain":
            self.depart(values["grace"], values["settle"])
        elif word == "prepare":
            self.loop.create_task(self.prepare(values, fds))
        elif word == "commit":
            self.commit()
        elif word == "abort":
            self.forget()
        elif word == "lend":
            self.borrow(values["place"], adopt(values["listeners"], fds))
        elif word == "return":
            self.give_back(values["place"])
        elif word == "sick":
            self.new_sick(values["sick"])
        elif word == "tickets":
            self.new_tickets(values["keys"])
        elif word == "shed":
            self.builder.admission.shedding = values["on"]
        elif word == "jobs":
            self.loop.create_task(self.tell_jobs(values))
        elif word == "topics":
            self.loop.create_task(self.tell_topics(values))
        elif word == "uploads":
            self.tell_uploads(values)
        elif word == "grpc":
            self.channel.say("grpc", question=values["question"], servers=grpcstats.of(self.built))
        elif word == "reopen":
            logs.reopen()
            dump_on_signal()
            self.builder.reopen()

    def told_to_leave(self) -> None:
        """SIGTERM to this worker alone, or the kernel's word that the master died."""
        self.depart(self.config.server.grace, 0.0)

    def orphaned(self) -> None:
        """The master is gone."""
        signal.alarm(round(ORPHAN_GRACE) + 2)
        self.depart(ORPHAN_GRACE, 0.0)

    def depart(self, grace: float, settle: float) -> None:
        """Let `main` go on to the drain."""
        if not self.leave.done():
            self.leave.set_result((grace, settle))

    def new_sick(self, sick: dict[str, Any]) -> None:
        """Other servers are unhealthy now."""
        self.values["sick"] = sick
        if hasattr(self, "builder"):
            self.builder.mark_sick(sick)

    def new_tickets(self, keys: list[bytes]) -> None:
        """Other keys for session tickets: for what is served, what is prepared, and (the list is shared) what is being built."""
        self.values["ticket_keys"][:] = keys
        for built in (self.built, self.pending[0] if self.pending else None):
            if built is not None:
                built.new_tickets(keys)

    # ---- a new plan

    async def prepare(self, values: dict[str, Any], fds: list[int]) -> None:
        """Build a plan beside the served one; the answer says whether it can be served."""
        self.forget()
        error = ""
        try:
            if self.builder.code_changed():
                error = "code"
            else:
                self.pending = (await self.builder.build(self.plan(values["config"]), values), values, fds)
                self.tell_store()
        except Exception as problem:
            error = one_line(problem)
        if self.pending is None:
            close_all(fds)
        self.channel.say("prepare", question=values["question"], error=error)

    def commit(self) -> None:
        """Serve the prepared plan: connections that are open go on with it at their next request."""
        if self.pending is None or self.built is None:
            return
        built, values, fds = self.pending
        self.pending = None
        self.config = values["config"]
        old, self.built = self.built, built
        self.builder.serve(built, old)
        self.open(adopt(values["listeners"], fds))

    def forget(self) -> None:
        """The prepared plan is not served."""
        if self.pending is not None:
            close_all(self.pending[2])
            self.pending = None
            self.builder.release(self.state.abort())

    # ---- sockets

    def open(self, socks: list[tuple[str, str, socket.socket]]) -> None:
        """Accept on these, and no longer on others; a socket that is there already goes on with the new service."""
        assert self.built is not None
        keep: dict[int, Any] = {}
        for name, address, sock in socks:
            inode = os.fstat(sock.fileno()).st_ino
            listener = self.listeners.pop(inode, None)
            if listener is None:
                listener = self.built.listener(name, sock, address)
                if not self.draining:
                    listener.start()
            else:
                sock.close()
                self.built.renew(name, listener)
            keep[inode] = listener
        for listener in self.listeners.values():
            self.builder.retire(listener, listener.service.name not in self.built.services)
        self.listeners = keep
        self.builder.idle.settle(self.config.server, keep.values())

    def borrow(self, place: int, socks: list[tuple[str, str, socket.socket]]) -> None:
        """Accept for a sibling that is gone."""
        self.give_back(place)
        if self.draining or self.built is None:
            return
        self.lent[place] = [self.built.listener(name, sock, address) for name, address, sock in socks]
        for listener in self.lent[place]:
            listener.start()

    def give_back(self, place: int) -> None:
        """The sibling is back; connections taken meanwhile stay here."""
        for listener in self.lent.pop(place, ()):
            self.builder.retire(listener, False)

    # ---- the end

    async def drain(self, grace: float, settle: float) -> None:
        """See rule 4."""
        self.draining = True
        self.builder.region.set("draining", 1)
        listeners = [
            *self.listeners.values(),
            *(one for many in self.lent.values() for one in many),
            *self.builder.leaving,
        ]
        for listener in listeners:
            if listener.listening:
                accept_all(listener)
                listener.stop()
                listener.sock.close()
            self.builder.last_words(listener)
        end = self.loop.time() + grace
        calm = min(self.loop.time() + settle, end)
        while self.loop.time() < calm and any(listener.tcps for listener in listeners):
            await asyncio.sleep(TICK)
        left = max(0.0, end - self.loop.time())
        await asyncio.gather(*(listener.drain(left) for listener in listeners))
        await self.builder.close(max(1.0, end - self.loop.time()))


def threads_of(config: Any) -> int:
    """Threads of asyncio's own executor: as many as the application with the most may have."""
    return max((route.application.threads for route in config.routes if route.application is not None), default=40)


def accept_all(listener: Any) -> None:
    """Take everything that waits in the accept queue: nobody else will when the last holder closes the socket."""
    before, listener.gate = -1, None
    while listener.accepted != before and not listener.paused:
        before = listener.accepted
        listener.ready(1)


def adopt(names: list[tuple[str, str]], fds: list[int]) -> list[tuple[str, str, socket.socket]]:
    """[(listener, address, socket)] of inherited descriptors."""
    return [(name, address, socket.socket(fileno=fd)) for (name, address), fd in zip(names, fds)]


def close_all(fds: list[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def one_line(error: BaseException) -> str:
    """An error as one line for the user."""
    if isinstance(error, ConfigError) and error.problems:
        return str(error.problems[0])
    if isinstance(error, FairleadError):
        return f"{error}" + (f" ({error.hint})" if error.hint else "")
    return f"{type(error).__name__}: {error}".splitlines()[0]


def detail(error: BaseException) -> str:
    """The traceback of what the application did, without our own frames in front; "" for errors that say all
    themselves.
    """
    cause = error.__cause__
    if isinstance(error, FairleadError) and cause is None:
        return ""
    return "".join(traceback.format_exception(cause or error))


def new_loop(wanted: str) -> asyncio.AbstractEventLoop:
    """The event loop of [server] loop."""
    if wanted != "asyncio":
        try:
            import uvloop

            return uvloop.new_event_loop()
        except ImportError:
            if wanted == "uvloop":
                raise ConfigError("server.loop: uvloop is not installed", hint="pip install 'fairlead[fast]'") from None
    return asyncio.new_event_loop()


class Life:
    """One role from its first word to its last: in a process of its own, or in a thread of one that it shares."""

    def __init__(self, channel: Channel, in_thread: bool = False) -> None:
        self.channel = channel
        self.in_thread = in_thread
        self.role: Any = None

    def run(self) -> int:
        """Read what to serve, serve it; the exit code."""
        try:
            _, values, fds = self.channel.read()
        except EOFError:
            return 1
        config = values["config"]
        with SETTING_UP:
            if not (self.in_thread and logs.log.handlers):
                logs.setup(config.log)
                dump_on_signal()
        if config.server.affinity:
            pin(values["index"])
        name_thread(values["title"])
        try:
            loop = new_loop(config.server.loop)
        except FairleadError as error:
            self.channel.say("failed", error=one_line(error))
            return 1
        values["in_thread"] = self.in_thread
        self.role = self.made(config, values, fds)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(self.main())

    def made(self, config: c.Config, values: dict[str, Any], fds: list[int]) -> Any:
        """What runs at this place."""
        if values["index"] >= plans.JOBS:
            from fairlead.run.jobworker import JobWorker

            return JobWorker(self.channel, values, fds)
        pattern = patterns.find(config.server.chosen_pattern, config.server.fronts)
        return (pattern.front if values["index"] < 0 else pattern.worker)(self.channel, values, fds)

    async def main(self) -> int:
        """The role's own main; what it ends with goes to the master when there is no process to tell it."""
        code: int = await self.role.main()
        self.channel.say("ended", code=code)
        return code

    def leave(self) -> None:
        """From another thread: SIGTERM came."""
        loop = getattr(self.role, "loop", None)
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self.role.told_to_leave)


SETTING_UP = threading.Lock()


def settle_signals() -> None:
    """What the terminal says to the group is the master's to answer; and nobody outlives the master."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    die_with_master()


def main() -> int:
    """The process's entry."""
    settle_signals()
    return Life(Channel(socket.socket(fileno=int(sys.argv[1])))).run()


if __name__ == "__main__":
    sys.exit(main())
