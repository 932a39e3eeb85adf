# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# mypy: disable-error-code="attr-defined"
"""Writer: one finished request as one record of the slab, in the layout that core.slab tells. The lower half of the Recorder.

Rules
1. Word 0 of a record, its number, is written last; word 1 is the XOR of the number and of all that says something (see core.slab,
   rule 3). So a reader in another process knows a whole record from a torn one.
2. Texts are cut to what the layout has for them. Nothing that is written is kept alive.
3. Bounds are not checked when compiled: every index comes from the layout and a number that was clamped.
"""

from __future__ import annotations

from fairlead.core.handler import Observer
from fairlead.core.slab import CUSTOM_MOST

COMPILED = not __file__.endswith(".py")


class Writer(Observer):
    """See the module. `offset`: from the monotonic clock to the wall's, ns. `route_numbers`: what a route is in the region."""

    def __init__(self, region):
        self.region = region
        if COMPILED:  # bare pointers (see the .pxd): `region` holds the memory
            self.cells = words_of(region.words)  # type: ignore[name-defined]  # noqa: F821
            self.raw = octets_of(region.bytes)  # type: ignore[name-defined]  # noqa: F821
        else:
            setattr(self, "cells", region.words)  # noqa: B010 (compiled, this would not be a pointer)
            setattr(self, "raw", region.bytes)  # noqa: B010
        self.offset = 0
        self.route_numbers = []
        self.methods = {}
        self.last_text = self.other_text = ""
        self.last_bytes = self.other_bytes = b""

    def write(self, at, exchange, j, status, found, peer, end, number):
        """One record at word `at`: see core.slab. Word 0, its number, is written last."""
        request = exchange.request
        cells = self.cells
        raw = self.raw
        cells[at] = 0
        cells[at + 2] = self.offset + (j.arrived or j.woken or j.read or j.parsed)
        cells[at + 3] = j.bytes_in
        cells[at + 4] = j.bytes_out
        route = self.route_numbers[found] if found >= 0 else 0
        flags = (
            j.shared + 2 * (1 if j.decrypted or j.encrypted else 0) + 4 * exchange.tunnel + 8 * (1 if j.accepted else 0)
        )
        if j.net is not None:
            flags += 16
        attempts = j.attempts if j.attempts < 256 else 255
        quality = j.arrived_quality  # as 64 bits: a C int would be shifted out
        cells[at + 5] = status + (route << 16) + (quality << 32) + (flags << 40) + (attempts << 48)
        self.write_points(at + 8, j)
        method = self.known_bytes(request.method)
        version = self.known_bytes(request.version)
        start = text = (at + 43) * 8
        n_id = put(raw, text, exchange.tag, exchange.tag, 48)
        text += n_id
        n_method = put(raw, text, method, method, 12)
        text += n_method
        n_target = put(raw, text, request.target, request.target, 128)
        text += n_target
        n_host = put(raw, text, request.authority, request.authority, 48)
        text += n_host
        n_peer = put(raw, text, peer, peer, 56)
        text += n_peer
        n_end = put(raw, text, end, end, 24)
        text += n_end
        n_version = put(raw, text, version, version, 4)
        text += n_version
        lengths = n_id + (n_method << 8) + (n_target << 16) + (n_host << 32)
        cells[at + 6] = lengths + (n_peer << 40) + (n_end << 48) + (n_version << 56)
        custom = 0
        if j.custom is not None:
            custom = self.write_custom(at + 83, j.custom)
        cells[at + 7] = custom
        check = number
        for i in range(at + 2, at + 43 + (text - start + 7) // 8):
            check ^= cells[i]
        for i in range(at + 83, at + 83 + custom * 5):
            check ^= cells[i]
        if j.net is not None:
            self.write_net(at + 123, j.net)
            for i in range(at + 123, at + 128):
                check ^= cells[i]
        cells[at + 1] = check
        cells[at] = number

    def write_points(self, at, j):
        """The points, then the spends, in the order of POINTS and SPENDS."""
        cells = self.cells
        cells[at] = j.connected
        cells[at + 1] = j.accepted
        cells[at + 2] = j.secured
        cells[at + 3] = j.arrived
        cells[at + 4] = j.woken
        cells[at + 5] = j.read
        cells[at + 6] = j.decrypted
        cells[at + 7] = j.parsed
        cells[at + 8] = j.body_end
        cells[at + 9] = j.queued
        cells[at + 10] = j.routed
        cells[at + 11] = j.started
        cells[at + 12] = j.picked
        cells[at + 13] = j.dialed
        cells[at + 14] = j.leg_sent
        cells[at + 15] = j.leg_head
        cells[at + 16] = j.leg_end
        cells[at + 17] = j.answered
        cells[at + 18] = j.finished
        cells[at + 19] = j.encoded
        cells[at + 20] = j.encrypted
        cells[at + 21] = j.sent
        cells[at + 22] = j.acked
        cells[at + 23] = j.done
        cells[at + 24] = j.spent_loop
        cells[at + 25] = j.spent_read
        cells[at + 26] = j.spent_decrypt
        cells[at + 27] = j.spent_parse
        cells[at + 28] = j.spent_decode
        cells[at + 29] = j.spent_pool
        cells[at + 30] = j.spent_dial
        cells[at + 31] = j.spent_encode
        cells[at + 32] = j.spent_encrypt
        cells[at + 33] = j.spent_send
        cells[at + 34] = j.spent_client

    def write_custom(self, at, custom):
        """The application's own steps; how many fitted."""
        count = 0
        for name, start, duration in custom:
            if count == CUSTOM_MOST:
                break
            self.cells[at] = start
            self.cells[at + 1] = duration
            self.region.write_text(at + 2, 24, str(name).encode("utf-8", "replace"))
            at += 5
            count += 1
        return count

    def write_net(self, at, net):
        """What the kernel told of the socket."""
        for i in range(5):
            self.cells[at + i] = net[i]

    def known_bytes(self, text):
        """The bytes of a method or version; the usual ones are remembered, the last two found by identity."""
        if text is self.last_text:
            return self.last_bytes
        if text is self.other_text:
            return self.other_bytes
        found = self.methods.get(text)
        if found is None:
            found = text.encode("utf-8", "replace")
            if len(self.methods) < 64:
                self.methods[text] = found
        self.other_text, self.other_bytes = self.last_text, self.last_bytes
        self.last_text, self.last_bytes = text, found
        return found


def put(raw, at, data, d, most):
    """Copy at most `most` bytes to byte `at` of a region's memory; how many it were. `d` is `data` again, a pointer."""
    count = len(data)
    if count > most:
        count = most
    if COMPILED:
        copy_octets(raw, at, d, count)  # type: ignore[name-defined]  # noqa: F821 (in lines.pxd)
        return count
    for i in range(count):
        raw[at + i] = d[i]
    return count
