"""From the configuration of proxies and upstreams to what `serve` takes: nanoseconds, bytes, pairs. Pure, but for
file times.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairlead.run import config as c

if TYPE_CHECKING:
    from fairlead.serve.proxy import Options
    from fairlead.serve.upstream import Settings


def fields(rewrite: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """Header fields of a Rewrite as pairs of bytes, names in lower case."""
    return tuple((name.lower().encode(), value.encode()) for name, value in rewrite.items())


def proxy_options(given: c.Proxy, request_id: str) -> Options:
    """The options of one proxy route."""
    from fairlead.serve.proxy import Options

    return Options(
        host=given.host,
        strip=given.strip,
        request_id=request_id,
        retries=given.retry.times,
        retry_budget=given.retry.budget,
        half_close=c.nanoseconds(given.half_close),
        set_request=fields(given.request.set),
        add_request=fields(given.request.add),
        remove_request=tuple(name.lower().encode() for name in given.request.remove),
        set_response=fields(given.response.set),
        add_response=fields(given.response.add),
        remove_response=tuple(name.lower().encode() for name in given.response.remove),
    )


def servers_of(given: c.Upstream) -> list[Any]:
    """(address, weight, backup) of each server, as Upstream takes them."""
    return [
        (one.address.path if one.address.is_unix else (one.address.host, one.address.port), one.weight, one.backup)
        for one in given.servers
    ]


def upstream_settings(given: c.Upstream, workers: int) -> Settings:
    """The settings of one upstream in the units of the hot path; limits in all workers together are shared out."""
    from fairlead.net.dial import Options as SocketOptions
    from fairlead.serve.upstream import Settings

    ns, times, sock = c.nanoseconds, given.timeouts, given.socket
    return Settings(
        balance=given.balance,
        dial=ns(times.dial),
        head=ns(times.head),
        idle=ns(times.idle),
        total=ns(times.total),
        warm=given.pool.warm,
        most=given.pool.max,
        keep=ns(given.pool.idle),
        requests=-(-given.limits.requests // workers) if given.limits.requests else 0,
        queue=-(-given.limits.queue // workers),
        queue_wait=ns(given.limits.queue_wait),
        eject_errors=given.eject.errors,
        eject_rest=ns(given.eject.for_),
        eject_most=given.eject.most,
        answer_head=given.limits.head,
        answer_headers=given.limits.headers,
        streams=1 if given.protocol == "h1" else 100,
        server_name=given.tls.name if given.tls is not None else "",
        sticky=given.sticky.cookie if given.sticky is not None else "",
        sticky_keep=round(given.sticky.keep) if given.sticky is not None and given.sticky.keep is not None else -1,
        socket=SocketOptions(sock.nodelay, sock.keepalive, sock.congestion, sock.rcvbuf, sock.sndbuf, sock.fastopen),
    )


def client_tls(settings: c.UpstreamTls, alpn: tuple[str, ...] = ("http/1.1",)) -> Any:
    """TLS towards an upstream, offering `alpn`; for HTTP/3, QUIC towards it."""
    if "h3" in alpn:
        from fairlead.net.quicdial import QuicClient

        return QuicClient(settings)
    from fairlead.net.tls import ClientTls

    return ClientTls(settings, alpn=alpn)


def file_times(settings: c.UpstreamTls) -> tuple[int, ...]:
    """When the files of an upstream's TLS were written: a reload reads them again when they changed."""
    paths = (settings.ca, settings.certificate, settings.key)
    return tuple(os.stat(path).st_mtime_ns for path in paths if path and os.path.exists(path))
