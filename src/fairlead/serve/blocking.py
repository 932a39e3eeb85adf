"""Blocking code in threads: one bounded pool per worker, in lanes, with a queue that everybody can see.

    loop thread:  Lane.put(job) ──▶ jobs (a queue) ──▶ a thread of the lane: job.run()
                  Job.hear(word, value)  ◀── done (a queue), one wake-up for many ◀── lane.say(job, word, value)

Each application has a lane of its own (`threads`, `queue`), so that one that blocks takes no thread from another; asyncio's
default executor is a lane too, so `asyncio.to_thread` and `run_in_executor(None, ...)` are bounded and counted.

Handing over is what costs, for the GIL goes with it, so:
1. Threads are kept; the one that slept last is woken first, and its caches are warm. One that idles for `KEEP` leaves.
2. At most one thread is on its way at a time. While jobs are short (`SHORT`, by a moving mean) one thread takes all that is
   there, and more are woken only when it is still busy with one a millisecond later (`look`). While jobs are long, a thread
   that takes one wakes the next at once.
3. What a thread has to say is put into `done`, and the loop is woken once for many: at the last job, or `PATIENCE` after the
   first word that waits; it looks by itself a millisecond after a job was put. A word that must not wait (`now`: whoever has
   been at a job for longer than `PATIENCE`) wakes it at once. The wake-up is a byte on a socket pair, sent and read without
   giving up the GIL.
4. One lock guards the lane's own state; it is never held while foreign code runs.
Times are monotonic nanoseconds. `put` for jobs that are heard, `look` and `hear` are the loop thread's; the rest is any thread's.
"""

# mypy: disable-error-code="union-attr,var-annotated,assignment"

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

from fairlead.net.poll import IN, Watcher

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

KEEP = 30.0  # seconds an idle thread stays
SHORT = 50_000  # ns: jobs below this are not worth a second thread
PATIENCE = 100_000  # ns a word may wait for more to go with it
LOOK = 0.001  # seconds after which jobs that still wait get another thread
log = logging.getLogger("fairlead.error")


class Job:
    """Something to do in a thread. `run` is called there; `hear` on the loop, for each word said with `Lane.say`."""

    def run(self):
        """The work. It must not raise: what it raises is logged, and nobody learns of it."""

    def hear(self, word, value):
        """A word from the thread, in the order said."""


class Seat:
    """One thread of a lane: what it sleeps on."""

    def __init__(self):
        self.lock = threading.Lock()
        self.lock.acquire()


