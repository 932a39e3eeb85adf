"""The slab: one shared-memory segment in which every worker counts and remembers, and which the master only reads.

Rules
1. Every cell is 8 bytes, aligned, and has exactly one writer: the worker of its region. Readers add over the regions.
   There is no lock and no read-modify-write between processes.
2. Counters only grow; a region that a new worker takes over goes on counting. Gauges (open connections, in flight)
   start at nought when a region is claimed.
3. A record (one request) carries a number and a check word: the XOR of the number and all words that say something. A
   reader copies the record and believes it only when the check fits, so a torn copy is refused on every CPU, without
   barriers. Number 0 is "empty or being written".
4. The header names what is where, as JSON: a reader finds cells by name, and refuses a segment whose magic it does
   not know.
5. Memory is charged when touched: slots never used cost address space only.
6. Claim words are the exception to rule 1: a front writes one, then front and worker compare and swap it, atomically
   (`_fast.Words`). Each link has its own: a worker's region holds them by the region of the front. The words of rate
   limits (serve/filters/limits) and of QUIC (net/quicshare) behind all regions are the other exceptions.

The segment is a memfd (Linux), elsewhere an unlinked temporary file; either way a descriptor that workers inherit.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import struct
from time import time_ns

from fairlead.core.histogram import BUCKETS
from fairlead.core.journey import POINTS, SPENDS, STEPS

MAGIC = int.from_bytes(b"FAIRSLAB", "little")
VERSION = 1
HEADER = 8192  # bytes: six words, then the layout as JSON
PAGE = 4096
QUIC = 12 + 2 * 32768 + 4096 * 64 + 16384  # words: what workers share for QUIC (net/quicshare)
TALLY = 8192  # names counted in a region (core/tally)
RATES = 2 * 65536  # words: a key and a time for each client that a rate limit remembers, in all workers together

TOTALS = (
    "pid", "epoch", "claimed", "heartbeat", "requests", "status_0", "status_1xx", "status_2xx", "status_3xx",
    "status_4xx", "status_5xx", "bytes_in", "bytes_out", "opened", "closed", "open", "in_flight", "refused",
    "bad_requests", "client_left", "broke", "unstamped", "clamped", "turns", "turn_ns", "turn_max",
    "tls_requests", "first_requests", "log_lines", "log_lost", "running", "draining", "tunnels", "slow",
    "process_ns", "total_ns", "retries", "taken", "stalled", "stalls", "stall_ns",
    "hopped", "queued", "queue_most", "queue_full", "queue_late", "taken_back", "repeated", "shed", "idle_closed", "admitted",
    "threads", "threads_busy", "threads_waiting", "jobs", "jobs_waited_ns", "jobs_refused",
    "looked", "window_us", "sndbuf_us", "retransmits", "following",
)  # fmt: skip
GAUGES = (
    "open", "in_flight", "admitted", "queued", "running", "draining", "turn_max", "stalled",
    "threads", "threads_busy", "threads_waiting", "following",
)  # fmt: skip
HISTOGRAMS = STEPS + ("total", "turn")
ROUTE_CELLS = ("requests", "errors", "bytes_out", "step_ns", "step_count")  # the last two once per step and total
NAME_BYTES = 32  # of a counted end cause
ROUTE_BYTES = 64  # of a route's name
RECORD_WORDS = 128
TEXT_AT = 43  # 8 head words, 24 points, 11 spends
TEXT_BYTES = 320
CUSTOM_AT = 83
CUSTOM_WORDS = 5  # start, duration, 24 bytes of name
CUSTOM_MOST = 8
NET_AT = 123  # what the kernel told of the socket, when it was asked
NET = ("window_us", "sndbuf_us", "rtt_us", "unacked", "retransmits")
TEXTS = (("id", 48), ("method", 12), ("target", 128), ("host", 48), ("peer", 56), ("end", 24), ("version", 4))


def layout(keep, routes, slow, running, names, claims):
    """Where everything is in a region: {name: word offset}, plus the sizes, as it stands in the header."""
    steps = len(STEPS) + 1
    sizes = (
        ("totals", 64),
        ("names", names * (1 + NAME_BYTES // 8)),
        ("route_names", routes * (ROUTE_BYTES // 8)),
        ("route_cells", routes * (3 + 2 * steps)),
        ("route_totals", routes * BUCKETS),
        ("histograms", len(HISTOGRAMS) * BUCKETS),
        ("ring", keep * RECORD_WORDS),
        ("slow", slow * RECORD_WORDS),
        ("running", running * RECORD_WORDS),
        ("claims", claims),
        ("tally", 2 * TALLY),
    )
    at, offsets = 0, {}
    for name, words in sizes:
        offsets[name] = at
        at += words
    at += -at % (PAGE // 8)
    return {
        "version": VERSION, "region": at, "offsets": offsets, "keep": keep, "routes": routes, "slow": slow,
        "running": running, "names": names, "claims": claims, "buckets": BUCKETS, "totals": TOTALS, "histograms": HISTOGRAMS,
        "points": POINTS, "spends": SPENDS,
        "texts": TEXTS, "record": RECORD_WORDS, "text_at": TEXT_AT, "custom_at": CUSTOM_AT, "rates": RATES, "quic": QUIC,
        "tally": TALLY,
    }  # fmt: skip


class Slab:
    """The whole segment: `create` in the master, `attach` in whoever inherited `fd`; `region(i)` is one worker's."""

    def __init__(self, fd, memory, slots, plan, created):
        self.fd = fd
        self.memory = memory
        self.slots = slots
        self.layout = plan
        self.created = created
        self.view = memoryview(memory)

    @classmethod
    def create(cls, slots, *, keep=256, routes=64, slow=32, running=16, names=64, claims=0):
        """A new segment for `slots` workers. `keep` is the number of requests remembered per worker, `claims` of words
        that a worker and fronts swap (rule 6).
        """
        plan = layout(max(keep, 1), routes, slow, running, names, claims)
        text = json.dumps(plan).encode()
        created = time_ns()
        size = HEADER + (slots * plan["region"] + RATES + QUIC) * 8
        fd = anonymous_file()
        os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
        secret = size - QUIC * 8  # QUIC's keys: ours, that of the server before us (none), and the one that both have
        memory[secret : secret + 96] = secrets.token_bytes(32) + bytes(32) + secrets.token_bytes(32)
        memory[: 48 + len(text)] = struct.pack("<6q", MAGIC, VERSION, slots, plan["region"], created, len(text)) + text
        return cls(fd, memory, slots, plan, created)

    @classmethod
    def attach(cls, fd):
        """The segment behind an inherited descriptor. Raises ValueError when it is not one we can read."""
        head = os.pread(fd, HEADER, 0)
        if len(head) < HEADER:
            raise ValueError("this descriptor is no Fairlead slab: it is too short")
        magic, version, slots, region, created, size = struct.unpack_from("<6q", head)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"this descriptor is no Fairlead slab of version {VERSION}")
        plan = json.loads(head[48 : 48 + size])
        return cls(fd, mmap.mmap(fd, HEADER + (slots * region + plan["rates"] + plan["quic"]) * 8), slots, plan, created)

    def region(self, index):
        """The region of one worker; only that worker may write to it."""
        if not 0 <= index < self.slots:
            raise IndexError(f"the slab has {self.slots} regions, there is no number {index}")
        size = self.layout["region"] * 8
        start = HEADER + index * size
        return Region(index, self.view[start : start + size], self.layout)

    def rates(self):
        """The words behind the regions in which all workers together count rates (rule 6)."""
        start = HEADER + self.slots * self.layout["region"] * 8
        return self.view[start : start + self.layout["rates"] * 8]

    def quic(self):
        """The words behind those that workers share for QUIC (rule 6)."""
        start = HEADER + (self.slots * self.layout["region"] + self.layout["rates"]) * 8
        return self.view[start : start + self.layout["quic"] * 8]

    def regions(self):
        """All regions that a worker has ever claimed."""
        found = [self.region(index) for index in range(self.slots)]
        return [region for region in found if region.get("epoch")]

    def close(self):
        """Close the descriptor. The memory itself goes when the last view of it does."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Region:
    """One worker's part. `words` are its cells, `bytes` the same memory, `offsets` says where each part begins."""

    def __init__(self, index, view, plan):
        self.index = index
        self.layout = plan
        self.offsets = plan["offsets"]
        self.words = view.cast("q")
        self.cells = self.words
        self.raw = view
        self.bytes = view

    def claim(self, pid, wall, now):
        """A worker starts to write here: gauges start at nought, `epoch` counts the owners."""
        for name in GAUGES:
            self.set(name, 0)
        self.set("pid", pid)
        self.set("claimed", wall)
        self.set("heartbeat", now)
        self.set("epoch", self.get("epoch") + 1)

    def slot(self, name):
        """The word of a named total."""
        return TOTALS.index(name)

    def get(self, name):
        """One total by name."""
        return self.words[self.slot(name)]

    def set(self, name, value):
        """Write one total (its worker only)."""
        self.words[self.slot(name)] = value

    def totals(self):
        """{name: value} of all totals."""
        return dict(zip(TOTALS, self.words[: len(TOTALS)].tolist()))

    def histogram(self, name):
        """The counts of one step (or "total", "turn"), as a list."""
        start = self.offsets["histograms"] + HISTOGRAMS.index(name) * BUCKETS
        return self.words[start : start + BUCKETS].tolist()

    def text(self, word, size):
        """NUL-padded bytes at a word, decoded."""
        raw = bytes(self.bytes[word * 8 : word * 8 + size])
        return raw.split(b"\0", 1)[0].decode("utf-8", "replace")

    def write_text(self, word, size, data):
        """Write NUL-padded bytes at a word."""
        self.bytes[word * 8 : word * 8 + size] = data[:size].ljust(size, b"\0")

    def names(self):
        """{end cause: count}."""
        width = 1 + NAME_BYTES // 8
        found = {}
        for i in range(self.layout["names"]):
            at = self.offsets["names"] + i * width
            if self.words[at]:
                found[self.text(at + 1, NAME_BYTES)] = self.words[at]
        return found

    def route_name(self, i):
        """The name of route number `i`, "" when the number is not used."""
        return self.text(self.offsets["route_names"] + i * (ROUTE_BYTES // 8), ROUTE_BYTES)

    def route(self, i):
        """What one route counted: requests, errors, bytes_out, {step: (ns, count)} and the histogram of its totals."""
        width = 3 + 2 * (len(STEPS) + 1)
        at = self.offsets["route_cells"] + i * width
        cells = self.words[at : at + width].tolist()
        steps = {n: (cells[3 + 2 * k], cells[4 + 2 * k]) for k, n in enumerate(STEPS + ("total",)) if cells[4 + 2 * k]}
        start = self.offsets["route_totals"] + i * BUCKETS
        return {
            "requests": cells[0], "errors": cells[1], "bytes_out": cells[2], "steps": steps,
            "counts": self.words[start : start + BUCKETS].tolist(),
        }  # fmt: skip

    def claims(self):
        """The bytes of the claim words."""
        start = self.offsets["claims"] * 8
        return self.bytes[start : start + self.layout["claims"] * 8]

    def records(self, part, most=0):
        """The believable records of "ring", "slow" or "running", newest first, as dicts; `most` of them, 0 for all."""
        start, count = self.offsets[part], self.layout["keep" if part == "ring" else part]
        numbers = self.words[start : start + count * RECORD_WORDS : RECORD_WORDS].tolist()
        places = sorted(((number, i) for i, number in enumerate(numbers) if number), reverse=True)
        found = [self.record(start + i * RECORD_WORDS) for _, i in (places[:most] if most else places)]
        return [record for record in found if record is not None]

    def record(self, at):
        """The record at word `at`, or None."""
        record = read_record(bytes(self.bytes[at * 8 : (at + RECORD_WORDS) * 8]))
        if record is not None:
            record["worker"] = self.index
            if not record["id"]:
                record["id"] = f"{self.index}.{record['number']:x}"
        return record


def read_record(raw):
    """One record from its bytes, or None when it is empty or torn."""
    words = struct.unpack(f"<{RECORD_WORDS}q", raw)
    number, check = words[0], words[1]
    lengths = [(words[6] >> shift) & mask for shift, mask in LENGTHS]
    used = TEXT_AT + (sum(lengths) + 7) // 8
    custom = words[7]
    if number == 0 or used > CUSTOM_AT or not 0 <= custom <= CUSTOM_MOST:
        return None
    for word in words[2:used] + words[CUSTOM_AT : CUSTOM_AT + custom * CUSTOM_WORDS]:
        number ^= word
    looked = words[5] >> 44 & 1
    for word in words[NET_AT : NET_AT + len(NET)] if looked else ():
        number ^= word
    if number != check:
        return None
    record = dict(zip(POINTS, words[8:32]))
    record.update(zip(SPENDS, words[32:43]))
    record.update(number=words[0], wall=words[2], bytes_in=words[3], bytes_out=words[4], **unpack(words[5]))
    at = TEXT_AT * 8
    for (name, _), length in zip(TEXTS, lengths):
        record[name] = raw[at : at + length].decode("utf-8", "replace")
        at += length
    record["net"] = dict(zip(NET, words[NET_AT:])) if looked else None
    record["custom"] = [read_custom(raw, words, CUSTOM_AT + i * CUSTOM_WORDS) for i in range(custom)]
    return record


LENGTHS = ((0, 255), (8, 255), (16, 65535), (32, 255), (40, 255), (48, 255), (56, 127))


def unpack(word):
    """The small fields that share one word of a record."""
    shared, tls, tunnel, first = [bool(word >> bit & 1) for bit in (40, 41, 42, 43)]
    return {
        "status": word & 0xFFFF, "route": word >> 16 & 0xFFFF, "arrived_quality": word >> 32 & 0xFF, "shared": shared,
        "tls": tls, "tunnel": tunnel, "first": first, "attempts": word >> 48 & 0xFF,
    }  # fmt: skip


def read_custom(raw, words, at):
    name = raw[(at + 2) * 8 : (at + CUSTOM_WORDS) * 8].split(b"\0", 1)[0].decode("utf-8", "replace")
    return name, words[at], words[at + 1]


def anonymous_file():
    """A descriptor of memory that has no name: memfd where there is one, else an unlinked file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fairlead-slab")
    import tempfile

    fd, path = tempfile.mkstemp(prefix="fairlead-slab-")
    os.unlink(path)
    return fd
