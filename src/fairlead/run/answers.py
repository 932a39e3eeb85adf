"""What a route can do with a request: the eleven answers and the filters, one frozen dataclass each.

The same rules as ``run/config``, which holds the rest of the file and re-exports these: one field per setting, values without units.
"""
# ruff: noqa: E501, RUF009

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead.core.limits import WebSocketLimits
from fairlead.run import units as u
from fairlead.run.setting import REQUIRED, setting, short_form, table
from fairlead.wire.grpcwords import NAMES as STATUSES

if TYPE_CHECKING:
    from dataclasses import dataclass as frozen
else:
    from fairlead.run.setting import frozen

Many = tuple[str, ...]

# ---- [[route]]: the answers -----------------------------------------------------------------------------------------


@frozen
class App:
    """A Python application. Short form: `app = "module:attribute"`."""

    target: str = setting(REQUIRED, "`module:attribute` of the application.", u.TARGET)
    factory: bool = setting(False, "The attribute is a function that makes the application.", u.FLAG)
    interface: str = setting("auto", "How the application is called.", u.choice("auto", "asgi", "wsgi"))
    lifespan: str = setting("auto", "ASGI lifespan; `auto` goes on without when the app does not know it.", u.choice("auto", "on", "off"))
    threads: int = setting(40, "Threads for WSGI and other blocking code, per worker.", u.count(1, 10000))
    queue: int = setting(1000, "Requests that may wait for a thread; above it the answer is 503.", u.COUNT)
    dir: str = setting(".", "Directory added to the import path; relative to the file.", u.PATH)
    env: str = setting("", "File of NAME=value lines set before the application is imported: `file:.env`.", u.ENV_FILE)
    strip: str = setting("", "Path prefix that becomes `root_path`; the app still sees the full path.", u.matching("a path prefix", r"(/\S*)?", 'write "/prefix"'))

    short: ClassVar[Callable[[Any], Any]] = short_form("target", str)


@frozen
class WebSocket:
    """The WebSockets of a route that answers by `app`. Precedents of the caps stand in ``core/limits``."""

    origins: Many = setting([], "Pages that may open one, as browsers name them (`https://shop.example`); `self` is the request's own scheme and host, `*` any; empty leaves the check to the app. Others get 403. Clients that send no `Origin` are no browsers, and pass.", u.TEXTS)
    compression: str = setting("shared", "permessage-deflate: without memory between messages (`shared`), with it (`takeover`: smaller, about 50 KB per busy socket), or `off`.", u.choice("shared", "takeover", "off"))
    message: int | None = setting("16MiB", "Size of one message, inflated; above it Close 1009.", u.SOME_SIZE)
    fragments: int = setting(131072, "Frames of one message; above it Close 1009.", u.POSITIVE)
    queue: int = setting("64KiB", "Messages waiting for the app; above it no more is read.", u.SIZE)
    ping: float | None = setting("20s", "Silence before the client is asked whether it lives.", u.SOME_DURATION)
    pong: float | None = setting("20s", "How long it may take to answer; then Close 1011.", u.SOME_DURATION)
    close: float = setting("10s", "How long the other half of the closing handshake is waited for.", u.DURATION)
    idle: float | None = setting("none", "Time without a message in either direction; then Close 1001.", u.SOME_DURATION)
    total: float | None = setting("none", "A WebSocket's whole life; then Close 1001.", u.SOME_DURATION)

    def core(self) -> WebSocketLimits:
        """The caps in the units of the hot path."""
        out = WebSocketLimits(message=self.message or 0, fragments=self.fragments, queue=self.queue)
        for name in ("ping", "pong", "close", "idle", "total"):
            value = getattr(self, name)
            setattr(out, name, round(value * 1e9) if value else 0)
        return out


