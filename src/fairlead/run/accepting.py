"""The master's eye on the accept path: how full each accept queue is, what was turned away, and who else listens on our
port. What is wrong is said in words: in the log when it begins and when it is over, in status, verdict and metrics.

Rules
1. A queue is read four times a second (TCP_INFO of a listening socket), so that a peak of a quarter of a second is seen.
2. Overflows, drops and SYN cookies are counted for the whole network namespace. They are called ours only when one of
   our queues was full meanwhile.
3. A socket on our port that is not ours takes a share of our connections where SO_REUSEPORT is on: any process of the
   same user can open one. The kernel lists all of them (sock_diag(7)), ours are known by inode.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from time import monotonic
from typing import Any

from fairlead.net import diag
from fairlead.run import sockets
from fairlead.run.holder import Holder

EVERY = 0.25  # seconds between two looks at the queues
WINDOW = 10.0  # seconds that "of late" means
FULL = 0.8  # of the limit is worth a word
WILD = ("0.0.0.0", "::")
log = logging.getLogger("fairlead")


class AcceptPath:
    """What was seen of all listeners of one Holder. `look` is called `1 / EVERY` times a second."""

    def __init__(self, holder: Holder, clock: Any = monotonic) -> None:
        self.holder = holder
        self.clock = clock
        self.peaks: dict[str, deque[tuple[float, int, int]]] = {}
        self.counts: deque[tuple[float, dict[str, int]]] = deque()
        self.first = diag.counters()
        self.foreign: list[dict[str, Any]] = []
        self.said: dict[str, float] = {}
        self.looks = 0

    def look(self) -> None:
        """Read the queues; once a second the counters and the other sockets on our ports too."""
        now = self.clock()
        for held in self.holder.held.values():
            found = [sockets.queue_depth(sock) for sock in held.socks]
            depth, limit = max(found, default=(0, 0))
            seen = self.peaks.setdefault(str(held.bound), deque())
            seen.append((now, depth, limit))
            while seen[0][0] < now - WINDOW:
                seen.popleft()
        if self.looks % round(1 / EVERY) == 0:
            self.count(now)
            self.strangers()
        self.looks += 1
        self.alarm(now)

    def count(self, now: float) -> None:
        """The namespace's counters."""
        self.counts.append((now, diag.counters()))
        while len(self.counts) > 2 and self.counts[1][0] <= now - WINDOW:
            self.counts.popleft()

    def of_late(self) -> dict[str, int]:
        """How far each counter rose in the window."""
        if not self.counts:
            return {}
        old, new = self.counts[0][1], self.counts[-1][1]
        return {name: value - old.get(name, value) for name, value in new.items()}

    def peak(self, bind: str) -> tuple[int, int]:
        """(deepest of late, limit) of the accept queue of an address; of the fullest of its sockets."""
        seen = self.peaks.get(bind)
        return (max(depth for _, depth, _ in seen), seen[-1][2]) if seen else (0, 0)

    def overflowing(self) -> str:
        """The address whose queue was full while the kernel turned clients away; "" when there is none."""
        if self.of_late().get("overflows", 0) <= 0:
            return ""
        full = [bind for bind in self.peaks if self.peak(bind)[1] and self.peak(bind)[0] >= self.peak(bind)[1]]
        return full[0] if full else ""

    def strangers(self) -> None:
        """Sockets on our ports that are not ours."""
        ours = {os.fstat(sock.fileno()).st_ino for held in self.holder.held.values() for sock in held.socks}
        bound = [held.bound for held in self.holder.held.values() if not held.address.is_unix]
        try:
            rows = diag.listening() if bound else []
        except OSError:
            return
        self.foreign = [
            {"bind": str(address), "who": sockets.who_holds([row.inode]), "uid": row.uid, "inode": row.inode}
            for address in bound
            for row in rows
            if row.local[1] == address.port
            and row.inode not in ours
            and (row.local[0] == address.host or row.local[0] in WILD or address.host in WILD)
            and (":" in row.local[0]) == (":" in address.host)
        ]

    # ---- in words

    def alarm(self, now: float) -> None:
        """Say what began and what is over."""
        rose, full = self.of_late(), self.overflowing()
        for bind in self.peaks:
            depth, limit = self.peak(bind)
            self.tell(now, f"queue {bind}", bool(limit) and depth >= FULL * limit,
                f"the accept queue of {bind} is nearly full: {depth} of {limit} connections wait for a worker",
                f"the accept queue of {bind} has room again")  # fmt: skip
        self.tell(now, "overflow", bool(full),
            f"{rose.get('overflows', 0)} connections were turned away in {WINDOW:g} s: the accept queue of {full} is full; "
            "clients try again after 1 s, 3 s, 7 s (more workers, a larger server.backlog and net.core.somaxconn)",
            "no connection is turned away any more")  # fmt: skip
        flood = rose.get("cookies", 0) + rose.get("syn_drops", 0)
        self.tell(now, "flood", flood > 0,
            f"the SYN queue is full: {rose.get('cookies', 0)} SYN cookies sent and {rose.get('syn_drops', 0)} SYNs dropped "
            f"in {WINDOW:g} s on this network: a SYN flood, or a backlog that is too small",
            "the SYN queue has room again")  # fmt: skip
        for one in self.foreign:
            self.tell(now, f"foreign {one['inode']}", True,
                f"another socket listens on {one['bind']} beside ours: {one['who'] or 'uid ' + str(one['uid'])} gets a share "
                "of the connections (SO_REUSEPORT lets any process of the same user do that)")  # fmt: skip
        known = {f"foreign {one['inode']}" for one in self.foreign}
        for key in [key for key in self.said if key.startswith("foreign ") and key not in known]:
            del self.said[key]
            log.warning("nobody else listens on our port any more")

    def tell(self, now: float, key: str, holds: bool, begins: str, over: str = "") -> None:
        """One alarm: a line when it begins, a line when it has not held for the window."""
        if holds:
            if key not in self.said:
                log.warning("%s", begins)
            self.said[key] = now
        elif key in self.said:
            del self.said[key]
            log.warning("%s", over)

    # ---- for status and metrics

    def report(self) -> dict[str, Any]:
        """Counters since the start and of late (the namespace's), and foreign sockets."""
        now = self.counts[-1][1] if self.counts else {}
        return {
            "since_start": {name: value - self.first.get(name, 0) for name, value in now.items()},
            "of_late": self.of_late(),
            "seconds": WINDOW,
            "scope": "network namespace",
            "overflowing": self.overflowing(),
            "foreign": self.foreign,
        }
