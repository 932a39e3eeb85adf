"""What the peer's flow control still takes, counted beside a core that does not say (RFC 9000 section 4): qh3's.

Rules
1. The core tells each MAX_DATA and MAX_STREAM_DATA; the first ones are transport parameters. What it was handed is counted here.
2. Bytes that it was handed and dropped, because their stream was reset, count no more.
3. While the engine is paused the core's words are not heard. So the count yields to what must be so: bytes that wait in the
   core no more were sent, whatever limit we know.
"""

from __future__ import annotations

from typing import Any

FAR = 1 << 60


class Flow:
    """Of one connection; `client`: ours is the client's role."""

    def __init__(self, client: bool) -> None:
        self.client = client
        self.limit = self.sum = 0  # MAX_DATA, and what was handed in of all streams
        self.limits: dict[int, int] = {}  # MAX_STREAM_DATA; missing: as the transport parameters say
        self.handed: dict[int, int] = {}

    def said(self, stream: int, size: int) -> None:
        """The core was handed so many bytes."""
        self.sum += size
        self.handed[stream] = self.handed.get(stream, 0) + size

    def heard(self, event: tuple[Any, ...]) -> None:
        """MAX_STREAM_DATA or MAX_DATA."""
        if event[0] == "stream_credit":
            self.limits[event[1]] = event[2]
        else:
            self.limit = event[1]

    def finished(self, stream: int) -> None:
        """A stream is no more."""
        self.limits.pop(stream, None)
        self.handed.pop(stream, None)

    def left(self, told: Any, stream: int) -> int:
        """Bytes of a stream that may be handed in still; `told`: the peer's transport parameters, None while they are not known."""
        if told is None:
            return FAR
        if stream & 2:
            first = told.initial_max_stream_data_uni
        elif stream & 1 == (not self.client):
            first = told.initial_max_stream_data_bidi_remote
        else:
            first = told.initial_max_stream_data_bidi_local
        return int(max(self.limits.get(stream, 0), first or 0) - self.handed.get(stream, 0))

    def of_all(self, told: Any, unsent: int) -> int:
        """The same of the connection; `unsent`: bytes that wait in the core."""
        if told is None:
            return FAR
        limit = max(self.limit, told.initial_max_data or 0)
        if self.sum > limit:
            self.sum = min(self.sum, limit + unsent)  # rule 3
        return int(limit - self.sum)