@frozen
class Grpc:
    """A gRPC server made with `fairlead.grpc.Server`. Short form: `grpc = "module:attribute"`."""

    target: str = setting(REQUIRED, "`module:attribute` of the server.", u.TARGET)
    factory: bool = setting(False, "The attribute is a function that makes the server.", u.FLAG)
    threads: int = setting(40, "Threads for blocking servicers, per worker.", u.count(1, 10000))
    dir: str = setting(".", "Directory added to the import path; relative to the file.", u.PATH)
    web: bool = setting(True, "Answer gRPC-Web as well.", u.FLAG)
    json: bool = setting(True, "Answer JSON as well: by the rules of google.api.http, and `POST /package.Service/Method`.", u.FLAG)
    origins: Many = setting([], "Pages of other origins that may call by gRPC-Web and JSON (CORS), as browsers name them; `*` is all.", u.TEXTS)
    reflection: bool = setting(False, "Answer server reflection.", u.FLAG)

    short: ClassVar[Callable[[Any], Any]] = short_form("target", str)


@frozen
class Rewrite:
    """Changes to header fields."""

    set: Mapping[str, str] = setting({}, "Fields to set; one that is there is replaced.", u.FIELDS)
    add: Mapping[str, str] = setting({}, "Fields to add beside those that are there.", u.FIELDS)
    remove: Many = setting([], "Fields to remove.", u.several(u.FIELD))


@frozen
class Retry:
    """When a request may be sent to an upstream again."""

    times: int = setting(1, "Attempts after the first; 0 is none.", u.count(0, 10))
    budget: float = setting("20%", "Most retries, as a share of the requests to the upstream.", u.PERCENT)
    statuses: tuple[int, ...] = setting([], "Answers that count as failed, for idempotent methods.", u.several(u.count(400, 599)))
    grpc: Many = setting([], "gRPC statuses with which a call that got no message is sent again, as `[\"UNAVAILABLE\"]`.", u.several(u.choice(*STATUSES[1:])))
    service_config: str = setting("", "A gRPC service config (JSON) with retryPolicy and timeout by method; relative to the file.", u.PATH)


@frozen
class Proxy:
    """A reverse proxy. Short form: `proxy = "upstream"`. Exactly one of `upstream` and `split`."""

    upstream: str = setting("", "The upstream.")
    split: Mapping[str, int] = setting({}, "Upstreams with their weights (canary).", u.mapping(u.count(0, 1000000)))
    retry: Retry = table(Retry, "When a request is sent again.")
    cache: bool = setting(False, "Keep answers in the cache.", u.FLAG)
    mirror: str = setting("", "Upstream that gets a copy of each request; its answers are thrown away.")
    host: str = setting("preserve", "`Host` sent on: the client's (`preserve`), the server's address (`upstream`), or this text.", u.matching("a host", r"[A-Za-z0-9_.:\[\]-]+", 'write "preserve", "upstream" or a host name'))
    request: Rewrite = table(Rewrite, "Header fields of the request sent on.")
    response: Rewrite = table(Rewrite, "Header fields of the answer.")
    strip: str = setting("", "Path prefix removed before the request is sent on.", u.matching("a path prefix", r"(/\S*)?", 'write "/prefix"'))

    half_close: float = setting("0s", "How long a client that closed its side behind a whole request is waited for; 0 is as long as the upstream may take.", u.DURATION)

    short: ClassVar[Callable[[Any], Any]] = short_form("upstream", str)


@frozen
class Files:
    """Files of a directory, with ranges and validators. Short form: `files = "dir"`."""

    dir: str = setting(REQUIRED, "The directory; relative to the file.", u.PATH)
    strip: str = setting("", "Path prefix removed before the name is looked up; empty removes the fixed part of the route's path.")
    index: Many = setting(["index.html"], "Files that answer for a directory.", u.TEXTS)
    listing: bool = setting(False, "List directories without an index.", u.FLAG)
    fallback: str = setting("", "File that answers for names that do not exist (single-page apps).")
    hidden: bool = setting(False, "Answer names that begin with a dot.", u.FLAG)
    links: bool = setting(False, "Follow symbolic links that leave the directory.", u.FLAG)
    precompressed: bool = setting(False, "Answer `x.br`, `x.zst` or `x.gz` in place of `x` where the client takes it.", u.FLAG)
    cache_control: str = setting("", "`Cache-Control` of the answers.")

    short: ClassVar[Callable[[Any], Any]] = short_form("dir", str)


