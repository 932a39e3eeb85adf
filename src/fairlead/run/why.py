"""Why one request took as long as it did: a record of the slab as pieces on a time axis, and a sentence.

Rules
1. The axis begins at the request's own first moment; accept and TLS of its connection, when it was the first on it,
   stand directly before, whatever idle time lay between them. Offsets and durations are microseconds.
2. A piece is a step of the interface at the place where its points say it was. Spends that came in several portions
   (a body read bit by bit) are drawn as one piece that ends at the last one's point. What no step explains is
   "unknown", never stretched.
3. Waiting (for a queue, a loop, a peer) is told apart from working: the first is made shorter elsewhere.
4. The steps have the same names for every version of HTTP. What some of them are over QUIC is said beside them (`QUIC`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fairlead.core.journey import POINTS, QUALITY, STEPS

GROUPS = {
    "before": ("accept", "tls", "buffer", "loop", "read", "decrypt", "parse", "decode", "queue"),
    "app": ("process", "pool", "dial", "upstream"),
    "after": ("encode", "encrypt", "send", "client"),
}
WAITING = frozenset(("accept", "buffer", "loop", "queue", "pool", "dial", "client"))
MEANING = {
    "accept": "its connection waiting to be accepted",
    "tls": "the TLS handshake",
    "buffer": "the kernel's receive buffer, before we came to read it",
    "loop": "waiting for its turn in a busy event loop",
    "read": "reading it from the socket",
    "decrypt": "decrypting",
    "parse": "parsing",
    "decode": "decoding its body",
    "queue": "waiting for a worker or thread",
    "process": "the application",
    "pool": "waiting for a connection to the upstream",
    "dial": "connecting to the upstream",
    "upstream": "waiting for the upstream's answer",
    "encode": "encoding the answer",
    "encrypt": "encrypting the answer",
    "send": "handing the answer to the kernel",
    "client": "the client, which read its answer slowly",
    "unknown": "something that no step explains",
}
QUIC = {  # (in two words, in a sentence): what these steps are over HTTP/3
    "accept": ("first datagram", "its connection's first datagram, waiting to be read"),
    "tls": ("handshake", "the QUIC handshake, with TLS inside"),
    "buffer": ("datagram", "its datagram in the kernel's receive buffer, before we came to read it"),
    "client": ("stream waits", "its stream waiting for the client's credit or for the path, which takes so much at a time"),
}
ADVICE = {
    "accept": "more workers, or less work per turn of the loop",
    "tls": "keep-alive and session resumption, or an ECDSA certificate",
    "buffer": "find what kept the worker's event loop busy",
    "loop": "find what kept the worker's event loop busy",
    "queue": "more threads or workers for this route",
    "process": "time its parts with journey.step(), or look with: py-spy dump --pid {pid}",
    "pool": "a larger pool.max for this upstream, or a faster upstream",
    "dial": "a warm pool (pool.warm), or keep-alive at the upstream",
    "upstream": "look at the upstream's own times; it took as long as it says",
    "client": "nothing here is slow: the client or its network is",
    "encode": "a smaller answer",
    "encrypt": "a smaller answer",
    "send": "a smaller answer",
}


def known(record: dict[str, Any], *names: str) -> int:
    """The first of these points that is set."""
    return next((record[name] for name in names if record.get(name)), 0)


def timeline(record: dict[str, Any], now: int = 0) -> tuple[int, int, list[tuple[str, int, int]]]:
    """(zero, total, pieces) of a record, in ns: `zero` is the axis' zero (monotonic), pieces (step, start, length).

    `now` ends what is still running.
    """
    accept = max(0, record["accepted"] - record["connected"]) if record["connected"] and record["accepted"] else 0
    tls = max(0, record["secured"] - record["accepted"]) if record["secured"] and record["accepted"] else 0
    base = known(record, "arrived", "woken", "read", "parsed", "connected")
    zero = base - accept - tls
    end = known(record, "done") or now or known(record, "sent", "finished", "answered", "started", "parsed")
    spans = [("accept", zero, zero + accept), ("tls", base - tls, base), *spans_before(record), *spans_app(record, end)]
    spans += spans_after(record)
    pieces = [(name, max(0, a - zero), min(b, end) - max(a, zero)) for name, a, b in spans if b > a]
    return zero, max(0, end - zero), [piece for piece in pieces if piece[2] > 0]


def spans_before(r: dict[str, Any]) -> list[tuple[str, int, int]]:
    """The steps up to the hand-over, as (step, begin, end)."""
    begin = r["woken"] + r["spent_loop"] if r["woken"] else 0
    found = [("buffer", r["arrived"], r["woken"])] if r["arrived"] and r["woken"] else []
    if r["woken"]:
        found.append(("loop", r["woken"], begin))
    for step, point in (("read", "read"), ("decrypt", "decrypted"), ("parse", "parsed")):
        if r[point]:
            found.append((step, max(begin, r[point] - r["spent_" + step]), r[point]))
            begin = max(begin, r[point])
    if r["started"] and r["routed"]:
        found.append(("queue", r["routed"], r["started"]))
    return found


def spans_app(r: dict[str, Any], end: int) -> list[tuple[str, int, int]]:
    """The application, or the upstream."""
    found = []
    if r["started"]:
        found.append(("process", r["started"], r["finished"] or end))
        if r["queued"] == r["started"] and r["spent_decode"]:  # inside of it, wherever (core.journey, rule 6)
            found.append(("decode", r["started"], r["started"] + r["spent_decode"]))
    if r["spent_pool"]:
        at = known(r, "picked", "routed", "parsed")
        found.append(("pool", at, at + r["spent_pool"]))
    if r["spent_dial"]:
        at = known(r, "dialed") or known(r, "picked", "routed") + r["spent_pool"] + r["spent_dial"]
        found.append(("dial", at - r["spent_dial"], at))
    if r["leg_sent"]:
        found.append(("upstream", r["leg_sent"], known(r, "leg_end") or known(r, "finished") or end))
    return found


def spans_after(r: dict[str, Any]) -> list[tuple[str, int, int]]:
    """What came after the application's or the upstream's last word."""
    found = []
    for step, point in (("encode", "encoded"), ("encrypt", "encrypted")):
        if r[point] and r["spent_" + step]:
            found.append((step, r[point] - r["spent_" + step], r[point]))
    if r["sent"]:
        begin = r["sent"] - r["spent_send"]
        found.append(("send", begin, r["sent"]))
        if r["spent_client"]:
            found.append(("client", begin - r["spent_client"], begin))
    return found


def unexplained(total: int, pieces: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The gaps that no piece covers and that are worth showing: over 2 us and over 1 % of the whole."""
    gaps, at = [], 0
    for _, start, length in sorted(pieces, key=lambda p: p[1]):
        gaps.append(("unknown", at, start - at))
        at = max(at, start + length)
    gaps.append(("unknown", at, total - at))
    return [gap for gap in gaps if gap[2] > 2000 and gap[2] * 100 > total]


