"""Readiness: one private epoll per event loop holds all our sockets; the loop (uvloop or asyncio) watches only that epoll.

Why not one `add_reader` per socket: the loop's bookkeeping per ready descriptor costs more than our whole parse; here a
ready socket is one C call. It also gives what a journey needs: the moment the loop came to us (`woken`), the moment
before (`last_woken`), and the end of the turn, where journeys are folded and batched writes leave.

Rules
1. Readiness is a hint: a watcher tries, and takes "would block" for an answer. So a stale event does no harm.
2. Level-triggered, unless a watcher says EDGE: who does not want to be woken must say so (`change`). After `change` whoever has
   said EDGE is told again of what is there.
3. `soon(callable)` runs once, at the end of this turn, or in the loop's next one when called from outside.
4. What is said in a turn with several ready sockets may be held (`hold`) and sent together: each send wakes the peer, and going
   back and forth between the application and the kernel costs both their caches; together it is a third of a small request.
   Held is at most HOLD, and only while the steps of late were short, so that no answer waits behind a slow one's work.
5. Whatever a watcher raises is logged and closes that watcher; it never stops the turn.
Where there is no epoll (macOS) the same interface sits on the loop's `add_reader` and `add_writer`.
"""

from __future__ import annotations

import logging

from fairlead.core.journey import Clock
from fairlead.core.message import Common
from fairlead.net.timers import GRAIN, Timed, Wheel

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

IN, OUT, ERR, HUP, RDHUP = 0x001, 0x004, 0x008, 0x010, 0x2000
SECOND = _SECOND = 1_000_000_000
HOLD = _HOLD = 250_000  # ns: an answer waits this long for others at most, and only while the mean step is shorter
log = logging.getLogger("fairlead.error")


class Watcher(Timed):
    """Who is told that a descriptor is ready."""

    def ready(self, events):
        """`events`: bits of IN, OUT, ERR, HUP, RDHUP."""

    def release(self):
        """Send what was held."""

    def abort(self, why):
        """Close at once."""