@frozen
class Topic:
    """A topic: poll, long poll, SSE and WebSocket by negotiation; `POST` publishes. The path names it with `{topic}`."""

    name: str = setting("", "Name of the topic; empty takes it from `{topic}` in the path.")
    keep: float | None = setting("24h", "How long messages are kept.", u.SOME_DURATION)
    max: int | None = setting(100000, "Messages kept.", u.SOME_COUNT)
    bytes: int | None = setting("none", "Bytes kept of one topic.", u.SOME_SIZE)
    slow: str = setting("cursor", "What happens to a subscriber that is too slow.", u.choice("cursor", "latest", "drop", "close"))
    create: str = setting("subscribe", "What makes a topic: only `put`, a `publish`, or any first use (`subscribe`).", u.choice("put", "publish", "subscribe"))
    message: int = setting("1MiB", "Size of one message.", u.SIZE)
    wait: float = setting("25s", "Longest long poll.", u.DURATION)
    heartbeat: float = setting("15s", "Silence before a stream gets a heartbeat.", u.DURATION)
    compact: bool = setting(False, "Keep the last message of each key, whatever its age.", u.FLAG)
    groups: bool = setting(True, "Consumer groups at `.../groups`.", u.FLAG)
    webhooks: bool = setting(False, "Webhooks at `.../webhooks`: who may reach them makes this server send requests.", u.FLAG)
    webhook_networks: Many = setting([], "Networks that webhooks may reach although they are not public, as `10.0.0.0/8`.", u.TEXTS)
    many: int = setting(100, "Topics on one event stream or poll (`?topic=b`); 1: the one in the path only.", u.count(1, 1000))
    wildcards: bool = setting(False, "Patterns may be read (`?match=orders.*`): whoever may read one topic of the route finds all of them.", u.FLAG)
    presence: bool = setting(False, "Who follows is told at `.../presence`.", u.FLAG)
    presence_lease: float = setting("15s", "How long members of a worker that was killed are still there; at least `1s`. Of several routes the shortest counts.", u.DURATION)
    authorize: str = setting("", "`module:function` asked whether somebody may read, publish to or manage a topic.", u.matching("module:function", r"([\w.]+:[\w.]+)?", 'write "module:function"'))
    authorize_keep: float = setting("60s", "How long its answer holds for the same credentials.", u.DURATION)
    dir: str = setting(".", "Directory added to the import path for `authorize`; relative to the file.", u.PATH)
    claim: str = setting("", "Claim of the token (see the `jwt` filter) that names topics: `{read = [...], publish = [...], manage = [...]}`.")
    followers: int | None = setting("none", "Streams, sockets and waiting polls of one client at once, in all workers.", u.SOME_COUNT)
    publishes: u.Rate | None = setting("none", "Events one client may publish, as `100/s`.", u.SOME_RATE)
    makes: u.Rate | None = setting("none", "Topics one client may make, as `10/m`.", u.SOME_RATE)
    origins: Many = setting(["self"], "Pages that may open a WebSocket: origins, `self` for the topic's own, `*` for any.", u.TEXTS)
    compression: str = setting("shared", "permessage-deflate of WebSockets: each frame is deflated once for all who hear it (`shared`), or `off`.", u.choice("shared", "off"))


@frozen
class Job:
    """Work done behind a request: `202` with a handle. Short form: `job = "module:function"`."""

    run: str = setting(REQUIRED, "`module:function` that does the work.", u.TARGET)
    retries: int = setting(5, "Attempts after the first.", u.COUNT)
    timeout: float | None = setting("10m", "Longest attempt.", u.SOME_DURATION)
    backoff: float = setting("1s", "Pause before the first retry; doubled for each one after.", u.DURATION)
    max_backoff: float = setting("5m", "Longest pause between attempts.", u.DURATION)
    keep: float | None = setting("24h", "How long a finished job's answer is kept.", u.SOME_DURATION)
    workers: int = setting(1, "Attempts at once, per worker.", u.count(1, 10000))
    dir: str = setting(".", "Directory added to the import path; relative to the file.", u.PATH)

    short: ClassVar[Callable[[Any], Any]] = short_form("run", str)


