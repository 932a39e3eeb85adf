# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# mypy: disable-error-code="attr-defined"
"""Recorder: folds each finished journey into its worker's region of the slab, and gives the access log its line.

Rules
1. `done` is on the path of every request: it copies numbers, allocates nothing that stays, and keeps no exchange alive.
2. Total here is the time of the request itself: from its first byte in the kernel (else our wake-up, else our read)
   to its last byte sent, plus accept and TLS when it was its connection's first; the idle time between those is
   nobody's wait.
3. The histograms count a step only where it happened. Tunnels count as requests but in no histogram of totals and
   never as slow: how long they last says nothing.
4. Each is written as one record (`recordwrite`). The slowest are kept in a ring of their own until they are `SLOW_KEPT` old or
   slower ones come.
5. What no exchange tells (in flight, running now) is looked at by `beat`, once a second; how late the event loop comes
   to its timers is measured by `tick`, ten times a second. A loop that stands still is seen by its old heartbeat.
6. Bounds are not checked when compiled: every index comes from the layout and a clamped number (a bucket, a place in a
   ring, a route's number). The same tests run interpreted, where the memory checks them.
"""

from __future__ import annotations

import logging
import os
from heapq import heapify, heappush, heapreplace
from time import monotonic_ns, time_ns
from typing import Any

from fairlead.core.errors import WireError
from fairlead.core.histogram import bucket
from fairlead.core.names import lost_status, name_cause, name_of, peer_bytes
from fairlead.core.recordwrite import Writer
from fairlead.core.slab import NAME_BYTES, ROUTE_BYTES

SLOW_KEPT = 600 * 1_000_000_000
TICK = 100_000_000
RUNNING_FROM = 100_000_000  # an exchange is shown as running from this age on
LOOKED_AT = 2000  # connections that one beat looks at
COMPILED = not __file__.endswith(".py")
OTHER = "(other)"
NO_ROUTE = "(none)"
errors = logging.getLogger("fairlead.error")


