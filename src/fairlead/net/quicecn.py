# cython: annotation_typing=False
"""Explicit Congestion Notification for QUIC (RFC 9000 section 13.4): do marks of ours survive the path, and what came back of them.

    state      our datagrams are    what ends it
    testing    ECT(0)               `TESTS` packets: unknown; an acknowledgement that counts them right: capable
    unknown    not marked           as testing
    capable    ECT(0)               an acknowledgement that does not count them right: failed
    failed     not marked           another path: testing (section 13.4.2)

Rules
1. An acknowledgement validates (section 13.4.2.1) when it acknowledges newly what was marked and: it has counts; those for ECT(0)
   and CE rose at least by as many packets; none counts more than was sent, or fell; ECT(1) was never sent and never counted. What
   does not raise the largest acknowledged number says nothing, it may be late.
2. When all that was marked in the test is lost, the path drops what is marked: failed.
3. A rise of CE is congestion, like a loss (RFC 9002 section 7.1).
"""

from __future__ import annotations

from typing import Any

NOT, ECT1, ECT0, CE = 0, 1, 2, 3  # the two bits (RFC 3168 section 5)
TESTS = 10  # packets (RFC 9000 appendix A.4)
TESTING, UNKNOWN, CAPABLE, FAILED = "testing", "unknown", "capable", "failed"


class Marking:
    """What we send on one path; `space` is whatever names a packet number space."""

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.told: dict[Any, list[int]] = {}  # of each space: what the peer counted last, as ECT(0), ECT(1), CE
        self.counted: dict[Any, int] = {}  # packets marked
        self.largest: dict[Any, int] = {}
        self.restart()

    def restart(self) -> None:
        """Another path."""
        self.state = TESTING if self.wanted else FAILED
        self.left = TESTS
        self.dropped = 0

    @property
    def mark(self) -> int:
        """What the next datagrams carry."""
        return ECT0 if self.state in (TESTING, CAPABLE) else NOT

    def sent(self, space: Any) -> None:
        """A packet left with a mark."""
        self.counted[space] = self.counted.get(space, 0) + 1
        if self.state == TESTING:
            self.left -= 1
            if self.left <= 0:
                self.state = UNKNOWN

    def lost(self) -> None:
        """A packet with a mark is lost. Rule 2."""
        self.dropped += 1
        if self.state in (TESTING, UNKNOWN) and self.dropped >= TESTS:
            self.state = FAILED

    def acked(self, space: Any, largest: int, newly: int, counts: tuple[int, int, int] | None) -> bool:
        """The first acknowledgement of `newly` packets that were marked; `counts`: ECT(0), ECT(1), CE, or None. Whether it tells
        of congestion.
        """
        if largest <= self.largest.get(space, -1):
            return False
        self.largest[space] = largest
        told = self.told.get(space, [0, 0, 0])
        if counts is None:
            if newly:
                self.state = FAILED
            return False
        rose = [now - before for now, before in zip(counts, told, strict=True)]
        self.told[space] = list(counts)
        if self.state == FAILED:
            return False
        most = self.counted.get(space, 0)
        wrong = min(rose) < 0 or counts[1] or rose[0] + rose[2] < newly or counts[0] + counts[2] > most
        if wrong:
            self.state = FAILED
            return False
        if newly:
            self.state = CAPABLE
        return rose[2] > 0