@frozen
class Upload:
    """Resumable uploads (IETF resumable upload, tus 1.0). Short form: `upload = "dir"`, or `upload = "s3://bucket/prefix"`."""

    dir: str = setting(REQUIRED, "Directory for the files, relative to the file; or `s3://bucket/prefix` (extra `s3`).", u.PATH)
    max: int | None = setting("none", "Largest upload; above it 413.", u.SOME_SIZE)
    keep: float = setting("24h", "How long an unfinished upload is kept after its last request.", u.DURATION)
    kept: float = setting("24h", "How long the record of a finished one is kept: until then its client can ask what was answered, and it counts in quotas. The file stays.", u.DURATION)
    quota: int | None = setting("none", "Bytes that the uploads of one principal may have; above it 413.", u.SOME_SIZE)
    total: int | None = setting("none", "Bytes that all uploads of the route may have; above it 507.", u.SOME_SIZE)
    unfinished: int | None = setting("none", "Uploads that one principal may have begun and not finished; above it 429.", u.SOME_COUNT)
    before: str = setting("", "`module:function` asked before an upload begins; it may raise `Refused`.", u.matching("module:attribute", r"([\w.]+:[\w.]+)?", 'write "module:function"'))
    done: str = setting("", "`module:function` called with each finished file.", u.matching("module:attribute", r"([\w.]+:[\w.]+)?", 'write "module:function"'))
    publish: str = setting("", "Topic that gets an event for each finished file.")
    job: str = setting("", "`module:function` that runs as a job for each finished file.", u.matching("module:attribute", r"([\w.]+:[\w.]+)?", 'write "module:function"'))
    app: App | None = table(App, "Application that is asked when a file is whole, as if one request had brought it.", absent=True)
    module_dir: str = setting(".", "Directory added to the import path for `before`, `done` and `job`; relative to the file.", u.PATH)
    endpoint: str = setting("", "URL of an S3-compatible server; empty is AWS.", u.matching("a URL", r"(https?://\S+)?", 'write "https://minio.internal:9000"'))
    region: str = setting("", "Region of the bucket; empty is what botocore finds.")

    short: ClassVar[Callable[[Any], Any]] = short_form("dir", str)


@frozen
class Signal:
    """WebRTC signalling: rooms, trickle ICE. The path names the room with `{room}`."""

    turn: str = setting("", "The `turn` listener whose credentials are handed out.")
    peers: int = setting(16, "Peers in one room.", u.count(2, 10000))


@frozen
class Redirect:
    """A redirect. Short form: `redirect = "https://{host}{path}"`."""

    to: str = setting(REQUIRED, "Where to: `{scheme}`, `{host}`, `{path}`, `{query}` and the path's own `{names}` are filled in.")
    status: int = setting(308, "Status of the answer.", u.count(300, 399))
    query: bool = setting(True, "Append the query string, unless `to` has `{query}`.", u.FLAG)

    short: ClassVar[Callable[[Any], Any]] = short_form("to", str)


def _respond(value: Any) -> Any:
    if type(value) is int:
        return {"status": value}
    return {"body": value} if isinstance(value, str) else None


@frozen
class Respond:
    """A fixed answer. Short forms: `respond = 404`, `respond = "text"`."""

    status: int = setting(200, "Status of the answer.", u.count(200, 599))
    body: str = setting("", "Body of the answer.")
    content_type: str = setting("text/plain; charset=utf-8", "`Content-Type` of the body.")
    headers: Mapping[str, str] = setting({}, "More header fields.", u.FIELDS)

    short: ClassVar[Callable[[Any], Any]] = staticmethod(_respond)


