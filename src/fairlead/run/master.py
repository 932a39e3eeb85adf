"""The master: holds every listening socket, starts workers by exec, replaces those that die, reloads, drains. Serves
no request.

Rules
1. Sockets are opened before the first worker and closed after the last one. A worker that dies leaves its socket
   here, with its accept queue, lent to a sibling until the replacement is ready.
2. A worker that cannot start the first time ends the server with its error; later it is tried again, ever more
   slowly, and the others go on.
3. Reload: read, plan and prepare everything first; what fails leaves all as it was. Then swap inside the living
   workers, or put new workers beside the old ones, and drain the old ones when the new ones serve.
4. The end: SIGTERM and SIGINT drain (a second one stops at once), SIGHUP reloads with new workers, SIGUSR1 opens logs
   again, SIGUSR2 has a new master take over (run/upgrade). A drain goes through these states, and only forward:

       ready -> unready, but accepting ([server] unready; not for SIGINT) -> not accepting; kept connections are told
       -> requests finish -> grace is over: long streams are told to come again -> what is left is cut -> killed
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from time import monotonic, time
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.core.slab import Slab
from fairlead.run import config as c
from fairlead.run import logs, pidfile, sockets, staff, standing, statsd, systemd, upgrade
from fairlead.run import plan as plans
from fairlead.run.accepting import AcceptPath
from fairlead.run.holder import Holder
from fairlead.run.keeping import Keepers
from fairlead.run.limiting import Memory
from fairlead.run.links import Links
from fairlead.run.probes import Probes
from fairlead.run.role import GONE, SERVING, STARTING, Host, Role, ThreadRole
from fairlead.run.tickets import Tickets
from fairlead.run.upgrade import Inheritance
from fairlead.run.watch import Watch

log = logging.getLogger("fairlead")

SETTLE = 1.0  # seconds an idle connection may still bring a last request while its worker drains
BACKOFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before the n-th start in a row that did not last
LASTED = 10.0  # seconds after which a worker counts as having started well
LINGER = 0.3  # seconds between the last worker's end and ours, when somebody waits for the answer to `drain`
CUT = 3.0  # seconds beyond its grace that a draining worker has for farewells and lifespans before it is killed
IMPORTING = 1.0  # seconds that a worker which has not started yet has to leave
SUCCEEDED = "a new server has taken over"
CLAIMS = 64  # words by which a worker and a front decide who has a request (wire/hop)
SPARE = 16  # slab regions beyond two per worker, for a reload with more workers


class Master:
    """One server. `run()` blocks until its end and returns the exit code."""

    def __init__(
        self,
        config: c.Config,
        load: Callable[[], c.Config] | None = None,
        announce: Callable[[Master], None] | None = None,
        given: Inheritance | None = None,
    ):
        self.plan = plans.make(config)
        self.given = given if given is not None else Inheritance()
        self.load = load
        self.announce = announce
        self.holder = Holder(self.given.passed, self.given.datagrams)
        self.accept_path = AcceptPath(self.holder)
        self.roles: list[Role] = []
        self.covered: dict[int, Role] = {}  # {place that nobody serves: who accepts for it}
        self.fails: dict[int, int] = {}
        self.numbers = 0
        self.hosts: list[Host] = []  # unit = "thread": the processes whose threads the workers are
        self.host: Host | None = None  # the newest of them
        self.links = Links()
        self.keepers = Keepers(self)
        self.memory = Memory()
        self.began = time()
        self.since = monotonic()
        self.reloads = self.exit_code = 0
        self.stopping = self.stopped_at_once = False
        self.ready = False
        self.tickets = Tickets(self.tell_tickets)
        self.probes = Probes(self.tell_sick)
        self.tickets.keys = self.given.ticket_keys or self.tickets.keys
        self.linger = 0.0
        self.has_terminal = terminal()
        self.heir: Any = None
        self.admin: Any = None
        self.watched: Any = None
        self.slab: Slab
        self.loop: asyncio.AbstractEventLoop
        self.ended: asyncio.Future[None]
        self.busy: asyncio.Lock
        self.tasks: set[asyncio.Task[Any]] = set()

    @property
    def config(self) -> c.Config:
        """The configuration that is served."""
        return self.plan.config

    # ---- life

    def run(self) -> int:
        """Serve until the end; the exit code. Raises FairleadError when it cannot start."""
        sockets.raise_descriptor_limit()
        logs.setup(self.config.log)
        with asyncio.Runner() as runner:
            return runner.run(self.main())

    async def main(self) -> int:
        """Open, start, supervise, drain."""
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.busy = asyncio.Lock()
        try:
            self.holder.open(self.plan)
            self.make_slab()
            self.on_signals()
            self.start_admin()
            self.try_tls()
            self.watched = self.watch_code()  # before a worker imports it, so that no change is missed
            await self.keepers.serve(self.config)
            async with self.busy:  # who asks for a reload meanwhile waits for it
                await self.first_start()
                self.ready = not self.stopping
            if self.ready:
                pidfile.write(self.config.server.pid_file)
                self.tickets.turn(self.loop, self.config.server.ticket_rotation)
                self.probes.serve(self.config)
                self.holder.unclaimed()
                if self.announce is not None:
                    self.announce(self)
                systemd.ready(standing.words(self))
                self.given.serving()
                self.spawn(self.keep_fresh())
                self.spawn(statsd.serve(self.config.metrics, self.slab, self.admin.topics if self.admin is not None else None))
                self.spawn(self.memory.watch(self))
                self.spawn(Watch(self).run())
            await self.ended
        finally:
            await self.close()
        return self.exit_code

    def make_slab(self) -> None:
        """The shared memory that workers count in."""
        slots = 2 * len(self.plan.places) + SPARE
        claims = slots * CLAIMS if self.plan.pattern.hops else 0
        self.slab = Slab.create(slots, keep=self.config.journey.keep, claims=claims)
        self.given.settle(self.slab)

    def try_tls(self) -> None:
        """Decide on the TLS engine before the workers start: the environment tells them what the trial showed."""
        if any(listener.tls for listener in self.plan.listeners):
            from fairlead.net.tls import engine_kind

            engine_kind()

    def on_signals(self) -> None:
        """What each signal does."""
        handlers: dict[int, Callable[[], Any]] = {
            signal.SIGTERM: lambda: self.stop("SIGTERM"),
            signal.SIGINT: lambda: self.stop("SIGINT"),
            signal.SIGHUP: self.hang_up,
            signal.SIGUSR1: self.reopen,
            signal.SIGUSR2: lambda: self.spawn(self.upgrade()),
            signal.SIGCHLD: self.reap,
        }
        for number, handler in handlers.items():
            self.loop.add_signal_handler(number, handler)

    def hang_up(self) -> None:
        """SIGHUP: reload; but a server whose terminal was closed ends with it."""
        if self.has_terminal and not terminal():
            self.stop("the terminal is gone")
        else:
            self.spawn(self.reload_and_log(True))

    async def close(self) -> None:
        """The end of everything: nobody is left behind."""
        self.stopping = True
        self.tickets.stop()
        await self.probes.close()
        for task in list(self.tasks):
            task.cancel()
        for role in self.roles:
            role.kill()
        await asyncio.gather(*(role.gone for role in self.roles if role.process), return_exceptions=True)
        for host in self.hosts:
            host.end()
        await self.keepers.close()
        if self.admin is not None:
            self.admin.close()
        self.holder.close()
        self.given.close()
        pidfile.remove(self.config.server.pid_file)
        if hasattr(self, "slab"):
            self.slab.close()

    def spawn(self, work: Any) -> None:
        """Run a coroutine and keep it alive until it is done."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # ---- workers

    async def first_start(self) -> None:
        """Start all workers; the first error of one ends the server."""
        roles = [self.start_worker(index) for index in self.plan.places]
        results = await asyncio.gather(*(role.became for role in roles))
        for role, ready in zip(roles, results):
            if not ready and not self.stopping:
                self.exit_code = 1
                raise start_error(role)

    def start_worker(self, index: int, plan: plans.Plan | None = None) -> Role:
        """Start what belongs at a place, a worker or what stands before the workers, on the sockets of that place."""
        if self.stopping:
            raise FairleadError("the server is stopping")
        plan = plan or self.plan
        self.numbers += 1
        role = staff.new_role(self, index, plan)
        role.on_word = self.heard
        role.became.add_done_callback(lambda _: staff.cover(self))
        role.hops, role.apps = plan.pattern.hops and index < plans.JOBS, plan.numbers
        names, fds = self.holder.share(plan, index)
        values = {
            "config": plan.config,
            "index": index,
            "title": role.title,
            "places": staff.places(self.roles),
            "slot": role.slot,
            "number": role.number,
            "workers": plan.workers,
            "listeners": names,
            "ticket_keys": self.tickets.keys,
            "sick": self.probes.sick(),
            "began": self.began,
            "version": self.reloads,
            "store": self.keepers.of(plan.config),
        }
        self.roles.append(role)
        role.start(values, [self.slab.fd, *fds], **staff.identity(plan.config.server.user))
        if role.state == GONE:
            self.roles.remove(role)
        return role

    def at(self, index: int) -> list[Role]:
        """The living roles of a place that are not on their way out."""
        return [role for role in self.roles if role.index == index and role.state in (STARTING, SERVING)]

    def heard(self, role: Role, word: str, values: dict[str, Any]) -> None:
        """A worker says something that nobody asked for."""
        if word == "log":
            log.log(values.get("level", logging.INFO), "%s: %s", role.title, values["message"])
        elif word == "store":
            self.keepers.heard(values["declared"])
        elif word == "worn":
            log.info("%s is replaced: %s", role.title, values["why"])
            self.spawn(self.replace(role))

    def reap(self) -> None:
        """SIGCHLD: find out who ended, and put somebody in its place."""
        self.hosts = [host for host in self.hosts if host.alive]
        gone = [role for role in self.roles if role.reap()]
        for role in gone:
            for gauge in ("admitted", "following"):
                self.slab.region(role.slot).set(gauge, 0)
        self.roles = [role for role in self.roles if role not in gone]
        if gone:
            staff.cover(self)
        for role in gone:
            if self.stopping:
                if not self.roles:
                    self.finish()
            elif role.became.result() and self.holder_needs(role.index):
                self.lost(role)
            elif not role.became.result():
                log.debug("%s did not start: %s", role.title, role.error or role.ending())

    def holder_needs(self, index: int) -> bool:
        """Is this place without a worker?"""
        return index in self.plan.places and not self.at(index)

    def lost(self, role: Role) -> None:
        """A serving worker is gone: lend its sockets to a sibling and start another."""
        lasted = monotonic() - role.started
        self.fails[role.index] = 0 if lasted > LASTED else self.fails.get(role.index, 0) + 1
        pause = BACKOFF[min(self.fails[role.index], len(BACKOFF) - 1)]
        log.error(
            "%s (pid %d) is gone: %s; a new one starts%s",
            role.title,
            role.pid,
            role.ending(),
            f" in {pause:g} s" if pause else "",
        )
        if self.fails[role.index] >= 3:
            log.error(
                "%s has died %d times within %g s of its start: see what the application does",
                role.title,
                self.fails[role.index],
                LASTED,
            )
        self.spawn(self.again(role.index, pause))

    async def again(self, index: int, pause: float) -> None:
        """Start a worker at a place until one serves."""
        while True:
            await asyncio.sleep(pause)
            if self.stopping or not self.holder_needs(index):
                return
            role = self.start_worker(index)
            if await role.became:
                return
            fails = self.fails[index] = self.fails.get(index, 0) + 1
            pause = BACKOFF[min(fails, len(BACKOFF) - 1)]
            log.error("%s does not start: %s; trying again in %g s", role.title, role.error or role.ending(), pause)

    async def replace(self, role: Role) -> None:
        """Put a new worker beside one that is worn out, then drain it."""
        async with self.busy:
            if self.stopping or role.state != SERVING:
                return
            if isinstance(role, ThreadRole):  # a thread gives nothing back: its process goes, with all of them
                error = await self.renew(self.plan)
                if error:
                    log.error("%s keeps its old process: %s", role.title, error)
                return
            new = self.start_worker(role.index)
            if await new.became:
                role.drain(self.config.server.grace, SETTLE)
                self.watch_end(role)
            else:
                log.error("%s keeps its old process: %s", role.title, new.error or new.ending())

    def watch_end(self, role: Role) -> None:
        """Kill a draining worker that outstays its grace."""
        self.loop.call_later(self.config.server.grace + SETTLE + CUT, self.outstayed, role)

    def outstayed(self, role: Role) -> None:
        """The cap of a drain."""
        if role.state != GONE:
            log.warning("%s (pid %d) did not end in time and is killed", role.title, role.pid)
            role.kill()

    def tell_tickets(self, keys: list[bytes]) -> None:
        """Everybody seals session tickets with the newest of these keys."""
        for role in self.roles:
            role.say("tickets", keys=keys)

    def tell_sick(self, sick: dict[str, Any]) -> None:
        """Everybody leaves these servers alone."""
        for role in self.roles:
            role.say("sick", sick=sick)

    # ---- reload

    async def reload_and_log(self, force: bool) -> None:
        """SIGHUP."""
        result = await self.reload(force)
        (log.error if result.get("error") else log.info)("reload: %s", result.get("error") or result["message"])

    async def reload(self, force: bool = False) -> dict[str, Any]:
        """Serve the configuration as it is now. {did: same|swap|workers|failed, message, error, problems}; never
        raises.
        """
        async with self.busy:
            if not self.ready:
                return failed("the server is stopping")
            systemd.reloading()
            try:
                config = self.load() if self.load is not None else self.config
                plan = plans.make(config)
                what, why = plans.difference(self.plan, plan)
                return await self.change(plan, plans.WORKERS if force else what, why)
            except FairleadError as error:
                return failed(str(error), [str(one) for one in getattr(error, "problems", [])])
            finally:
                systemd.ready(standing.words(self))

    async def upgrade(self) -> dict[str, Any]:
        """SIGUSR2: a new master, by the same command line, takes the sockets; this one drains when that one serves."""
        return await upgrade.upgrade(self)

    def leave_to_successor(self) -> None:
        """A new master serves: nothing is ours any more but the requests that are open."""
        self.holder.disown()
        self.admin.disown()
        self.linger = LINGER
        self.stop(SUCCEEDED)

    async def change(self, plan: plans.Plan, what: str, why: list[str]) -> dict[str, Any]:
        """Make a plan the served one."""
        added = self.holder.prepare(plan)
        try:
            await self.keepers.serve(plan.config)
            error = await (self.renew(plan) if what == plans.WORKERS else self.swap(plan, why))
            if error == "code" and what != plans.WORKERS:
                what, why = plans.WORKERS, ["code"]
                error = await self.renew(plan)
        except BaseException:
            self.holder.forget(added)
            raise
        if error:
            self.holder.forget(added)
            return failed(error)
        self.holder.settle(plan)
        later = [name for name, old, new in plans.fixed(self.plan, plan) if old != new]
        self.plan = plan
        self.reloads += 1
        self.tickets.turn(self.loop, plan.config.server.ticket_rotation)
        self.probes.serve(plan.config)
        logs.setup(plan.config.log)
        reason = f" ({', '.join(why)})" if why else ""
        if what == plans.WORKERS:
            message = f"new workers serve, the old ones drain{reason}"
        elif what == plans.SAME:
            message = "nothing changed; certificates were read again"
        else:
            message = f"the new plan is in the living workers{reason}"
        if later:
            message += f"; {', '.join(later)} will hold from the next start on"
        return {"did": what, "message": message, "why": why}

    async def swap(self, plan: plans.Plan, why: list[str]) -> str:
        """Both halves of a swap: all prepare, then all commit; an error leaves every worker as it was."""
        await asyncio.gather(*(role.became for role in self.roles if role.state == STARTING))
        serving = [role for role in self.roles if role.state == SERVING]
        answers = await asyncio.gather(*(self.prepare(role, plan) for role in serving))
        error = next((one for one in answers if one), "")
        for role in serving:
            role.say("abort" if error else "commit")
        return error

    async def prepare(self, role: Role, plan: plans.Plan) -> str:
        """Ask one worker to build the plan; what is wrong, "" when nothing."""
        names, fds = self.holder.share(plan, role.index)
        try:
            answer = await role.ask(
                "prepare", fds, config=plan.config, listeners=names, workers=plan.workers, version=self.reloads + 1,
                store=self.keepers.of(plan.config),
            )  # fmt: skip
        except EOFError:
            return ""
        except TimeoutError:
            return f"{role.title} does not answer; it may be stuck in the application"
        return str(answer.get("error", ""))

    async def renew(self, plan: plans.Plan) -> str:
        """New workers beside the old ones, then drain the old ones. The first one shows whether the others can
        start.
        """
        old = [role for role in self.roles if role.state in (STARTING, SERVING)]
        new: list[Role] = []
        self.host = None  # new threads, new process: what the old one imported goes with it
        for index in plan.places:
            new.append(self.start_worker(index, plan))
            if index == plan.places[0] and not await new[0].became:
                return one_line(start_error(new[0]))
        if not all(await asyncio.gather(*(role.became for role in new))):
            bad = next(role for role in new if not role.became.result())
            for role in new:
                role.kill()
            return one_line(start_error(bad))
        self.dismiss(old, self.config.server.grace, SETTLE)
        self.fails.clear()
        return ""

    def dismiss(self, roles: list[Role], grace: float, settle: float) -> None:
        """Drain roles: who stands before the workers first, for it still needs them."""
        fronts = [role for role in roles if role.index < 0 and role.state != GONE]
        for role in fronts or roles:
            role.drain(grace, settle)
            self.watch_end(role)
        if fronts:
            self.spawn(self.dismiss_after(fronts, [role for role in roles if role.index >= 0], grace, settle))

    async def dismiss_after(self, fronts: list[Role], rest: list[Role], grace: float, settle: float) -> None:
        """The second half of `dismiss`: in what is left of the grace."""
        began = monotonic()
        await asyncio.wait([role.gone for role in fronts], timeout=grace)
        self.dismiss(rest, max(0.5, grace - (monotonic() - began)), settle)

    def watch_code(self) -> Any:
        """[server] reload: the source files as they are now, or None."""
        if not self.config.server.reload:
            return None
        from fairlead.run.fresh import Files

        return Files(self.config.server.reload_dirs or {app.dir for app in self.plan.apps})

    async def keep_fresh(self) -> None:
        """[server] reload: new workers when a source file changes (development)."""
        if self.watched is None:
            return
        async for name in self.watched.changes():
            log.info("%s changed: reloading", name)
            result = await self.reload(True)
            if result.get("error"):
                log.error("reload: %s (the old code goes on)", result["error"])

    # ---- the end

    def stop(self, why: str) -> None:
        """Drain and end; the second call stops at once."""
        if self.stopping:
            self.stopped_at_once = True
            for role in self.roles:
                role.kill()
            self.finish()
            return
        self.stopping = True
        self.ready = False
        if self.heir is not None and why != SUCCEEDED:
            self.heir.kill()
        if why != SUCCEEDED:
            systemd.stopping()
        unready = 0.0 if why in ("SIGINT", SUCCEEDED) else self.config.server.unready
        if unready:
            log.info("%s: not ready any more; accepting for another %g s (once more to stop at once)", why, unready)
            self.loop.call_later(unready, self.stop_accepting, why)
        else:
            self.stop_accepting(why)

    def stop_accepting(self, why: str) -> None:
        """The second state of a drain, and by the workers the rest."""
        self.holder.close()
        grace = self.config.server.grace
        log.info("%s: finishing what is open, at most %g s (once more to stop at once)", why, grace)
        for role in self.roles:
            if role.state == STARTING:
                role.kill(signal.SIGTERM)
                self.loop.call_later(IMPORTING, role.kill)  # an import hears no signal
        self.dismiss(self.roles, grace, 0.0 if why == "SIGINT" else SETTLE)
        self.loop.call_later(grace + SETTLE + CUT, self.too_long)
        self.reap()
        if not self.roles:
            self.finish()

    def too_long(self) -> None:
        """The grace is over."""
        for role in self.roles:
            log.warning("%s did not end in time and is killed", role.title)
            role.kill()

    def finish(self) -> None:
        """Let `main` return; after a drain by command, when its answer is out."""
        self.loop.call_later(0.0 if self.stopped_at_once else self.linger, self.end)

    def end(self) -> None:
        """Wake `main`."""
        if not self.ended.done():
            self.ended.set_result(None)

    async def drain(self) -> dict[str, Any]:
        """The admin's word: as SIGTERM, and the answer comes when all workers are gone."""
        self.linger = LINGER
        if not self.stopping:
            self.stop("drain")
        late = 0
        for role in list(self.roles):
            late += await role.gone != 0
        if late:
            return {
                "did": "drain",
                "error": f"{late} of the workers did not finish in time",
                "message": "the server has stopped",
            }
        return {"did": "drain", "message": "every request was finished; the server has stopped"}

    def reopen(self) -> None:
        """SIGUSR1."""
        logs.reopen()
        self.keepers.reopen()
        for role in self.roles:
            role.say("reopen")

    # ---- what the admin shows

    def start_admin(self) -> None:
        """The admin socket and the page."""
        from fairlead.run import admin

        self.admin = admin.Admin(self)
        self.admin.start()

    def status(self) -> dict[str, Any]:
        """What the process is: version, uptime, workers, listeners with their accept queues."""
        return standing.of(self)


def terminal() -> bool:
    """Is there a controlling terminal?"""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def start_error(role: Role) -> FairleadError:
    """Why a worker could not start. The application's own traceback is its `detail`."""
    error = FairleadError(role.error or f"{role.title} ended while it started: {role.ending()}")
    error.detail = role.detail  # type: ignore[attr-defined]
    return error


def one_line(error: FairleadError) -> str:
    """An error as one line."""
    return str(error).splitlines()[0]


def failed(error: str, problems: list[str] | None = None) -> dict[str, Any]:
    """A reload that changed nothing."""
    return {"did": "failed", "error": error, "message": "nothing was changed", "problems": problems or []}
