"""The journey of one exchange: when it passed each point, how long each kind of work took, and how well we know it.

Rules
1. A point is CLOCK_MONOTONIC nanoseconds; 0 means it never happened or is unknown. Unset is unset, not zero time.
2. The first mark of a point wins, except the marks of an upstream leg, which belong to an attempt.
3. A spend is a sum of durations (one request may be read, decrypted and parsed in many pieces).
4. Accept and TLS belong to the connection and appear only in its first request; the idle time before a request in none.
5. Each time we cannot know exactly says how we know it (`Quality`): the kernel's receive stamp is the newest segment's,
   so a buffer wait is at least that; after a short loop turn the wait is at most that turn's length.
6. `queued` equal to `started` says that what was decoded was decoded in the application's time (gRPC), which is then less.
7. `net` is what the kernel told of the socket at the end, asked when a send had blocked and for a sampled share of requests
   (`journey.sample`): (us the peer's window was full, us our send buffer was, round trip us, bytes not acknowledged,
   retransmitted segments); all but the last look's own are since the connection was last asked. None: not asked.

Points are plain fields, so that marking one is a store. `steps()` derives the named durations of the interface.
"""

from __future__ import annotations

from time import monotonic_ns

EXACT, AT_LEAST, AT_MOST, JIFFY, SHARED, UNKNOWN = range(6)
QUALITY = ("exact", "at-least", "at-most", "jiffy", "shared", "unknown")

POINTS = (
    "connected", "accepted", "secured", "arrived", "woken", "read", "decrypted", "parsed", "body_end", "queued", "routed",
    "started", "picked", "dialed", "leg_sent", "leg_head", "leg_end", "answered", "finished", "encoded", "encrypted",
    "sent", "acked", "done",
)  # fmt: skip
STEPS = (
    "accept", "tls", "buffer", "loop", "read", "decrypt", "parse", "decode", "queue", "process", "pool", "dial",
    "upstream", "encode", "encrypt", "send", "client",
)  # fmt: skip

SPENDS = tuple("spent_" + n for n in (
    "loop", "read", "decrypt", "parse", "decode", "pool", "dial", "encode", "encrypt", "send", "client",
))  # fmt: skip
COMPILED = not __file__.endswith(".py")


class Clock:
    """Where time comes from: monotonic nanoseconds. The event loop's poller is one; tests set their own."""

    def now(self) -> int:
        """Monotonic nanoseconds."""
        return monotonic_ns()


class Journey:
    """Points, spends and qualities of one exchange. Fields named in POINTS, `spent_*` in nanoseconds."""

    def __init__(self) -> None:
        self.begin()

    def begin(self):
        """In place of a constructor on the hot path: `Journey.__new__(Journey)`, then this."""
        if not COMPILED:
            for name in POINTS + SPENDS:
                setattr(self, name, 0)
            self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = self.attempts = 0
            self.shared = False
            self.custom = self.net = None
        self.arrived_quality = 5  # UNKNOWN
        self.end = ""

    def step(self, name):
        """A context manager that times a part of the application under its own name: ``with journey.step("sql"):``."""
        return Step(self, name)

    def add(self, name, start, duration):
        """Record a custom step: its name, its start (monotonic ns) and its duration in ns. At most 64 are kept."""
        if self.custom is None:
            self.custom = []
        if len(self.custom) < 64:
            self.custom.append((name, start, duration))

    def start_point(self):
        """The first moment known of this request itself: its bytes in the kernel, else our wake-up, else our read."""
        return self.arrived or self.woken or self.read or self.parsed

    def total(self):
        """Nanoseconds from the start point to the latest point known, and its connection's accept and TLS if it was first."""
        start = self.start_point()
        last = self.done or self.sent or self.finished or self.answered or self.started or self.parsed
        if not start or last < start:
            return 0
        took = last - start
        if self.connected and self.accepted > self.connected:
            took += self.accepted - self.connected
        if self.secured and self.accepted:
            took += self.secured - self.accepted
        return took

    def process_time(self):
        """Nanoseconds the application had, less what it waited on our encoding, our socket and the client."""
        if not self.started:
            return 0
        end = self.finished or self.answered
        if not end:
            return 0
        own = end - self.started - self.spent_client
        if self.finished > self.answered:
            own -= self.spent_encode + self.spent_encrypt + self.spent_send
        if self.queued == self.started:
            own -= self.spent_decode
        return own if own > 0 else 0

    def upstream_time(self):
        """Nanoseconds from the request's last hand-over to the upstream until its answer's end (or head, if still open)."""
        if not self.leg_sent:
            return 0
        end = self.leg_end or self.leg_head
        took = end - self.leg_sent - self.spent_client
        return took if took > 0 else 0

    def step_time(self, name):
        """Nanoseconds of one named step (see STEPS), 0 when it did not happen or is not known."""
        if name == "accept":
            return self.accepted - self.connected if self.connected and self.accepted else 0
        if name == "tls":
            return self.secured - self.accepted if self.secured and self.accepted else 0
        if name == "buffer":
            return max(self.woken - self.arrived, 0) if self.arrived and self.woken else 0
        if name == "loop":
            return self.spent_loop
        if name == "queue":
            until = self.started or self.queued
            return max(until - self.routed, 0) if until and self.routed else 0
        if name == "process":
            return self.process_time()
        if name == "upstream":
            return self.upstream_time()
        return getattr(self, "spent_" + name)

    def step_quality(self, name):
        """How well a step is known: one of EXACT ... UNKNOWN."""
        if name == "accept":
            return JIFFY if self.connected else UNKNOWN
        if name == "buffer":
            return self.arrived_quality
        if self.shared and name in ("read", "decrypt", "parse", "encrypt", "send"):
            return SHARED
        return EXACT

    def steps(self):
        """[(name, nanoseconds, quality)] of the steps that happened, in journey order."""
        found = []
        for name in STEPS:
            took = self.step_time(name)
            if took > 0:
                found.append((name, took, self.step_quality(name)))
        return found

    def server_timing(self):
        """The `Server-Timing` value (W3C): the steps known so far from 10 us up, in order, then `total`; milliseconds."""
        parts = []
        for name, took, _ in self.steps():
            if took >= 10_000:
                parts.append(f"{name};dur={took / 1e6:.3f}")
        for name, _, took in self.custom or ():
            parts.append(f"{name};dur={took / 1e6:.3f}")
        parts.append(f"total;dur={self.total() / 1e6:.3f}")
        return ", ".join(parts).encode("ascii", "replace")

    def points(self):
        """{name: ns} of the points that are set."""
        return {name: getattr(self, name) for name in POINTS if getattr(self, name)}


class Step:
    """One custom step being timed; ends when its `with` block does. Names must be HTTP tokens to appear in Server-Timing."""

    def __init__(self, journey, name):
        self.journey = journey
        self.name = name
        self.start = 0

    def __enter__(self):
        self.start = monotonic_ns()
        return self

    def __exit__(self, kind, error, trace):
        self.journey.add(self.name, self.start, monotonic_ns() - self.start)
        return False