# ---- [[route]]: the filters -----------------------------------------------------------------------------------------


@frozen
class JwtFilter:
    """`jwt`: a bearer token must be valid."""

    jwks: str = setting("", "URL of the key set.")
    secret: u.Secret | None = setting("none", "Shared secret (HS256), in place of a key set.", u.maybe(u.SECRET))
    algorithms: Many = setting(["RS256", "ES256", "EdDSA"], "Algorithms that are accepted.", u.TEXTS)
    issuer: str = setting("", "`iss` that must be there.")
    audience: str = setting("", "`aud` that must be there.")
    optional: bool = setting(False, "Let requests without a token through.", u.FLAG)


@frozen
class RateLimitFilter:
    """`ratelimit`: so many requests per time; above it 429. Short form: `{ ratelimit = "100/s per client" }`."""

    rate: u.Rate = setting(REQUIRED, "The rate.", u.RATE)
    burst: int = setting(0, "Requests at once above the rate; 0 is one second's worth.", u.COUNT)

    short: ClassVar[Callable[[Any], Any]] = short_form("rate", str)


@frozen
class IdempotencyFilter:
    """`idempotency`: a repeated `Idempotency-Key` gets the first answer again."""

    required: bool = setting(False, "Refuse unsafe requests without a key.", u.FLAG)
    keep: float = setting("24h", "How long answers are kept.", u.DURATION)
    safe: bool = setting(False, "The handler may run again when a crash left its outcome unknown; else such a key answers 409.", u.FLAG)
    most: int = setting("1MiB", "Longest answer that is kept whole.", u.SIZE)
    stream: float = setting("5s", "An answer of unknown length that is not whole so long after its head is passed on as it comes, and only its head is kept.", u.DURATION)
    check: str = setting("", "Path by which the route's own handler says what came of a key whose outcome is unknown: 404 it was not done, 2xx it was.", u.matching("a path", r"(/\S*)?", 'write "/payments/outcome"'))


@frozen
class RespondAsyncFilter:
    """`respond-async`: a request with `Prefer: respond-async` becomes a job: 202 now, its answer later."""

    at: str = setting("/_requests", "Path below which those jobs are looked at.", u.matching("a path", r"/\S*[^/*\s]", 'write a path such as "/_requests"'))
    keep: float | None = setting("24h", "How long an answer is kept.", u.SOME_DURATION)
    timeout: float | None = setting("10m", "Longest attempt.", u.SOME_DURATION)
    retries: int = setting(2, "Attempts after one that broke off or whose process died, where the method is idempotent.", u.COUNT)
    safe: bool = setting(False, "The handler may run again whatever the method.", u.FLAG)
    body: int = setting("1MiB", "Size of a request that is kept; above it 413.", u.SIZE)
    answer: int = setting("1MiB", "Size of an answer that is kept; above it the job fails.", u.SIZE)
    workers: int = setting(16, "Such requests at once, per worker.", u.count(1, 10000))


@frozen
class CompressFilter:
    """`compress`: answers are compressed where the client takes it."""

    algorithms: Many = setting(["zstd", "br", "gzip"], "In order of preference; of these those not installed (extras `br` and `zstd`) are left out, one that you write and that is not installed is an error.", u.several(u.choice("zstd", "br", "gzip")))
    least: int = setting("1KiB", "Smaller answers are left alone.", u.SIZE)
    types: Many = setting(["text/*", "application/json", "application/javascript", "application/xml", "application/wasm", "image/svg+xml"], "Media types.", u.TEXTS)
    level: int = setting(0, "How hard to try; 0 is each algorithm's default for answers made while somebody waits.", u.count(0, 11))
    credentials: bool = setting(False, "Compress answers that may hold a secret beside something the request chose (the BREACH attack).", u.FLAG)


@frozen
class HeadersFilter:
    """`headers`: changes to header fields."""

    request: Rewrite = table(Rewrite, "Fields of the request.")
    response: Rewrite = table(Rewrite, "Fields of the answer.")