def own_time(record: dict[str, Any], pieces: list[tuple[str, int, int]]) -> dict[str, int]:
    """Nanoseconds per step; the application's without what it waited for our socket and the client."""
    times: dict[str, int] = {}
    for name, _, length in pieces:
        times[name] = times.get(name, 0) + length
    for name in ("read", "decrypt", "parse", "decode", "encode", "encrypt", "send", "client"):
        if record["spent_" + name]:
            times[name] = record["spent_" + name]
    taken = record["spent_client"]
    if record["finished"] > record["answered"] > 0:
        taken += record["spent_encode"] + record["spent_encrypt"] + record["spent_send"]
    if record["queued"] == record["started"]:
        taken += record["spent_decode"]
    if "process" in times:
        times["process"] = max(0, times["process"] - taken)
    if "upstream" in times:
        times["upstream"] = max(0, times["upstream"] - record["spent_client"])
    return times


def quality(record: dict[str, Any], step: str) -> str:
    """How well a step's time is known, in words (see core.journey)."""
    if step == "accept":
        return "exact" if record["version"] == "3" else "jiffy"  # a datagram has a stamp, a connection in a queue has an age
    if step == "buffer":
        return QUALITY[min(record["arrived_quality"], len(QUALITY) - 1)]
    if step == "unknown":
        return "unknown"
    return "shared" if record["shared"] and step in ("read", "decrypt", "parse", "encrypt", "send") else "exact"


def micros(ns: int) -> float:
    """Nanoseconds as microseconds, rounded to what is worth showing."""
    return round(ns / 1000, 1)


