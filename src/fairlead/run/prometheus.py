"""Prometheus text exposition (format 0.0.4) of what the slab holds: seconds, `_total`, classic histograms.

Steps have no route label and routes no step histogram (steps x routes x buckets x workers would explode): a route's
steps are a sum and a count. Bucket bounds are powers of two of 1.024 us, which our own buckets meet exactly.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.histogram import bound
from fairlead.core.journey import STEPS

COUNTERS = (
    ("fairlead_received_bytes_total", "bytes_in", "Request body bytes."),
    ("fairlead_sent_bytes_total", "bytes_out", "Response body bytes."),
    ("fairlead_connections_opened_total", "opened", "Connections accepted."),
    ("fairlead_connections_closed_total", "closed", "Connections closed."),
    ("fairlead_refused_total", "refused", "Requests refused by admission."),
    ("fairlead_queue_full_total", "queue_full", "Requests refused because the queue was full."),
    ("fairlead_queue_late_total", "queue_late", "Requests refused because their time in the queue was over."),
    ("fairlead_shed_total", "shed", "Requests refused because memory was short."),
    ("fairlead_idle_closed_total", "idle_closed", "Idle connections closed because there were too many."),
    ("fairlead_taken_back_total", "taken_back", "Requests taken back from a worker that had not begun them (dispatch)."),
    ("fairlead_repeated_total", "repeated", "Requests given to another worker because theirs died (dispatch)."),
    ("fairlead_bad_requests_total", "bad_requests", "Requests that broke a rule of the protocol."),
    ("fairlead_client_left_total", "client_left", "Requests whose client left before the answer was out (499)."),
    ("fairlead_app_errors_total", "broke", "Exceptions that a handler or application raised."),
    ("fairlead_retries_total", "retries", "Attempts at upstreams beyond the first."),
    ("fairlead_thread_jobs_total", "jobs", "Blocking work given to threads."),
    ("fairlead_thread_refused_total", "jobs_refused", "Requests refused because all threads were busy and the queue full."),
    ("fairlead_stalls_total", "stalls", "Times an event loop stood still for longer than server.stuck."),
    ("fairlead_unstamped_total", "unstamped", "Requests whose arrival in the kernel is not known."),
    ("fairlead_log_lines_lost_total", "log_lost", "Access log lines that could not be written."),
)
NANOSECONDS = (
    ("fairlead_stall_seconds_total", "stall_ns", "Time that event loops stood still in such stalls."),
    ("fairlead_thread_wait_seconds_total", "jobs_waited_ns", "Time that blocking work waited for a thread."),
)
GAUGES = (
    ("fairlead_connections", "open", "Connections open."),
    ("fairlead_requests_queued", "queued", "Requests that wait for admission, or for a worker (dispatch)."),
    ("fairlead_requests_in_flight", "in_flight", "Requests being answered."),
    ("fairlead_threads", "threads", "Threads for blocking work (WSGI, asyncio.to_thread)."),
    ("fairlead_threads_busy", "threads_busy", "Those of them that work."),
    ("fairlead_thread_queue", "threads_waiting", "Blocking work that waits for a thread."),
)
COARSE = range(8 + 8 * 4, 216, 16)  # every second octave from 16 us on


def exposition(seen: Any) -> bytes:
    """The text of /metrics for an Observation."""
    sample = seen.now()
    totals = sample.totals
    out: list[str] = []
    head(out, "fairlead_requests_total", "counter", "Requests answered, by class of status.")
    for kind in ("1xx", "2xx", "3xx", "4xx", "5xx"):
        out.append(f'fairlead_requests_total{{class="{kind}"}} {totals.get("status_" + kind, 0)}')
    out.append(f'fairlead_requests_total{{class="none"}} {totals.get("status_0", 0)}')
    for name, key, text in COUNTERS:
        head(out, name, "counter", text)
        out.append(f"{name} {totals.get(key, 0)}")
    for name, key, text in NANOSECONDS:
        head(out, name, "counter", text)
        out.append(f"{name} {totals.get(key, 0) / 1e9:.9g}")
    for name, key, text in GAUGES:
        head(out, name, "gauge", text)
        out.append(f"{name} {totals.get(key, 0)}")
    head(out, "fairlead_ends_total", "counter", "Requests that ended early, by cause.")
    for name, count in sorted(sample.names.items()):
        out.append(f'fairlead_ends_total{{cause="{escape(name)}"}} {count}')
    sums = sample.step_sums()
    head(out, "fairlead_request_seconds", "histogram", "Whole requests, first byte in the kernel to last byte sent.")
    histogram(out, "fairlead_request_seconds", "", sample.histograms["total"], sums["total"])
    head(out, "fairlead_step_seconds", "histogram", "Time in each step of the journey.")
    for step in STEPS:
        if any(sample.histograms[step]):
            histogram(out, "fairlead_step_seconds", f'step="{step}"', sample.histograms[step], sums[step])
    head(out, "fairlead_loop_lag_seconds", "histogram", "How late event loops come to their timers.")
    histogram(out, "fairlead_loop_lag_seconds", "", sample.histograms["turn"], totals.get("turn_ns", 0))
    add_routes(out, sample.routes)
    add_workers(out, seen)
    add_accept_path(out, seen.status() if seen.status is not None else {})
    return ("\n".join(out) + "\n").encode()


def add_routes(out: list[str], routes: dict[str, dict[str, Any]]) -> None:
    """Per route: requests, errors, and a sum and count per step."""
    used = [(escape(name), route) for name, route in routes.items() if route["requests"]]
    for name, key, text in (
        ("fairlead_route_requests_total", "requests", "Requests by route."),
        ("fairlead_route_errors_total", "errors", "Answers 5xx, and requests that got none, by route."),
    ):
        head(out, name, "counter", text)
        out.extend(f'{name}{{route="{route}"}} {cells[key]}' for route, cells in used)
    head(out, "fairlead_route_step_seconds", "summary", "Time in each step, by route.")
    for route, cells in used:
        for step, (ns, count) in cells["steps"].items():
            label = f'route="{route}",step="{step}"'
            out.append(f"fairlead_route_step_seconds_sum{{{label}}} {ns / 1e9:.9g}")
            out.append(f"fairlead_route_step_seconds_count{{{label}}} {count}")


def add_workers(out: list[str], seen: Any) -> None:
    """Per worker: what it answered, and how unevenly they share."""
    head(out, "fairlead_worker_requests_total", "counter", "Requests answered, by the worker's region of the slab.")
    out.extend(f'fairlead_worker_requests_total{{slot="{one["slot"]}"}} {one["requests"]}' for one in seen.workers())
    skew = seen.skew()
    if skew:
        head(out, "fairlead_worker_skew", "gauge", "Busiest worker's requests over the mean, of late: 1 is even.")
        out.append(f"fairlead_worker_skew {skew['ratio']:g}")


def add_accept_path(out: list[str], status: dict[str, Any]) -> None:
    """Accept queues per address; what the kernel turned away, of the whole network namespace."""
    listeners = [one for one in status.get("listeners", ()) if "queue" in one]
    for name, text, value in (
        ("fairlead_accept_queue", "Connections that wait to be accepted, in the fullest socket.", "depth"),
        ("fairlead_accept_queue_limit", "Most that may wait, per socket.", "limit"),
    ):
        head(out, name, "gauge", text)
        out.extend(f'{name}{{listener="{escape(one["bind"])}"}} {one["queue"][value]}' for one in listeners)
    quic = [one for one in listeners if "udp" in one]
    for name, kind, text, value in (
        ("fairlead_udp_waiting_bytes", "gauge", "Datagrams of HTTP/3 that wait to be read, by address.", "waiting_bytes"),
        ("fairlead_udp_dropped_total", "counter", "Datagrams of HTTP/3 dropped because a socket was full.", "dropped"),
    ):
        if quic:
            head(out, name, kind, text)
            out.extend(f'{name}{{listener="{escape(one["bind"])}"}} {one["udp"][value]}' for one in quic)
    path = status.get("accept_path", {})
    for name, text in (
        ("overflows", "Handshakes that met a full accept queue, in this network namespace since the start."),
        ("drops", "SYNs dropped by listening sockets, in this network namespace since the start."),
        ("cookies", "SYN cookies sent, in this network namespace since the start."),
    ):
        head(out, f"fairlead_accept_{name}_total", "counter", text)
        out.append(f"fairlead_accept_{name}_total {path.get('since_start', {}).get(name, 0)}")
    head(out, "fairlead_foreign_sockets", "gauge", "Listening sockets on our ports that are not ours.")
    out.append(f"fairlead_foreign_sockets {len(path.get('foreign', ()))}")


def head(out: list[str], name: str, kind: str, text: str) -> None:
    """The two comment lines of a metric."""
    out.append(f"# HELP {name} {text}")
    out.append(f"# TYPE {name} {kind}")


def histogram(out: list[str], name: str, label: str, counts: list[int], ns: int) -> None:
    """One histogram's lines."""
    comma = "," if label else ""
    braces = f"{{{label}}}" if label else ""
    for index in COARSE:
        out.append(f'{name}_bucket{{{label}{comma}le="{bound(index) / 1e9:.9g}"}} {sum(counts[:index])}')
    total = sum(counts)
    out.append(f'{name}_bucket{{{label}{comma}le="+Inf"}} {total}')
    out.append(f"{name}_sum{braces} {ns / 1e9:.9g}")
    out.append(f"{name}_count{braces} {total}")


def escape(text: str) -> str:
    """A label's value."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
