"""From the configuration of filters and files to the objects of `serve`. Reads secrets and the files that filters name.

Each maker imports what it makes: a server that uses none of it does not load it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import AppError, ConfigError
from fairlead.run import answers as a
from fairlead.run.proxying import fields
from fairlead.run.units import BadValue

if TYPE_CHECKING:
    from fairlead.serve.files import Files
    from fairlead.serve.filters.accel import Accel
    from fairlead.serve.filters.access import Basic, Networks
    from fairlead.serve.filters.compress import Compress
    from fairlead.serve.filters.cors import Cors
    from fairlead.serve.filters.decompress import Decompress
    from fairlead.serve.filters.fields import Headers, Security
    from fairlead.serve.filters.jwt import Jwt, KeySet
    from fairlead.serve.filters.limits import BodyLimit, Concurrency, RateLimit, SharedBuckets
    from fairlead.serve.filters.rewrite import Maintenance, Rewrite
    from fairlead.serve.sessions import Keep, Sessions

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

COUNTING = ("ratelimit", "concurrency")  # their counts outlive a reload


def make(one: a.Filter, workers: int) -> Any:
    """The filter object that an entry of `route.filters` means. `workers`: among how many a limit is shared out."""
    try:
        return MAKERS[one.name](one.options, workers)
    except BadValue as bad:
        raise ConfigError(f"filter {one.name}: {bad.message}", hint=bad.hint) from None


def rewriting(given: a.Rewrite) -> tuple[Any, Any, Any]:
    """(set, add, remove) of one side."""
    return fields(given.set), fields(given.add), tuple(name.lower().encode() for name in given.remove)


def make_files(given: a.Files, strip: str, loop: Any) -> Files:
    """The files of a route."""
    from fairlead.serve.files import Files

    return Files(
        given.dir,
        loop,
        strip=strip,
        index=given.index,
        listing=given.listing,
        fallback=given.fallback,
        hidden=given.hidden,
        links=given.links,
        precompressed=given.precompressed,
        cache_control=given.cache_control,
    )


def make_jwt(given: a.JwtFilter, workers: int, keys: KeySet | None = None) -> Jwt:
    from fairlead.serve.filters.jwt import Jwt

    return Jwt(
        keys=keys,
        secret=given.secret.value() if given.secret is not None else "",
        algorithms=("HS256",) if given.secret is not None else given.algorithms,
        issuer=given.issuer,
        audience=given.audience,
        optional=given.optional,
    )


def shared_buckets(slab: Any) -> SharedBuckets:
    """What the rate limits of all workers on one slab count in."""
    from fairlead.serve.filters.limits import SharedBuckets

    return SharedBuckets(_fast.Words(slab.rates(), slab.fd), slab.created.to_bytes(8, "little"))


def make_ratelimit(given: a.RateLimitFilter, workers: int, buckets: Any = None, name: str = "") -> RateLimit:
    """A rate counts in `buckets`, which all workers share, unless it is per worker."""
    from fairlead.serve.filters.limits import RateLimit

    rate = given.rate
    shared = None if rate.scope == "worker" else buckets
    return RateLimit(rate.amount, rate.seconds, rate.scope, given.burst, shared, name)


def make_compress(given: a.CompressFilter, workers: int) -> Compress:
    from fairlead.serve.filters.compress import Compress

    return Compress(given.algorithms, given.least, given.types, given.level, given.credentials)


def make_headers(given: a.HeadersFilter, workers: int) -> Headers:
    from fairlead.serve.filters.fields import Headers

    return Headers(rewriting(given.request), rewriting(given.response))


def make_basic(given: a.BasicFilter, workers: int) -> Basic:
    from fairlead.serve.filters.access import Basic

    return Basic({name: secret.value() for name, secret in given.users.items()}, given.realm)


def make_cors(given: a.CorsFilter, workers: int) -> Cors:
    from fairlead.serve.filters.cors import Cors

    return Cors(given.origins, given.methods, given.headers, given.credentials, round(given.max_age), given.expose)


def make_decompress(given: a.DecompressFilter, workers: int) -> Decompress:
    from fairlead.serve.filters.decompress import Decompress

    return Decompress(given.algorithms, given.max or 0, given.ratio)


def make_security(given: a.SecurityFilter, workers: int) -> Security:
    from fairlead.serve.filters.fields import Security

    written = {
        "x-frame-options": given.frames,
        "x-content-type-options": "" if given.sniff else "nosniff",
        "referrer-policy": given.referrer,
        "content-security-policy": given.csp,
        "permissions-policy": given.permissions,
        "cross-origin-opener-policy": given.opener,
        "cross-origin-resource-policy": given.resource,
    }
    return Security(fields({name: value for name, value in written.items() if value}), given.hsts.encode())


def make_concurrency(given: a.ConcurrencyFilter, workers: int) -> Concurrency:
    from fairlead.serve.filters.limits import Concurrency

    share = -(-given.requests // workers)
    return Concurrency(share, -(-given.queue // workers), round(given.queue_wait * 1e9))


def make_maintenance(given: a.MaintenanceFilter, workers: int) -> Maintenance:
    from fairlead.serve.filters.rewrite import Maintenance

    body = given.body.encode()
    if given.file:
        try:
            body = Path(given.file).read_bytes()
        except OSError as error:
            raise AppError(f"filter maintenance: cannot read {given.file}: {error.strerror}") from None
    return Maintenance(body, given.content_type, given.flag, max(1, round(given.retry)), given.allow)


def make_accel(given: a.AccelFilter, workers: int) -> Accel:
    from fairlead.serve.files import Files
    from fairlead.serve.filters.accel import Accel

    return Accel(Files(given.dir, asyncio.get_running_loop(), links=given.links, hidden=True), given.prefix)


def make_sessions(given: a.SessionFilter, store: Any) -> Sessions:
    """The sessions that stand around an application. `store` when they need one."""
    from fairlead.serve.sessionkeeps import Kept, Local, Sealed
    from fairlead.serve.sessions import Cookie, Sessions, here

    keep: Keep
    try:
        if given.where == "token":
            secrets = [one.value() for one in given.secrets]
            keep = Sealed(secrets, given.keep, store.state if given.revocable else None)
        else:
            keep = Kept(store.state if given.where == "store" else Local(given.most), given.keep, turn=given.turn)
    except BadValue as bad:
        raise ConfigError(f"filter session: {bad.message}", hint=bad.hint) from None
    here.add(keep)
    return Sessions(keep, Cookie(given.cookie, given.keep, given.samesite, given.domain, given.path))


def with_sessions(builder: Any, settings: Any, loaded: Any) -> tuple[Any, a.SessionFilter | None]:
    """(a route's application, with sessions around it if it has the filter; the filter). Sessions outlive the plan."""
    given = next((one.options for one in settings.filters if one.name == "session"), None)
    if given is None:
        return loaded.target, None
    sessions = builder.state.take(("sessions", given), lambda: make_sessions(given, builder.store))
    wsgi = loaded.interface == "wsgi"
    return sessions.wsgi(loaded.target, builder.loop) if wsgi else sessions.asgi(loaded.target), given


def make_networks(given: a.NetworksFilter, workers: int) -> Networks:
    from fairlead.serve.filters.access import Networks

    return Networks(given.allow, given.deny)


def make_body(given: a.BodyFilter, workers: int) -> BodyLimit:
    from fairlead.serve.filters.limits import BodyLimit

    return BodyLimit(given.max)


def make_rewrite(given: a.RewriteFilter, workers: int) -> Rewrite:
    from fairlead.serve.filters.rewrite import Rewrite

    return Rewrite(given.match, given.to)


MAKERS: dict[str, Callable[[Any, int], Any]] = {
    "jwt": make_jwt,
    "ratelimit": make_ratelimit,
    "compress": make_compress,
    "decompress": make_decompress,
    "headers": make_headers,
    "security": make_security,
    "basic": make_basic,
    "networks": make_networks,
    "cors": make_cors,
    "body": make_body,
    "concurrency": make_concurrency,
    "rewrite": make_rewrite,
    "maintenance": make_maintenance,
    "accel": make_accel,
}