class Poller(Clock):
    """One per event loop (so per thread). Make it inside the loop's thread; `close()` at the end."""

    def __init__(self, loop, common=None):
        self.loop = loop
        self.common = common if common is not None else Common()
        self.watchers = {}
        self.by_fd = [None] * 64  # the same, found without a Python integer
        self.later = []
        self.held = []
        self.holding = self.several = False  # several: sockets are ready in this turn, and each step's time is known
        self.step = 0  # ns: the mean of what a ready socket costs, in turns with several
        self.stepped = self.first_held = 0
        self.in_turn = False
        self.scheduled = False
        self.closed = False
        self.turns = 0
        self.longest = 0
        self.woken = self.last_woken = self.now()
        self.dated = self.woken
        self.wheel = Wheel(self.woken)
        self.timer = loop.call_later(GRAIN / SECOND, self.on_timer)
        self.epoll = None
        if _fast.HAS_EPOLL and hasattr(loop, "add_reader"):
            self.epoll = _fast.Epoll()
            loop.add_reader(self.epoll.fileno(), self.turn)

    def now(self):
        """Monotonic nanoseconds."""
        return _fast.monotonic_ns()

    def watch(self, fd, watcher, events):
        """Call `watcher.ready(events)` whenever one of `events` (or an error) is there."""
        self.watchers[fd] = watcher
        if fd >= len(self.by_fd):
            self.by_fd.extend([None] * (fd + 64 - len(self.by_fd)))
        self.by_fd[fd] = watcher
        if self.epoll is not None:
            self.epoll.add(fd, events)
        else:
            self.lend(fd, events)

    def change(self, fd, events):
        """Watch an already watched descriptor for other events (0: only errors and hang-ups)."""
        if self.epoll is not None:
            self.epoll.modify(fd, events)
        else:
            self.lend(fd, events)

    def unwatch(self, fd):
        """Forget a descriptor; call it before closing the descriptor."""
        if self.watchers.pop(fd, None) is not None:
            self.by_fd[fd] = None
            if self.epoll is not None:
                self.epoll.remove(fd)
            else:
                self.lend(fd, 0)

    def soon(self, callback):
        """Call `callback()` once at the end of this turn. The caller sees to it that it asks only once."""
        self.later.append(callback)
        if not self.in_turn and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.run_later)

    def turn(self):
        """The loop says that something is ready: tell each watcher, then end the turn."""
        now = self.now()
        self.last_woken = self.woken
        self.woken = now
        self.turns += 1
        self.in_turn = True
        by_fd = self.by_fd
        count = self.epoll.wait(0)
        several = self.several = count > 1
        self.holding = several and self.step < _HOLD
        self.stepped = now
        for i in range(count):
            watcher = by_fd[self.epoll.fds[i]]
            if watcher is not None:
                try:
                    watcher.ready(self.epoll.events[i])
                except Exception as error:
                    self.failed(watcher, error)
                if several:
                    self.after_step()
        self.holding = self.several = False
        if self.held:
            self.release()
        self.in_turn = False
        if now - self.dated > _SECOND:
            self.dated = now
            self.common.refresh()
        if self.later:
            self.run_later()

    def hold(self, watcher):
        """Call `watcher.release()` soon, in this turn; only while `holding`. The time now."""
        now = self.now()
        if not self.held:
            self.first_held = now
        self.held.append(watcher)
        return now

    def after_step(self):
        """A socket was served: may what is held wait for the next one?"""
        now = self.now()
        self.step += (now - self.stepped - self.step) // 8
        self.stepped = now
        self.holding = self.step < _HOLD
        if self.held and (not self.holding or now - self.first_held >= _HOLD):
            holding = self.holding
            self.holding = False
            self.release()
            self.holding = holding
            self.stepped = self.now()

    def release(self):
        """Send what was held."""
        held = self.held
        self.held = []
        for watcher in held:
            try:
                watcher.release()
            except Exception as error:
                self.failed(watcher, error)

    def run_later(self):
        """End of the turn."""
        self.scheduled = False
        todo = self.later
        self.later = []
        for callback in todo:
            try:
                callback()
            except Exception:
                log.exception("a callback at the end of the loop's turn raised")

    def on_timer(self):
        """One tick of the wheel."""
        if self.closed:
            return
        now = self.now()
        late = now - self.woken
        if late > self.longest:
            self.longest = late
        self.woken = now
        if now - self.dated > _SECOND:
            self.dated = now
            self.common.refresh()
        try:
            self.wheel.run(now)
        except Exception:
            log.exception("a deadline raised")
        self.timer = self.loop.call_later(GRAIN / SECOND, self.on_timer)

    def close(self):
        """Stop watching everything; descriptors stay with their owners."""
        self.closed = True
        self.timer.cancel()
        if self.epoll is not None:
            self.loop.remove_reader(self.epoll.fileno())
        else:
            for fd in list(self.watchers):
                self.lend(fd, 0)
        self.watchers.clear()
        self.by_fd = [None] * len(self.by_fd)

    def failed(self, watcher, error):
        """A watcher raised: a defect of ours, or the kernel refusing its descriptor. Log it and give the watcher up."""
        if not isinstance(error, OSError):
            log.error("a connection failed inside the server", exc_info=error)
        watcher.abort(error)

    def lend(self, fd, events):
        """Without epoll: have the loop watch the descriptor."""
        self.loop.remove_reader(fd)
        self.loop.remove_writer(fd)
        if events & IN:
            self.loop.add_reader(fd, self.one, fd, IN)
        if events & OUT:
            self.loop.add_writer(fd, self.one, fd, OUT)

    def one(self, fd, events):
        """Without epoll: one descriptor is ready."""
        self.last_woken = self.woken
        self.woken = self.now()
        self.in_turn = True
        watcher = self.watchers.get(fd)
        if watcher is not None:
            try:
                watcher.ready(events)
            except Exception as error:
                self.failed(watcher, error)
        self.in_turn = False
        if self.later:
            self.run_later()
