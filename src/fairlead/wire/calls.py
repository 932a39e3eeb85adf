"""Messages between a worker and the store's keeper: a length (u32, little-endian) and so many bytes.

Not the hop (`wire/hop`): a hop carries HTTP exchanges, each a stream with its window, because a body may be endless and its reader
slow. A call to the keeper is small, whole when it is sent, and answered in the order of commits; what bounds it is the number of
calls that wait. The one thing that has no natural bound, news of appends, may be dropped by contract (`store.contract`: hints are
lossy), so it needs no window either.

What is in a message is its users' business (`store/words`). A length above `LIMIT` is an error: nothing that large is sent.
"""

from __future__ import annotations

import struct

from ..core.errors import WireError

LIMIT = 1 << 30  # bytes of one message: more than any batch of events may have
_LENGTH = struct.Struct("<I")


def frame(message: bytes) -> bytes:
    """The message as it is sent. WireError when it is too large."""
    if len(message) > LIMIT:
        raise WireError(
            f"a message of {len(message)} bytes to or from the keeper; {LIMIT} is the most", rule="too-large"
        )
    return _LENGTH.pack(len(message)) + message


class Frames:
    """Bytes as they come, cut into messages."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.wanted = 0  # bytes that must be here before looking again

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. WireError."""
        held = self.held
        held += data
        if len(held) < self.wanted:
            return []
        messages = []
        place, end = 0, len(held)
        self.wanted = 0
        while end - place >= 4:
            (size,) = _LENGTH.unpack_from(held, place)
            if size > LIMIT:
                raise WireError(f"a message of {size} bytes; {LIMIT} is the most", rule="too-large")
            if end - place - 4 < size:
                self.wanted = size + 4
                break
            messages.append(bytes(memoryview(held)[place + 4 : place + 4 + size]))
            place += 4 + size
        del held[:place]
        return messages
