# cython: annotation_typing=False
"""The size of the datagrams that a running qh3 connection makes. Its core takes it when it is made and has no verb to change it.

Rules
1. Where the core keeps it is found out once in a process, by what a core does and not by what we believe of its layout: of the
   places inside the object that hold the size it was made with, the one whose change changes its packets, up and down.
2. What is read and written is memory of an object that we hold, inside the size that its type declares (`__basicsize__`), at a
   place that held exactly this number: nothing is followed from there.
3. Where no such place is found (another qh3), sizes stay as they were made, and that is said once in the log.
"""

from __future__ import annotations

import ctypes
import logging
import struct
from typing import Any

MADE, LESS, MORE = 3001, 2003, 4007  # sizes that nothing else in a core equals
WORD = 8
PLACES: list[int] = []  # what was found: one number, -1 for none


def core(kind: Any) -> Any:
    """A client's core with something to say."""
    made = kind(
        True, 1, ("0.0.0.0", 0), ("127.0.0.1", 1), b"S" * 8, b"D" * 8, True, 8, MADE, False, 60.0, 3, None, None,
        1 << 20, 0, 1 << 18, 0, 0, 0, 1 << 18, 100, 103, 0, 0, 0.333, 0.025, 100.0,
    )  # fmt: skip
    made.send_crypto(0, 0, bytes(20_000))
    return made


def makes(one: Any) -> int:
    """Bytes of its first datagram."""
    return len(one.poll_transmit(100.0)[0])


def search(kind: Any) -> int:
    """Rule 1; -1 when there is none."""
    size = kind.__basicsize__
    held = ctypes.string_at(id(core(kind)), size)
    found = [at for at in range(0, size - WORD + 1, WORD) if struct.unpack_from("@Q", held, at)[0] == MADE]
    for at in found:
        less, more = core(kind), core(kind)
        if all(word(one, at) == MADE for one in (less, more)):
            write(less, at, LESS)
            write(more, at, MORE)
            if LESS * 0.85 < makes(less) <= LESS and MORE * 0.85 < makes(more) <= MORE:
                return at
    return -1


def word(one: Any, at: int) -> int:
    return int.from_bytes(ctypes.string_at(id(one) + at, WORD), "little")


def write(one: Any, at: int, size: int) -> None:
    ctypes.memmove(id(one) + at, size.to_bytes(WORD, "little"), WORD)


def place(kind: Any) -> int:
    """Where cores of this process keep their size, or -1."""
    if not PLACES:
        try:
            PLACES.append(search(kind))
        except Exception as error:
            PLACES.append(-1)
            logging.getLogger("fairlead.error").debug("qh3's core: %s", error)
        if PLACES[0] < 0:
            logging.getLogger("fairlead.error").warning(
                "this qh3 does not let us change the size of its datagrams: no path MTU discovery, listener.quic.datagram holds"
            )
    return PLACES[0]


def resize(one: Any, now: tuple[int, ...], size: int) -> bool:
    """The core that makes datagrams of one of the sizes `now` makes them of `size`. False when it cannot."""
    at = place(type(one))
    if at < 0 or word(one, at) not in now:
        return False
    write(one, at, size)
    return True
