"""A connection between a worker and the keeper: messages of `words` in frames of `wire/calls`, written once for each turn of the
loop. Both ends are this class.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..core.errors import WireError
from ..wire.calls import Frames, frame
from . import words

log = logging.getLogger("fairlead")

HIGH, LOW = 8 << 20, 1 << 20  # bytes that the other end may leave untaken before it counts as stalled, and when no more


class Line(asyncio.Protocol):
    """Says and hears messages, tuples whose first is a word. `heard` gets each; `lost` is called once, at the end."""

    def __init__(self, heard: Callable[[Line, Any], None], lost: Callable[[Line], None]) -> None:
        self.heard, self.lost = heard, lost
        self.frames = Frames()
        self.out: list[bytes] = []
        self.transport: asyncio.WriteTransport | None = None
        self.loop = asyncio.get_running_loop()
        self.stalled = False  # the other end leaves more than `HIGH` bytes untaken
        self.on_room: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        transport.set_write_buffer_limits(HIGH, LOW)  # type: ignore[attr-defined]

    def pause_writing(self) -> None:
        """See asyncio."""
        self.stalled = True

    def resume_writing(self) -> None:
        """See asyncio."""
        self.stalled = False
        if self.on_room is not None:
            self.on_room()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        try:
            for message in self.frames.feed(data):
                self.heard(self, words.loads(message))
        except (WireError, ValueError, EOFError, TypeError, IndexError) as error:
            log.error("store: a message that is none (%s): the connection is closed", error)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self.transport = None
        self.lost(self)

    def say(self, *message: Any) -> None:
        """Send a message with this turn's others."""
        self.send(words.dumps(message))

    def send(self, message: bytes) -> None:
        """Send a message that is made."""
        if not self.out:
            self.loop.call_soon(self.flush)
        self.out.append(frame(message))

    def flush(self) -> None:
        """Write what was said."""
        out, self.out = self.out, []
        if self.transport is not None and out:
            self.transport.write(b"".join(out))

    def close(self) -> None:
        """Flush and close."""
        if self.transport is not None:
            self.flush()
            self.transport.close()