def human(ns: float) -> str:
    """A duration for people: three digits and a unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            value = ns / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{ns:.0f} ns"


def row(record: dict[str, Any], routes: dict[tuple[int, int], str], now: int = 0) -> dict[str, Any]:
    """A record as one line of the page: what identifies it, and its pieces as [step, start us, length us]."""
    _, total, pieces = timeline(record, now)
    return {
        "id": record["id"],
        "time": stamp(record["wall"]),
        "method": record["method"],
        "target": record["target"],
        "status": record["status"],
        "route": routes.get((record["worker"], record["route"]), ""),
        "worker": record["worker"],
        "total_us": micros(total),
        "end": record["end"],
        "tls": record["tls"],
        "version": record["version"],
        "pieces": [
            [name, micros(start), micros(length)] for name, start, length in pieces + unexplained(total, pieces)
        ],
    }


def why(record: dict[str, Any], routes: dict[tuple[int, int], str], pid: int = 0, now: int = 0) -> dict[str, Any]:
    """A record in full: every point, step, quality, the application's own steps, and the sentence that says why."""
    zero, total, pieces = timeline(record, now)
    base = known(record, "arrived", "woken", "read", "parsed", "connected")
    times = own_time(record, pieces + unexplained(total, pieces))
    over = QUIC if record["version"] == "3" else {}
    steps = [
        {
            "name": n,
            "us": micros(times[n]),
            "share": round(times[n] / total, 4) if total else 0,
            "quality": quality(record, n),
            "is": MEANING[n] if n not in over else over[n][1],
            "also": "" if n not in over else over[n][0],
        }
        for n in (*STEPS, "unknown")
        if times.get(n)
    ]
    sentence, advice = explain(record, times, total, pid)
    found = row(record, routes, now)
    found.update(
        host=record["host"],
        client=record["peer"],
        protocol="HTTP/" + record["version"] + (" over QUIC" if over else " over TLS" if record["tls"] else ""),
        bytes_in=record["bytes_in"],
        bytes_out=record["bytes_out"],
        attempts=record["attempts"],
        first=record["first"],
        tunnel=record["tunnel"],
        steps=steps,
        points={name: micros(record[name] - zero) for name in POINTS if record[name] >= base},
        custom=[{"name": n, "start_us": micros(s - zero), "us": micros(d)} for n, s, d in record["custom"]],
        sentence=sentence,
        advice=advice,
        socket=record.get("net"),
    )
    return found


def explain(record: dict[str, Any], times: dict[str, int], total: int, pid: int = 0) -> tuple[str, str]:
    """(what took the time, what to do about it)."""
    if not times or not total:
        return "Its times are not known.", ""
    step = max(times, key=lambda name: times[name])
    share = min(1.0, times[step] / total)
    part = "nearly all of it" if share > 0.99 else f"{human(times[step])} of it ({share:.0%})"
    quic = record["version"] == "3"
    meaning = QUIC[step][1] if quic and step in QUIC else MEANING[step]
    sentence = f"{human(total)}, {part} in {step}: {meaning}."
    own = max(record["custom"], key=lambda c: c[2], default=None) if step == "process" else None
    own = own if own and own[2] * 2 > times[step] else None
    if own:
        sentence += f" Most of that was its own step “{own[0]}” ({human(own[2])})."
    if record.get("net") and step in ("client", "send"):
        sentence += socket_words(record["net"], "packets were lost" if quic else "segments were sent again")
    if record["attempts"] > 1:
        sentence += f" It took {record['attempts']} attempts at upstreams."
    if record["end"]:
        sentence += f" It ended early: {record['end']}."
    elif record["status"] >= 500:
        sentence += f" It was answered with {record['status']}."
    if times[step] < 1_000_000:
        return sentence, ""
    if own:
        return sentence, f"look into “{own[0]}”"
    return sentence, ADVICE.get(step, "").format(pid=pid or "PID")


def socket_words(net: dict[str, int], again: str = "segments were sent again") -> str:
    """What the kernel told of a socket, or the engine of a QUIC connection, as sentences."""
    said = ""
    if net["window_us"]:
        said += f" The client's receive window was full for {human(net['window_us'] * 1000)} of that."
    if net["sndbuf_us"]:
        said += f" Our send buffer was full for {human(net['sndbuf_us'] * 1000)}."
    if net["retransmits"]:
        said += f" {net['retransmits']} {again}."
    return said + f" The round trip is {human(net['rtt_us'] * 1000)}."


def stamp(wall: int) -> str:
    """Realtime ns as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(wall / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
