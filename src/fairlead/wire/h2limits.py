"""Guard: how often one peer of HTTP/2 or HTTP/3 may do what costs us more than it costs the peer; and how old a connection gets.

Each kind of frame has a bucket: it holds the limit of that name (core/limits) and empties by a tenth of it per second. So
a burst passes, and a flood ends the connection with ENHANCE_YOUR_CALM. What the buckets stand against: rapid reset
(CVE-2023-44487) and its mirror image, where the peer makes us reset (CVE-2025-8671); SETTINGS, PING and empty-frame floods
(CVE-2019-9511 to 9518); WINDOW_UPDATE by one; PRIORITY churn.
"""

from __future__ import annotations

RESETS, SETTINGS, PINGS, EMPTIES, UPDATES, PRIORITIES = range(6)
NAMES = ("reset-flood", "settings-flood", "ping-flood", "empty-flood", "window-flood", "priority-flood")
_SECOND = 1_000_000_000


def parting(begun, age):
    """When a connection that began at `begun` has its age: a tenth more or less, so that not all come again in one moment."""
    return begun + age + begun % (age // 5 + 1) - age // 10


class Guard:
    """The buckets of one connection. `over(kind, now)` counts one and says whether that was too much; `leaked`: when they
    were last emptied, first when the connection began.
    """

    def __init__(self, limits):
        self.most = [
            limits.resets, limits.settings, limits.pings, limits.empties, limits.updates, limits.priorities,
        ]  # fmt: skip
        self.level = [0, 0, 0, 0, 0, 0]
        self.leaked = 0

    def over(self, kind, now):
        """One more of a kind."""
        level = self.level[kind] + 1
        self.level[kind] = level
        most = self.most[kind]
        if most == 0 or level <= most:
            return False
        self.leak(now)
        return self.level[kind] > most

    def earn(self, kind, count):
        """What we did gives the peer reason for `count` more of a kind."""
        level = self.level[kind] - count
        self.level[kind] = level if level > 0 else 0

    def leak(self, now):
        """Empty the buckets by the time that has passed."""
        passed = min(now - self.leaked, 10 * _SECOND)
        if passed < _SECOND // 100:
            return
        self.leaked = now
        for kind in range(6):
            level = self.level[kind] - self.most[kind] * passed // (10 * _SECOND)
            self.level[kind] = level if level > 0 else 0