class Recorder(Writer):
    """The Observer of one worker.

    `routes` are route objects (named by `name_of`) or (object, name) pairs. `log` is a core.lines.Lines or None.
    `poller` has `now()`, `woken`, `soon(callable)` and `loop`; without one the log is flushed by its own size and by
    `close()`. With `slow_after` ns set, `on_slow(exchange, status, route, took)` hears of requests that took longer.
    """

    def __init__(self, region, routes=(), log=None, poller=None, flush=1.0):
        Writer.__init__(self, region)
        if not COMPILED:
            setattr(self, "took", [0] * 19)  # noqa: B010 (compiled, this would not be an array)
            setattr(self, "timers", [0] * 8)  # noqa: B010
        self.log = log
        if log is not None:
            log.worker = region.index
        self.poller = poller
        self.flush_after = flush
        self.admissions = []
        self.routes, self.route_names = [], []
        self.fresh = 0
        self.known = {}
        self.open = set()
        self.causes = {}
        self.slow_list = []
        self.slow_floor = self.slow_after = 0
        self.on_slow: Any = None
        self.flushing = False
        self.closed_down = False
        self.timer = self.flush_timer = None
        self.due = self.lag_now = self.lag_before = self.ticks = 0
        offsets = region.offsets
        self.ring_at = offsets["ring"]
        self.ring_size = region.layout["keep"]
        self.histograms_at = offsets["histograms"]
        self.route_cells_at = offsets["route_cells"]
        self.route_totals_at = offsets["route_totals"]
        self.find_slots(region)
        region.claim(os.getpid(), time_ns(), monotonic_ns())
        self.offset = time_ns() - monotonic_ns()
        self.number = self.cells[self.slot_requests]
        self.set_routes(routes)
        for i in range(region.layout["running"]):
            self.cells[offsets["running"] + i * 128] = 0

    def find_slots(self, region):
        """Where the totals are that the hot path adds to."""
        slot = region.slot
        self.slot_requests = slot("requests")
        self.slot_class = slot("status_0")
        self.slot_in = slot("bytes_in")
        self.slot_out = slot("bytes_out")
        self.slot_unstamped = slot("unstamped")
        self.slot_clamped = slot("clamped")
        self.slot_process = slot("process_ns")
        self.slot_total = slot("total_ns")
        self.slot_tls = slot("tls_requests")
        self.slot_first = slot("first_requests")
        self.slot_retries = slot("retries")
        self.slot_looked, self.slot_window, self.slot_sndbuf, self.slot_again = [
            slot(name) for name in ("looked", "window_us", "sndbuf_us", "retransmits")
        ]

    def set_routes(self, routes):
        """The routes of the present plan. A known name keeps its cells; what finds no room counts as "(other)"."""
        region = self.region
        names = {region.route_name(i): i for i in range(region.layout["routes"]) if region.route_name(i)}
        old = list(zip(self.routes, self.route_numbers, self.route_names))[: self.fresh]
        self.routes = []
        self.route_numbers = []
        self.route_names = []
        for name in (NO_ROUTE, OTHER):
            self.route_number(name, names)
        for route in routes:
            thing, name = route if isinstance(route, tuple) else (route, name_of(route))
            self.routes.append(thing)
            self.route_numbers.append(self.route_number(name, names))
            self.route_names.append(name.encode()[:ROUTE_BYTES])
        self.fresh = len(self.routes)
        for thing, number, name in old:  # exchanges that began under the plan before still say so
            self.routes.append(thing)
            self.route_numbers.append(number)
            self.route_names.append(name)
        self.last_route = None
        self.last_found = -1

    def route_number(self, name, names):
        name = name.encode()[:ROUTE_BYTES].decode("utf-8", "ignore")
        number = names.get(name, len(names))
        if number >= self.region.layout["routes"]:
            return 1
        names[name] = number
        self.region.write_text(
            self.region.offsets["route_names"] + number * (ROUTE_BYTES // 8), ROUTE_BYTES, name.encode()
        )
        return number

    def watch(self, admission):
        """Count an Admission's requests in flight and refusals as this worker's."""
        self.admissions.append(admission)

    # ---- the hot path

    def done(self, exchange):
        j = exchange.journey
        conn = exchange.conn
        known = self.known.get(conn)
        if known is None:
            known = self.meet(conn)
        peer = known.peer if exchange.client is None else peer_bytes(exchange.client)
        response = exchange.response
        status = response.status if response is not None else 0
        end = b""
        if exchange.error is not None or j.end:
            end = self.cause(exchange)
            if status == 0:
                status = lost_status(exchange.error)
        self.measure(j)  # journey
        if exchange.tunnel:
            self.add_total("tunnels", 1)
            if j.started:  # an application's work is its handshake's; the tunnel's life is in the total
                self.took[9] = j.answered - j.started if j.answered > j.started else 0
        found = self.find_route(exchange.route)
        self.number += 1
        self.count(j, status, found, exchange.tunnel)
        keep = self.ring_at + self.number % self.ring_size * 128
        self.write(keep, exchange, j, status, found, peer, end, self.number)  # journey
        if self.took[17] > self.slow_floor and not exchange.tunnel:
            self.keep_slow(exchange, j, status, found, peer, end)
        if j.net is not None:
            self.add_net(j.net)
        if self.slow_after and self.took[17] > self.slow_after and not exchange.tunnel:
            self.add_total("slow", 1)
            self.on_slow(exchange, status, self.route_names[found] if found >= 0 else b"", list(self.took))
        if self.log is not None:
            self.line(exchange, j, status, known, peer, end)
        known.last = j.done

    def measure(self, j):
        """The steps of a journey into `took`, in the order of STEPS; 17 is the total, 18 what HAProxy calls TR."""
        self.took[0] = j.accepted - j.connected if j.connected and j.accepted > j.connected else 0
        self.took[1] = j.secured - j.accepted if j.secured and j.accepted else 0
        self.took[2] = j.woken - j.arrived if j.arrived and j.woken > j.arrived else 0
        self.took[3] = j.spent_loop
        self.took[4] = j.spent_read
        self.took[5] = j.spent_decrypt
        self.took[6] = j.spent_parse
        self.took[7] = j.spent_decode
        end = j.started or j.queued
        self.took[8] = end - j.routed if j.routed and end > j.routed else 0
        end = j.finished or j.answered  # as Journey.process_time, without Python integers
        own = end - j.started - j.spent_client if j.started and end else 0
        if own > 0 and j.finished > j.answered:
            own -= j.spent_encode + j.spent_encrypt + j.spent_send
        if j.queued == j.started:
            own -= j.spent_decode
        self.took[9] = own if own > 0 else 0
        self.took[10] = j.spent_pool
        self.took[11] = j.spent_dial
        end = j.leg_end or j.leg_head
        own = end - j.leg_sent - j.spent_client if j.leg_sent and end else 0
        self.took[12] = own if own > 0 else 0
        self.took[13] = j.spent_encode
        self.took[14] = j.spent_encrypt
        self.took[15] = j.spent_send
        self.took[16] = j.spent_client
        start = j.arrived or j.woken or j.read or j.parsed
        self.took[17] = j.done - start + self.took[0] + self.took[1] if start and j.done > start else 0
        self.took[18] = j.parsed - start if start and j.parsed > start else 0

    def count(self, j, status, found, tunnel):
        """Add one request to the totals, the histograms and its route."""
        cells = self.cells
        kind = status // 100
        if kind > 5 or kind < 0:
            kind = 0
        cells[self.slot_requests] += 1
        cells[self.slot_class + kind] += 1
        cells[self.slot_in] += j.bytes_in
        cells[self.slot_out] += j.bytes_out
        cells[self.slot_process] += self.took[9] + self.took[12]
        cells[self.slot_total] += 0 if tunnel else self.took[17]
        if j.arrived == 0:
            cells[self.slot_unstamped] += 1
        elif j.arrived > j.woken > 0:
            cells[self.slot_clamped] += 1
        if j.accepted:
            cells[self.slot_first] += 1
        if j.decrypted or j.encrypted:
            cells[self.slot_tls] += 1
        if j.attempts > 1:
            cells[self.slot_retries] += j.attempts - 1
        number = self.route_numbers[found] if found >= 0 else 0
        at = self.route_cells_at + number * 39
        cells[at] += 1
        if kind == 5 or kind == 0:
            cells[at + 1] += 1
        cells[at + 2] += j.bytes_out
        self.fold(at, number, tunnel)  # journey

    def fold(self, at, number, tunnel):
        """Add each step that happened to its histogram, and to its route's sums."""
        cells = self.cells
        base = self.histograms_at
        for i in range(18):
            took = self.took[i]
            if took > 0:
                place = bucket(took)
                if i == 17:
                    if tunnel:
                        break
                    cells[self.route_totals_at + number * 216 + place] += 1
                cells[base + i * 216 + place] += 1
                cells[at + 3 + 2 * i] += took
                cells[at + 4 + 2 * i] += 1

    def find_route(self, route):
        """The place of a route object in `routes`, -1 when there is none."""
        if route is None:
            return -1
        if route is self.last_route:
            return self.last_found
        found = -1
        for i in range(len(self.routes)):
            if self.routes[i] is route:
                found = i
                break
        self.last_route = route
        self.last_found = found
        return found

    def line(self, exchange, j, status, known, peer, end):
        """One line of the access log, with HAProxy's timers."""
        t = self.timers
        start = j.arrived or j.woken or j.read or j.parsed
        before = j.secured or j.accepted or known.last
        t[0] = self.took[1] // 1000000
        t[1] = (start - before) // 1000000 if before and start > before else 0
        t[2] = self.took[18] // 1000000 if j.parsed else -1
        t[3] = (self.took[8] + self.took[10]) // 1000000 if j.routed else -1
        t[4] = self.took[11] // 1000000 if j.leg_sent or self.took[11] else -1
        if j.leg_sent:
            t[5] = (j.leg_head - j.leg_sent) // 1000000 if j.leg_head else -1
        else:
            t[5] = (j.answered - j.started) // 1000000 if j.answered and j.started else -1
        head = j.leg_head or j.answered
        t[6] = (j.done - head) // 1000000 if head and j.done >= head else -1
        t[7] = (self.took[17] - self.took[0] - self.took[1]) // 1000000
        found = self.find_route(exchange.route)
        route = self.route_names[found] if found >= 0 else b""
        request = exchange.request
        method = self.known_bytes(request.method)
        version = self.known_bytes(request.version)
        log = self.log
        log.wall = self.offset + start
        log.number = self.number
        log.status = status
        log.bytes_in = j.bytes_in
        log.bytes_out = j.bytes_out
        log.messages_in = j.messages_in
        log.messages_out = j.messages_out
        if not self.flushing:
            self.arm()
        log.add(request, method, version, peer, exchange.tag, end, route, self.took, t)

    # ---- by the clock

    def arm(self):
        """The log holds lines: see that they are written in time."""
        if self.poller is None or self.closed_down:
            return
        self.flushing = True
        if self.flush_after > 0:
            self.flush_timer = self.poller.loop.call_later(self.flush_after, self.flush)
        else:
            self.poller.soon(self.flush)

    def flush(self):
        """Hand the access log's lines over."""
        self.flushing = False
        if self.log is not None:
            self.log.flush()

    def start(self):
        """Tick on the poller's loop until `close`."""
        self.due = monotonic_ns() + TICK
        self.timer = self.poller.loop.call_later(TICK / 1e9, self.tick)

    def tick(self):
        """Ten times a second: how late does the loop come to us? Every tenth time, look around."""
        if self.closed_down:
            return
        now = monotonic_ns()
        self.count_lag(max(now - self.due, 0))
        self.ticks += 1
        if self.ticks % 10 == 0:
            self.beat()
        self.due = monotonic_ns() + TICK
        self.timer = self.poller.loop.call_later(TICK / 1e9, self.tick)

    def count_lag(self, late):
        """One measurement of the loop's lateness."""
        region = self.region
        at = region.slot("turns")
        self.cells[at] += 1
        self.cells[at + 1] += late
        self.lag_now = max(self.lag_now, late)
        self.cells[at + 2] = max(self.lag_now, self.lag_before)
        if self.cells[at] % 100 == 0:
            self.lag_before, self.lag_now = self.lag_now, 0
        self.cells[self.histograms_at + 18 * 216 + bucket(late)] += 1

    def beat(self):
        """Say that this worker lives, and what is running now."""
        now = monotonic_ns()
        region = self.region
        self.offset = time_ns() - now
        region.set("heartbeat", now)
        region.set("in_flight", sum([admission.busy for admission in self.admissions]))
        region.set("refused", sum([admission.refused for admission in self.admissions]))
        if self.log is not None:
            region.set("log_lines", self.log.lines)
            region.set("log_lost", getattr(self.log, "lost", 0))
            if hasattr(self.log, "retry"):
                self.log.retry()
        self.forget_slow(now)
        self.note_running(now)

    def note_running(self, now):
        """Records of what has been running for a while, oldest first among the connections looked at."""
        found = []
        for conn in list(self.open)[:LOOKED_AT]:
            for exchange in conn.open_exchanges():
                start = exchange.journey.start_point()
                if exchange.role == 0 and start and now - start >= RUNNING_FROM:
                    peer = peer_bytes(conn.peer if exchange.client is None else exchange.client)
                    found.append((start, id(exchange), exchange, peer))
        found.sort()
        at, size = self.region.offsets["running"], self.region.layout["running"]
        self.region.set("running", len(found))
        for i in range(size):
            if i < len(found):
                _, _, exchange, peer = found[i]
                self.write(
                    at + i * 128, exchange, exchange.journey, 0, self.find_route(exchange.route), peer, b"", i + 1
                )
            else:
                self.cells[at + i * 128] = 0

    def keep_slow(self, exchange, j, status, found, peer, end):
        """One of the slowest of late: into the slow ring, in place of the least slow. `slow_list` is a heap."""
        size = self.region.layout["slow"]
        if len(self.slow_list) < size:
            slot = len(self.slow_list)
            heappush(self.slow_list, (self.took[17], j.done, slot))
        else:
            slot = self.slow_list[0][2]
            heapreplace(self.slow_list, (self.took[17], j.done, slot))
        if len(self.slow_list) == size:
            self.slow_floor = self.slow_list[0][0]
        at = self.region.offsets["slow"] + slot * 128
        self.write(at, exchange, j, status, found, peer, end, self.number)

    def add_net(self, net):
        """Add what the kernel told to the totals."""
        cells = self.cells
        cells[self.slot_looked] += 1
        cells[self.slot_window] += net[0]
        cells[self.slot_sndbuf] += net[1]
        cells[self.slot_again] += net[4]

    def forget_slow(self, now):
        """What was slow long ago gives its place to anything."""
        if self.slow_list:
            self.slow_list = [
                (0, 0, s) if done and now - done > SLOW_KEPT else (t, done, s) for t, done, s in self.slow_list
            ]
            heapify(self.slow_list)
            if len(self.slow_list) == self.region.layout["slow"]:
                self.slow_floor = self.slow_list[0][0]

    # ---- connections and errors

    def opened(self, conn):
        self.add_total("opened", 1)
        self.add_total("open", 1)
        self.open.add(conn)

    def closed(self, conn, why):
        self.add_total("closed", 1)
        self.add_total("open", -1)
        self.known.pop(conn, None)
        self.open.discard(conn)

    def meet(self, conn):
        """What is remembered of a connection from its first request to its end."""
        known = Known(peer_bytes(conn.peer))
        self.known[conn] = known
        return known

    def broke(self, exchange, error):
        self.add_total("broke", 1)
        request = exchange.request
        self_id = exchange.tag.decode("utf-8", "replace") if exchange.tag else ""
        fields = {"method": request.method, "target": request.target.decode("ascii", "backslashreplace"), "id": self_id}
        told = "".join([c if c.isprintable() else "?" for c in f"{request.method} {fields['target']}: "])
        trace = (type(error), error, error.__traceback__)
        errors.error("%s%s: %s", told, type(error).__name__, error, exc_info=trace, extra={"request": fields})

    def cause(self, exchange):
        """Why an exchange ended, as a short stable name, counted by that name."""
        name = exchange.journey.end or name_cause(exchange.error)
        if name == "client-left":
            self.add_total("client_left", 1)
        elif isinstance(exchange.error, WireError) and exchange.error.side == "peer":
            self.add_total("bad_requests", 1)
        at = self.causes.get(name)
        if at is None:
            at = self.find_name(name)
            if at and len(self.causes) < 256:
                self.causes[name] = at
        if at:
            self.cells[at] += 1
        return name.encode()

    def find_name(self, name):
        """The counter of an end cause; 0 when all are taken."""
        region = self.region
        wanted = name.encode()[:NAME_BYTES].decode("utf-8", "ignore")
        for i in range(region.layout["names"]):
            at = region.offsets["names"] + i * (1 + NAME_BYTES // 8)
            there = region.text(at + 1, NAME_BYTES)
            if there == wanted:
                return at
            if not there:
                region.write_text(at + 1, NAME_BYTES, wanted.encode())
                return at
        return 0

    def add_total(self, name, count):
        """Add to a total that is not on the hot path."""
        self.cells[self.region.slot(name)] += count

    def close(self):
        """The worker ends: write the log, stop beating."""
        self.closed_down = True
        for timer in (self.timer, self.flush_timer):
            if timer is not None:
                timer.cancel()
        self.timer = self.flush_timer = None
        self.flush()


class Known:
    """A connection as the recorder remembers it: its peer in bytes, and when its last request was over."""

    def __init__(self, peer):
        self.peer = peer
        self.last = 0