@frozen
class BasicFilter:
    """`basic`: user and password (RFC 7617)."""

    users: Mapping[str, u.Secret] = setting({}, "Users and passwords.", u.mapping(u.SECRET))
    realm: str = setting("fairlead", "Realm shown to the user.")


@frozen
class NetworksFilter:
    """`networks`: who may come, by address; others get 403."""

    allow: tuple[Any, ...] = setting([], "Networks that may; empty is all.", u.NETWORKS)
    deny: tuple[Any, ...] = setting([], "Networks that may not; stronger than `allow`.", u.NETWORKS)


@frozen
class CorsFilter:
    """`cors`: answers preflight requests and marks answers (Fetch standard)."""

    origins: Many = setting([], "Origins that may read answers; `*` is all.", u.TEXTS)
    methods: Many = setting(["GET", "HEAD", "POST"], "Methods.", u.several(u.METHOD))
    headers: Many = setting([], "Request header fields.", u.several(u.FIELD))
    credentials: bool = setting(False, "Allow cookies and authorization.", u.FLAG)
    max_age: float = setting("10m", "How long a preflight answer is kept.", u.DURATION)
    expose: Many = setting([], "Header fields of the answer that pages may read.", u.several(u.FIELD))


@frozen
class SessionFilter:
    """`session`: what an application remembers of a client, behind a cookie: `scope["session"]`, `environ["fairlead.session"]`."""

    where: str = setting("store", "Where sessions live: in the `store`, in the memory of one `worker`, or in the cookie itself, encrypted (`token`).", u.choice("store", "worker", "token"))
    keep: float = setting("24h", "How long an unused session lives.", u.DURATION)
    cookie: str = setting("session", "Name of the cookie.", u.FIELD)
    samesite: str = setting("lax", "`SameSite` of the cookie.", u.choice("lax", "strict", "none"))
    domain: str = setting("", "`Domain` of the cookie; empty is this host alone.")
    path: str = setting("/", "`Path` of the cookie.")
    turn: float | None = setting("none", "The id of a session in the store or a worker is changed so often by itself; the application does so at a login.", u.SOME_DURATION)
    secrets: tuple[u.Secret, ...] = setting([], "For `token`: what the cookie is encrypted with. The first one seals, all of them open.", u.several(u.SECRET))
    revocable: bool = setting(False, "For `token`: look in the store whether it was revoked, on each request.", u.FLAG)
    most: int = setting(100000, "For `worker`: sessions in one worker's memory; the one unused for longest goes first.", u.count(1, 100_000_000))


@frozen
class DecompressFilter:
    """`decompress`: request bodies reach the answer decoded, with limits against bombs."""

    algorithms: Many = setting(["gzip", "deflate", "br", "zstd"], "What is taken; of these those not installed (extras `br` and `zstd`) are left out, one that you write and that is not installed is an error.", u.several(u.choice("gzip", "deflate", "br", "zstd")))
    max: int | None = setting("64MiB", "Size of a decoded body; above it 413.", u.SOME_SIZE)
    ratio: int = setting(100, "Most expansion of a body that decodes to more than 1 MiB; 0 is any.", u.COUNT)


@frozen
class SecurityFilter:
    """`security`: the fields that make browsers careful. What the answer says itself stays; empty leaves a field out."""

    hsts: str = setting("max-age=31536000", "`Strict-Transport-Security`, over HTTPS only.", u.FIELD_VALUE)
    frames: str = setting("SAMEORIGIN", "`X-Frame-Options`.", u.FIELD_VALUE)
    sniff: bool = setting(False, "Let browsers guess media types; otherwise `X-Content-Type-Options: nosniff`.", u.FLAG)
    referrer: str = setting("strict-origin-when-cross-origin", "`Referrer-Policy`.", u.FIELD_VALUE)
    csp: str = setting("", "`Content-Security-Policy`.", u.FIELD_VALUE)
    permissions: str = setting("", "`Permissions-Policy`.", u.FIELD_VALUE)
    opener: str = setting("same-origin", "`Cross-Origin-Opener-Policy`.", u.FIELD_VALUE)
    resource: str = setting("", "`Cross-Origin-Resource-Policy`.", u.FIELD_VALUE)