class Lane(Watcher):
    """At most `most` threads, and a queue in which at most `room` jobs wait once all of them are busy (-1: no limit).

    `threads` `busy` `waiting`: now. `jobs` `waited` `longest` `refused`: since the start (count, ns, ns, count).
    """

    def __init__(self, name, most, room=-1, poller=None):
        self.blocked = False
        self.slot = 0
        self.name = name
        self.most = most
        self.room = room
        self.poller = poller
        self.lock = threading.Lock()
        self.todo = deque()
        self.done = deque()
        self.idle = []
        self.all = set()
        self.threads = self.busy = self.jobs = self.waited = self.longest = self.refused = 0
        self.coming = False
        self.called = False
        self.looking = False
        self.closed = False
        self.first = 0
        self.pace = SHORT if poller is not None else 1 << 60
        self.ours = self.theirs = None
        if poller is not None:
            self.ours, self.theirs = socket.socketpair()
            self.ours.setblocking(False)
            self.theirs.setblocking(False)
            self.ours_fd = self.ours.fileno()
            self.theirs_fd = self.theirs.fileno()
            poller.watch(self.ours_fd, self, IN)

    @property
    def waiting(self):
        """Jobs that no thread has taken yet."""
        return len(self.todo)

    # ---- giving work

    def put(self, job):
        """Have a job done; False when the queue is full, or the lane closed."""
        job.queued = _fast.monotonic_ns()
        seat = None
        fresh = False
        with self.lock:
            if self.closed or (self.room >= 0 and len(self.todo) >= self.room and self.busy >= self.most):
                self.refused += 1
                return False
            self.todo.append(job)
            if not self.coming:
                if self.idle:
                    self.coming = True
                    seat = self.idle.pop()
                elif self.threads == 0 or (self.threads < self.most and self.pace > SHORT):
                    self.coming = fresh = True
                    self.threads += 1
        if seat is not None:
            seat.lock.release()
        elif fresh:
            self.begin()
        if not self.looking and self.poller is not None:
            self.looking = True
            self.poller.loop.call_later(LOOK, self.look)
        return True

    def look(self):
        """A moment later: jobs that still wait get another thread, and words that wait are heard."""
        self.looking = False
        if self.closed:
            return
        if self.done:
            self.tell()
        if self.todo:
            self.more()
        if self.done or (self.todo and (self.idle or self.threads < self.most)):
            self.looking = True
            self.poller.loop.call_later(LOOK, self.look)

    def more(self):
        """Wake or start another thread, unless one is on its way."""
        seat = None
        with self.lock:
            if self.coming or self.closed:
                return
            if self.idle:
                seat = self.idle.pop()
            elif self.threads < self.most:
                self.threads += 1
            else:
                return
            self.coming = True
        if seat is not None:
            seat.lock.release()
        else:
            self.begin()

    def begin(self):
        """Start a thread that was counted already."""
        thread = threading.Thread(target=self.work, name=f"fairlead-{self.name}", daemon=True)
        self.all.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads: those there are go on
            log.error("no thread for %s: %s", self.name, error)
            self.all.discard(thread)
            with self.lock:
                self.threads -= 1
                self.coming = False

    # ---- the threads

    def work(self):
        """A thread's life."""
        seat = Seat()
        started = 0
        ended = 0
        came = True
        while True:
            job = self.take(seat, came)
            if job is None:
                if self.closed:
                    break
                if seat.lock.acquire(timeout=KEEP):
                    came = True
                    continue
                if self.retire(seat):
                    break
                seat.lock.acquire()
                came = True
                continue
            came = False
            started = job.started
            try:
                job.run()
            except BaseException:
                log.exception("a job of %s raised", self.name)
            job = None
            ended = _fast.monotonic_ns()
            self.finish(ended, ended - started)
        self.all.discard(threading.current_thread())

    def take(self, seat, came):
        """The next job, or None: then the seat is among the idle ones."""
        other = None
        fresh = False
        job = None
        full = self.threads >= self.most
        now = _fast.monotonic_ns()
        with self.lock:
            if came:
                self.coming = False
                self.busy += 1
            if self.todo:
                job = self.todo.popleft()
                job.started = now
                now -= job.queued
                self.jobs += 1
                self.waited += now
                if now > self.longest:
                    self.longest = now
                if self.todo and self.pace > SHORT and not self.coming:
                    if self.idle:
                        self.coming = True
                        other = self.idle.pop()
                    elif self.threads < self.most:
                        self.coming = fresh = True
                        self.threads += 1
            else:
                self.busy -= 1
                self.idle.append(seat)
        if other is not None:
            other.lock.release()
        elif fresh:
            self.begin()
        if self.first and (job is None or not self.todo or self.pace > SHORT or (full and not self.idle)):
            self.call()  # before a job that may block with nobody to look after us, or before we sleep
        return job

    def finish(self, now, took):
        """A job is done: learn how long they are, and let the loop know when it is time."""
        if self.poller is not None:
            self.pace += ((took if took < 10_000_000 else 10_000_000) - self.pace) // 8
            if self.first and now - self.first > PATIENCE:
                self.call()

    def retire(self, seat):
        """A thread that idled for long leaves; False when it was woken at the same moment."""
        with self.lock:
            if seat not in self.idle:
                return False
            self.idle.remove(seat)
            self.threads -= 1
            return True

    # ---- words to the loop

    def say(self, job, word, value, now):
        """Have `job.hear(word, value)` called on the loop; `now`: it must not wait for more to go with it."""
        self.done.append((job, word, value))
        if now:
            self.call()
        elif not self.first:
            self.first = _fast.monotonic_ns()

    def call(self):
        """Wake the loop, unless it is called already."""
        self.first = 0
        if not self.called:
            self.called = True
            try:
                _fast.send(self.theirs_fd, b"\0", 0)
            except (OSError, ValueError):
                pass  # closed meanwhile (a descriptor of -1 is a ValueError where there is no compiler)

    def ready(self, events):
        _fast.recv(self.ours_fd, 4096)
        self.tell()

    def tell(self):
        """Pass on every word there is."""
        self.called = False
        done = self.done
        while done:
            job, word, value = done.popleft()
            try:
                job.hear(word, value)
            except Exception:
                log.exception("a job of %s could not be heard", self.name)

    def abort(self, why):
        """The poller found our socket broken."""
        log.error("the threads of %s cannot be heard: %s", self.name, why)

    # ---- the end

    def shut(self):
        """Take no more jobs; threads end when they have done what they do. What waits is not done."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            waiting = list(self.todo)
            self.todo.clear()
            idle = list(self.idle)
            self.idle.clear()
        for job in waiting:
            cancel = getattr(job, "cancel", None)
            if cancel is not None:
                cancel()
        for seat in idle:
            seat.lock.release()
        if self.poller is not None:
            self.poller.unwatch(self.ours_fd)
            self.tell()
            self.ours.close()
            self.theirs_fd = -1
            self.theirs.close()


class Call(Job):
    """A function for asyncio's executor; its outcome goes into a `concurrent.futures.Future`."""

    def __init__(self, function, arguments, options):
        self.future = Future()
        self.function = function
        self.arguments = arguments
        self.options = options

    def run(self):
        future, self.future = self.future, None
        if not future.set_running_or_notify_cancel():
            return
        try:
            value = self.function(*self.arguments, **self.options)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)
        self.function = self.arguments = self.options = None

    def cancel(self):
        """The lane closes before it was begun."""
        future = self.future
        if future is not None:
            future.cancel()


