"""Carrier: what a Connection needs of whatever carries its bytes, and all that it knows of sockets."""

from __future__ import annotations


class Carrier:
    """What carries a connection's bytes: net.tcp.Tcp, or a stream of another connection. `regions`: it can send a Region."""

    def __init__(self):
        self.blocked = self.regions = False

    def touch(self):
        """Something was said or credited: flush, resume reading, feed what is buffered. Now, or after the current feed."""

    def close(self, why):
        """Close when everything said is sent; `why` is None or a FairleadError."""

    def abort(self, why):
        """Close at once, unsent bytes dropped."""

    def post(self, data):
        """Send these bytes at once, past the codec, which has nothing to say: 0 when that cannot be now, 1 when the kernel has
        all of them, 2 when it had no room for all: they are as if the codec had said them, and wait.
        """
        return 0

    def rearm(self):
        """A deadline became earlier: look at `Connection.deadline()` again."""

    def ask_kernel(self, journey):
        """Set `journey.net`, where the kernel tells."""
