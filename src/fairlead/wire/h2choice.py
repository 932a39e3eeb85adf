"""HTTP/2 without TLS by prior knowledge (RFC 9113 section 3.3): which protocol a plain connection speaks.

The first bytes say it: a client that begins with `PRI * HTTP/2.0` speaks HTTP/2, everybody else HTTP/1.1. No method of
HTTP/1.1 begins with `PRI `, so at most four bytes decide, and for almost everybody the first does. The `Upgrade: h2c` of
HTTP/1.1 is not offered: RFC 9113 dropped it, and behind proxies it was a way past them.
"""

from __future__ import annotations

from fairlead.core.codec import Codec

_START = b"PRI "


class Choice(Codec):
    """Stands in for the codec until it is known. `chosen(codec)` tells the carrier; `h1()` and `h2()` make one."""

    def __init__(self, sink, limits, h1, h2, chosen):
        super().__init__(sink, limits)
        self.h1 = h1
        self.h2 = h2
        self.chosen = chosen
        self.buffer = b""
        self.begun = 0

    def feed(self, data, now, stream=0, fin=False):
        self.now = now
        if not self.begun:
            self.begun = now
        data = self.buffer + data
        size = min(len(data), 4)
        if size < 4 and data == _START[:size]:
            self.buffer = data
            return
        made = self.choose(self.h2 if data[:4] == _START else self.h1)
        made.feed(data, now)

    def choose(self, make):
        """It is decided."""
        made = make()
        chosen = self.chosen
        self.chosen = self.h1 = self.h2 = None
        chosen(made)
        return made

    def eof(self, now, stream=0):
        made = self.choose(self.h1)
        if self.buffer:
            made.feed(self.buffer, now)
        made.eof(now)

    def deadline(self):
        return (self.begun or self.now) + self.limits.header if self.limits.header else 0

    def tick(self, now):
        made = self.choose(self.h1)
        if self.buffer:
            made.feed(self.buffer, self.begun)
        made.tick(now)

    def goaway(self, last):
        self.choose(self.h1).goaway(last)