class Executor(ThreadPoolExecutor):
    """A lane as a `concurrent.futures` executor: what asyncio uses for `to_thread` and for looking up names."""

    def __init__(self, lane):
        super().__init__(max_workers=lane.most)
        self.lane = lane

    def submit(self, fn, /, *args, **kwargs):
        """Have a function called in a thread; its Future. Raises RuntimeError after `shutdown`."""
        call = Call(fn, args, kwargs)
        future = call.future
        if not self.lane.put(call):
            raise RuntimeError("the threads of this worker take no more work")
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Close the lane. Threads that do not end within a second are left: they are daemons."""
        self.lane.shut()
        end = monotonic() + 1.0
        for thread in list(self.lane.all) if wait else ():
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - monotonic()))


class Pool:
    """All lanes of one worker, and their sums in its region of the slab, once a second."""

    def __init__(self, poller, region=None):
        self.poller = poller
        self.region = region
        self.lanes = {}
        self.before = (0, 0, 0)
        self.gone = [0, 0, 0]
        self.timer = None
        if region is not None:
            self.note()

    def lane(self, name, most, room=-1):
        """A new lane whose jobs are heard on the loop. Closing it takes it out again."""
        lane = Lane(name, most, room, self.poller)
        self.lanes[lane] = None
        return lane

    def executor(self, most):
        """asyncio's default executor."""
        lane = Lane("asyncio", most)
        self.lanes[lane] = None
        return Executor(lane)

    def remove(self, lane):
        """Close a lane; what it counted stays counted."""
        lane.shut()
        if lane in self.lanes:
            del self.lanes[lane]
            for place, count in enumerate((lane.jobs, lane.waited, lane.refused)):
                self.gone[place] += count

    def sums(self):
        """{threads, busy, waiting, most: now; jobs, waited_ns, refused: since the start}."""
        lanes = list(self.lanes)
        return {
            "threads": sum([lane.threads for lane in lanes]),
            "busy": sum([lane.busy for lane in lanes]),
            "waiting": sum([len(lane.todo) for lane in lanes]),
            "most": sum([lane.most for lane in lanes]),
            "jobs": self.gone[0] + sum([lane.jobs for lane in lanes]),
            "waited_ns": self.gone[1] + sum([lane.waited for lane in lanes]),
            "refused": self.gone[2] + sum([lane.refused for lane in lanes]),
        }

    def note(self):
        """Write the sums into the slab: gauges as they are, counters by what was added."""
        now = self.sums()
        region = self.region
        region.set("threads", now["threads"])
        region.set("threads_busy", now["busy"])
        region.set("threads_waiting", now["waiting"])
        counted = (now["jobs"], now["waited_ns"], now["refused"])
        for name, value, before in zip(("jobs", "jobs_waited_ns", "jobs_refused"), counted, self.before):
            region.set(name, region.get(name) + value - before)
        self.before = counted
        self.timer = self.poller.loop.call_later(1.0, self.note)

    def close(self):
        """The worker ends."""
        if self.timer is not None:
            self.timer.cancel()
            self.note()
            self.timer.cancel()
        for lane in list(self.lanes):
            self.remove(lane)