@frozen
class BodyFilter:
    """`body`: the size of a request's body; above it 413. Short form: `{ body = "10MiB" }`."""

    max: int = setting(REQUIRED, "The size.", u.SIZE)

    short: ClassVar[Callable[[Any], Any]] = short_form("max", str, int)


@frozen
class ConcurrencyFilter:
    """`concurrency`: requests at once on this route, in all workers together. Short form: `{ concurrency = 100 }`."""

    requests: int = setting(REQUIRED, "Requests at once.", u.POSITIVE)
    queue: int = setting(0, "Requests that may wait; above it the answer is 503.", u.COUNT)
    queue_wait: float = setting("1s", "How long a request may wait.", u.DURATION)

    short: ClassVar[Callable[[Any], Any]] = short_form("requests", int)


def _pattern(value: Any) -> str:
    text = u.read_text(value)
    try:
        re.compile(text)
    except re.error as error:
        raise u.BadValue(f"{u.quote(text)} is no regular expression: {error}", "see Python's re") from None
    return text


@frozen
class RewriteFilter:
    """`rewrite`: another path for the answer that follows; the query stays."""

    match: str = setting(REQUIRED, "Regular expression, searched in the percent-encoded path.", u.Kind("a regular expression", _pattern, u.quote))
    to: str = setting(REQUIRED, "What stands in place of what matched: `\\1` and `\\g<name>` are its groups.")


@frozen
class MaintenanceFilter:
    """`maintenance`: 503 for everybody but those allowed. Short form: `{ maintenance = "flag file" }`."""

    flag: str = setting("", "Only while this file exists; empty is always.", u.PATH)
    body: str = setting("Down for maintenance; please come back soon.\n", "Body of the answer.")
    file: str = setting("", "File that holds the body in place of `body`, read when the configuration is.", u.PATH)
    content_type: str = setting("text/plain; charset=utf-8", "`Content-Type` of the body.", u.FIELD_VALUE)
    retry: float = setting("1m", "`Retry-After`.", u.DURATION)
    allow: tuple[Any, ...] = setting([], "Networks whose clients get through.", u.NETWORKS)

    short: ClassVar[Callable[[Any], Any]] = short_form("flag", str)


@frozen
class AccelFilter:
    """`accel`: the application names a file (`X-Accel-Redirect`, `X-Sendfile`), and the server sends it. Short form: the directory."""

    dir: str = setting(REQUIRED, "Directory of the files; relative to the file.", u.PATH)
    prefix: str = setting("", "Path prefix of `X-Accel-Redirect` that stands for the directory.", u.matching("a path prefix", r"(/\S*)?", 'write "/prefix"'))
    links: bool = setting(False, "Follow symbolic links that leave the directory.", u.FLAG)

    short: ClassVar[Callable[[Any], Any]] = short_form("dir", str)


FILTERS: dict[str, type] = {
    "jwt": JwtFilter,
    "ratelimit": RateLimitFilter,
    "idempotency": IdempotencyFilter,
    "respond-async": RespondAsyncFilter,
    "compress": CompressFilter,
    "decompress": DecompressFilter,
    "headers": HeadersFilter,
    "basic": BasicFilter,
    "networks": NetworksFilter,
    "cors": CorsFilter,
    "security": SecurityFilter,
    "body": BodyFilter,
    "concurrency": ConcurrencyFilter,
    "rewrite": RewriteFilter,
    "maintenance": MaintenanceFilter,
    "accel": AccelFilter,
    "session": SessionFilter,
}


@frozen
class Filter:
    """One filter of a route: a name alone (`"compress"`) or with options (`{ ratelimit = "100/s per client" }`)."""

    name: str
    options: Any
