"""The configuration: one frozen dataclass per table, one field per setting, each written once with its default and its doc.

``--help``, the reference page, ``check`` and ``explain`` are all made from these fields. Values are kept without units: a
duration is float seconds, a size int bytes, "none" (or "auto", "off") is ``None``. Nothing here opens, resolves or imports
anything: ``run/load`` reads TOML into these, ``run/validate`` checks how they fit together, ``run/plan`` builds objects from
them and refuses what this version cannot serve. Lines are as long as one setting is: a table should read as a table.
"""
# ruff: noqa: E501, RUF009

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead.core.limits import Limits as CoreLimits
from fairlead.run import units as u
from fairlead.run.answers import (
    App,
    Files,
    Filter,
    Grpc,
    Job,
    Proxy,
    Redirect,
    Respond,
    Signal,
    Topic,
    Upload,
    WebSocket,
)
from fairlead.run.setting import REQUIRED, Origin, setting, short_form, table, tables

if TYPE_CHECKING:
    from dataclasses import dataclass as frozen
else:
    from fairlead.run.setting import frozen

Many = tuple[str, ...]


# ---- [server], [admin], [store], [log], [journey], [cache] ----------------------------------------------------------


@frozen
class ServerLimits:
    """Admission, counted over all workers together: what is in flight, what may wait, and how long."""

    requests: int | None = setting("none", "Requests in flight; above it they wait in the queue.", u.SOME_COUNT)
    requests_per_worker: int | None = setting("none", "The same in each worker: one that has so many gets no more.", u.SOME_COUNT)
    queue: int = setting(1000, "Requests that may wait for admission; above it the answer is 503.", u.COUNT)
    queue_wait: float = setting("1s", "How long a request may wait for admission before the answer is 503.", u.DURATION)
    idle: int | None = setting(100000, "Connections without a request; above it the longest idle one is closed.", u.SOME_COUNT)
    health: Many = setting(["/healthz", "/livez", "/readyz"], "Exact paths that never wait for admission and are never refused.", u.TEXTS)
    memory: int | None = setting("none", "Memory of all workers together (proportional set size); above it, or near the end of the control group's own limit, new requests are answered 503.", u.SOME_SIZE)


@frozen
class Server:
    """Execution: how many workers, and which of the five patterns hands them their connections."""

    pattern: str = setting("auto", "How connections reach the workers; `auto` is `single` with one worker, `shared` up to 8, `reuseport` above.", u.choice("auto", "single", "handoff", "dispatch", "shared", "reuseport"))
    unit: str = setting("process", "What a worker is.", u.choice("process", "thread"))
    workers: int | None = setting("auto", "Processes or threads that run the app; `auto` is one per core (one with pattern `single`).", u.maybe(u.count(1, 1024), "auto"))
    backlog: int = setting(4096, "Length of each accept queue; the kernel caps it at net.core.somaxconn.", u.count(1, 65535))
    grace: float = setting("10s", "How long a drain lets requests finish before it cuts them.", u.DURATION)
    unready: float = setting("0s", "How long a server that was told to stop still accepts while its readiness answer is 503, so that balancers look away first.", u.DURATION)
    fronts: int = setting(1, "Front processes; pattern `dispatch` only.", u.count(1, 256))
    limits: ServerLimits = table(ServerLimits, "Limits of all workers together.")
    sticky: str = setting("", "Cookie that ties a client to the worker it first got, `dispatch` only; empty ties nobody.", u.matching("a cookie name", r"[!#$%&'*+.^_`|~0-9A-Za-z-]*", "a cookie name has no spaces and no separators"))
    max_requests: int = setting(0, "Replace a worker after this many requests; 0 is never.", u.COUNT)
    max_age: float = setting("0s", "Replace a worker after this time; 0s is never.", u.DURATION)
    ticket_rotation: float = setting("12h", "How often the key that seals TLS session tickets is replaced, for all workers at once; the key before it still opens them. 0s is never.", u.DURATION)
    max_memory: int | None = setting("none", "Replace a worker whose resident memory grows above this.", u.SOME_SIZE)
    stuck: float | None = setting("1s", "How long a worker's event loop may stand still before its Python stack and the requests that wait for it are logged.", u.SOME_DURATION)
    stuck_limit: float | None = setting("60s", "How long it may stand still before the worker is replaced; not with `reload`.", u.SOME_DURATION)
    affinity: bool = setting(False, "Pin each worker to a core.", u.FLAG)
    pid_file: str = setting("", "File that holds the master's process id while it runs.", u.PATH)
    user: str = setting("", "Drop to this user (or user:group) once the sockets are bound.")
    loop: str = setting("auto", "The event loop; `auto` is uvloop where it is installed.", u.choice("auto", "uvloop", "asyncio"))
    reload: bool = setting(False, "Make new workers when a source file changes (development).", u.FLAG)
    reload_dirs: Many = setting([], "With `reload`: the directories to watch; empty is those of the applications.", u.TEXTS)

    @property
    def chosen_pattern(self) -> str:
        """The pattern, with `auto` decided."""
        return self.auto_pattern[0] if self.pattern == "auto" else self.pattern

    @property
    def auto_pattern(self) -> tuple[str, str]:
        """What `auto` comes to, and why; the figures are in docs/guide/patterns.md."""
        count = cores() if self.workers is None else self.workers
        if count == 1:
            return "single", "one worker needs nobody to share with"
        if count <= SHARED_MOST:
            return "shared", (
                "a connection goes to a worker that is free; with reuseport it waits for the one the kernel chose, busy or not"
            )
        return "reuseport", f"with more than {SHARED_MOST} workers each new connection would wake too many of them"

    @property
    def worker_count(self) -> int:
        """The number of workers, with `auto` decided."""
        if self.workers is not None:
            return self.workers
        return 1 if self.pattern == "single" else cores()


SHARED_MOST = 8  # workers up to which `auto` has all of them accept on one socket


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


ADMIN_BIND = u.Kind('address | "auto" | "off"', lambda v: v if v in ("auto", "off") else u.read_address(v), lambda v: u.quote(str(v)))


@frozen
class Admin:
    """The admin socket for `fairlead status` and friends, and the page for a browser."""

    bind: u.Address | str = setting("auto", "The admin socket; `auto` is a private unix socket under XDG_RUNTIME_DIR (root: /run) named after the first listener's port.", ADMIN_BIND)
    page: u.Address | None = setting("off", "The page for a browser, on TCP. On by default only for `demo` and `run module:attribute` on loopback.", u.maybe(u.ADDRESS, "off"))
    token: u.Secret | None = setting("auto", "Asked for on the page by anything that changes; `auto` makes one and prints it at start.", u.maybe(u.SECRET, "auto"))
    live: str = setting("/livez", "Path of the liveness answer: 200 while the process runs.", u.matching("a path", r"/\S*", 'write a path such as "/livez"'))
    ready: str = setting("/readyz", "Path of the readiness answer: 200 while serving, 503 while starting or draining.", u.matching("a path", r"/\S*", 'write a path such as "/readyz"'))


STORE_FORM = re.compile(r"(memory:|sqlite:///\S+|(postgresql|rediss?|nats|amqps?|kafka)://\S*|env:\w+|file:.+)?", re.ASCII)
OTHER_WORDS = {"postgres": "postgresql", "pg": "postgresql", "valkey": "redis", "rabbitmq": "amqp", "sqlite3": "sqlite"}


def _store_url(value: Any) -> str:
    text = u.read_text(value)
    scheme, _, rest = text.partition(":")
    if STORE_FORM.fullmatch(text):
        return text
    if scheme == "sqlite":
        name = rest.lstrip("/") or "fairlead.db"
        raise u.BadValue(f"{u.quote(text)} names no file", f'write "sqlite:///{name}" in the working directory, "sqlite:////{name}" from the root')
    right = 'write "memory:", "sqlite:////var/lib/fairlead/fairlead.db", "postgresql://...", "redis://..." or "nats://..."'
    raise u.BadValue(f"{u.quote(text)} is not a store URL", f'write "{OTHER_WORDS[scheme]}:{rest}"' if scheme in OTHER_WORDS else right)


STORE_URL = u.Kind("a store URL", _store_url, u.quote)


@frozen
class Store:
    """What lasts: topics, jobs, idempotency keys, sessions. Without a URL everything stays in memory until a topic or job exists."""

    url: str = setting("", "The store: `memory:`, `sqlite:`, `postgresql:`, `redis:`, `nats:`; empty is SQLite under XDG_STATE_HOME (root: /var/lib), opened when a topic or job exists. `env:NAME` and `file:PATH` are read.", STORE_URL)
    log: str = setting("", "Another engine for the log alone, such as `kafka://...`.", STORE_URL)
    leases: str = setting("", "Another engine for leases alone.", STORE_URL)
    state: str = setting("", "Another engine for state alone, such as `postgresql://...`.", STORE_URL)
    ack: str = setting("", "What must have happened when a publish is acknowledged; an engine that promises less is refused at start. Empty is the engine's own, for SQLite `node+fsync`.", u.choice("", "memory", "node", "node+fsync", "quorum", "quorum+fsync"))
    outbox: Many = setting([], "Databases of applications whose outbox is moved to the store: `sqlite:///...`, `postgresql://...`; `env:NAME` and `file:PATH` are read.", u.TEXTS)


@frozen
class Jobs:
    """Who works on jobs. Without processes of their own the workers do, beside their requests; with pattern `dispatch` never a front."""

    workers: int = setting(0, "Processes of their own for jobs; 0 has the workers run them. A file with some and without a listener runs nothing else.", u.count(0, 1024))
    modules: Many = setting([], "Modules to import for their `@fairlead.job` functions, beside those of the routes' applications.", u.TEXTS)
    dir: str = setting(".", "Directory added to the import path for `modules`; relative to the file.", u.PATH)
    slots: int = setting(4, "Attempts at once, per process, of each kind that no route names.", u.count(1, 10000))
    threads: int = setting(40, "Threads for blocking jobs, per process.", u.count(1, 10000))
    max_memory: int | None = setting("none", "Replace a jobs process whose resident memory grows above this; what it runs is handed back.", u.SOME_SIZE)


@frozen
class Log:
    """The access log and the server's own log."""

    access: str = setting("-", "Where the access log goes: `-` is standard output, `off` is nowhere, otherwise a file.", u.PATH)
    format: str = setting("auto", "How access log lines are written; `auto` is `short` and in colour on a terminal, else `text`.", u.choice("auto", "short", "text", "json"))
    file: str = setting("-", "Where the server's own log goes: `-` is standard error, otherwise a file.", u.PATH)
    file_format: str = setting("text", "How the server's own log is written.", u.choice("text", "json"))
    level: str = setting("info", "The least important message that is written.", u.choice("debug", "info", "warning", "error"))
    buffer: int = setting("64KiB", "Access log lines held back before they are written, per worker.", u.SIZE)
    flush: float = setting("1s", "The longest an access log line is held back.", u.DURATION)
    query: bool = setting(True, "Write the query string to the access log.", u.FLAG)
    request_id: str = setting("x-request-id", "Header that carries the request id; believed only from `forwarded` peers; empty is off.", u.matching("a header name", r"[!#$%&'*+.^_`|~0-9A-Za-z-]*", "header names have no spaces and no colon"))


@frozen
class Journey:
    """How the time of each request is shown. It is always measured."""

    server_timing: str = setting("auto", "Send `Server-Timing`; `auto` is on for clients on loopback and with `tls.mode = \"dev\"`.", u.choice("auto", "on", "off"))
    sample: float = setting("1%", "Share of requests after which the kernel is asked about their socket (TCP_INFO, SIOCOUTQ; about 2.5 us). One whose client kept us waiting always is.", u.PERCENT)
    slow: float = setting("1s", "A request slower than this is logged with where its time went, at most ten a second per worker; 0s is never.", u.DURATION)
    keep: int = setting(256, "Journeys kept per worker for the page and `fairlead why`.", u.count(0, 65536))


@frozen
class Cache:
    """The HTTP cache (RFC 9111) that `proxy.cache = true` uses."""

    size: int = setting("64MiB", "Memory for stored answers, in all workers together.", u.SIZE)
    max_object: int = setting("1MiB", "Larger answers are not stored.", u.SIZE)
    ttl: float = setting("0s", "Freshness of answers that say nothing themselves; 0s does not store them.", u.DURATION)
    stale: float = setting("0s", "How long a stale answer may stand in when the upstream fails.", u.DURATION)
    lock: float = setting("5s", "How long requests for the same missing answer wait for the first.", u.DURATION)


@frozen
class Metrics:
    """Numbers for others. `/metrics` of the admin address is Prometheus' text in any case."""

    statsd: str = setting("", "Host and port of a StatsD receiver; empty sends nothing.", u.matching("host:port", r"([^\s:]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}|", 'write "127.0.0.1:8125"'))
    prefix: str = setting("fairlead.", "What stands before each name.", u.matching("a prefix", r"[\w.-]*", "use letters, digits, '_', '-' and '.'"))
    every: float = setting("10s", "How often.", u.DURATION)


# ---- sockets and TLS ------------------------------------------------------------------------------------------------

SOME_BUFFER = u.maybe(u.SIZE, "")


@frozen
class Socket:
    """Options of TCP sockets, on listeners and upstreams."""

    nodelay: bool = setting(True, "TCP_NODELAY: small writes leave at once (Nagle's algorithm off).", u.FLAG)
    cork: bool = setting(False, "TCP_CORK: only full segments leave until the answer ends.", u.FLAG)
    fastopen: int = setting(0, "TCP_FASTOPEN: queue of half-open data connections; 0 is off.", u.count(0, 65535))
    congestion: str = setting("", "TCP_CONGESTION, such as `bbr`; empty is the system's.")
    rcvbuf: int | None = setting("", "SO_RCVBUF; empty lets the kernel tune it.", SOME_BUFFER)
    sndbuf: int | None = setting("", "SO_SNDBUF; empty lets the kernel tune it.", SOME_BUFFER)
    permissions: str = setting("", "Mode of a unix socket, as in `660`; empty is what the umask leaves.", u.matching("a mode", r"([0-7]{3,4})?", 'write "660"'))
    keepalive: float | None = setting("60s", "TCP keep-alive: idle time before the first probe.", u.SOME_DURATION)


@frozen
class Certificate:
    """One certificate; the names in it choose it by SNI."""

    certificate: str = setting(REQUIRED, "PEM file: the certificate, then its chain.", u.PATH)
    key: str = setting("", "PEM file of the private key; empty means that it is in the certificate file.", u.PATH)
    password: u.Secret | None = setting("none", "Password of the key.", u.maybe(u.SECRET))


@frozen
class Tls:
    """TLS on a listener. Short form: `tls = "dev"`."""

    mode: str = setting("files", "Where certificates come from: `files`, a local development CA (`dev`), or ACME (`acme`).", u.choice("files", "dev", "acme"))
    certificate: str = setting("", "PEM file: the certificate, then its chain.", u.PATH)
    key: str = setting("", "PEM file of the private key; empty means that it is in the certificate file.", u.PATH)
    password: u.Secret | None = setting("none", "Password of the key.", u.maybe(u.SECRET))
    certificates: tuple[Certificate, ...] = tables(Certificate, "More certificates, chosen by SNI.")
    client_ca: str = setting("", "PEM file of the CAs whose client certificates are accepted (mutual TLS).", u.PATH)
    client_auth: str = setting("require", "With `client_ca`: whether a client must show a certificate.", u.choice("require", "optional"))
    min: str = setting("1.2", "The oldest version.", u.choice("1.2", "1.3"))
    max: str = setting("1.3", "The newest version.", u.choice("1.2", "1.3"))
    ciphers: str = setting("", "TLS 1.2 ciphers in OpenSSL's notation; empty is Mozilla's intermediate list.")
    tickets: bool = setting(True, "Session tickets, with keys shared by all workers.", u.FLAG)
    names: Many = setting([], "Host names for `dev` and `acme`; `dev` always has localhost and the loopback addresses.", u.TEXTS)
    email: str = setting("", "Contact for `acme`.")
    directory: str = setting("https://acme-v02.api.letsencrypt.org/directory", "Directory URL for `acme`.")

    short: ClassVar[Callable[[Any], Any]] = short_form("mode", str)


@frozen
class UpstreamTls:
    """TLS to an upstream. Short form: `tls = true`."""

    verify: bool = setting(True, "Check the upstream's certificate and name.", u.FLAG)
    name: str = setting("", "Name sent as SNI and checked; empty is the host of the server's address.")
    ca: str = setting("", "PEM file of the CAs to trust; empty is the system's.", u.PATH)
    certificate: str = setting("", "PEM file of our client certificate (mutual TLS).", u.PATH)
    key: str = setting("", "PEM file of its key; empty means that it is in the certificate file.", u.PATH)
    password: u.Secret | None = setting("none", "Password of the key.", u.maybe(u.SECRET))
    min: str = setting("1.2", "The oldest version.", u.choice("1.2", "1.3"))

    short: ClassVar[Callable[[Any], Any]] = staticmethod(lambda value: {} if value is True else None)


# ---- [[listener]] ---------------------------------------------------------------------------------------------------


@frozen
class Limits:
    """Deadlines and caps of one listener's connections: every phase has one. Precedents stand in ``core/limits``."""

    handshake: float | None = setting("10s", "TLS handshake, from accept to its end.", u.SOME_DURATION)
    header: float | None = setting("10s", "Request head, from its first byte to its end; then 408.", u.SOME_DURATION)
    body_idle: float | None = setting("30s", "Silence inside a request body; then 408.", u.SOME_DURATION)
    body_rate: u.Rate | None = setting("240B/s", "Least average rate of a request body, once `body_grace` is over.", u.SOME_RATE)
    body_grace: float = setting("5s", "Time before `body_rate` counts.", u.DURATION)
    write_idle: float | None = setting("60s", "A client that takes no byte of the answer.", u.SOME_DURATION)
    request: float | None = setting("none", "A whole request, from its head to the end of the answer.", u.SOME_DURATION)
    idle: float | None = setting("75s", "Keep-alive: silence between requests.", u.SOME_DURATION)
    tunnel_idle: float | None = setting("none", "Silence in both directions of an upgraded, CONNECT or layer 4 connection.", u.SOME_DURATION)
    ping: float | None = setting("none", "HTTP/2: silence of a client with requests open before it is asked whether it lives (keepalive).", u.SOME_DURATION)
    age: float | None = setting("none", "HTTP/2: age at which a connection is told to come again; what is open finishes.", u.SOME_DURATION)
    linger: float = setting("2s", "Reading on after we closed our side, so that the answer is not lost to a reset.", u.DURATION)
    max_body: int | None = setting("none", "Size of a request body; above it 413.", u.SOME_SIZE)
    streams: int = setting(100, "Requests at once on one HTTP/2 or HTTP/3 connection.", u.count(1, 65535))
    requests: int | None = setting("none", "Requests on one connection before it is closed.", u.SOME_COUNT)
    connections: int | None = setting("none", "Connections at once on this listener, in all workers together.", u.SOME_COUNT)
    line: int = setting("16KiB", "Request line; above it 414.", u.SIZE)
    head: int = setting("64KiB", "Whole request head; above it 431.", u.SIZE)
    headers: int = setting(128, "Header fields in one request; above it 431.", u.count(1, 10000))
    name: int = setting("256B", "Name of one header field; above it 431.", u.SIZE)
    trailer: int = setting("16KiB", "Trailer section after a chunked body.", u.SIZE)
    chunk_line: int = setting("4KiB", "One chunk-size line with its extensions.", u.SIZE)
    chunk_ext: int = setting("16KiB", "Chunk extensions of one body, together.", u.SIZE)
    window: int = setting("64KiB", "Body bytes given to a reader that has not taken them yet.", u.SIZE)
    lookahead: int = setting("64KiB", "Pipelined bytes kept while an answer is made.", u.SIZE)
    outgoing: int = setting("64KiB", "Answer bytes that wait for the client before the writer is told to wait.", u.SIZE)
    drain: int = setting("256KiB", "Unread request body that is read and thrown away to keep the connection.", u.SIZE)

    def core(self) -> CoreLimits:
        """The same in the units of the hot path: nanoseconds, 0 for none."""
        out = CoreLimits(body=self.max_body or 0, body_rate=int(self.body_rate.per_second) if self.body_rate else 0)
        for name in ("line", "head", "headers", "name", "trailer", "chunk_line", "chunk_ext", "window", "lookahead", "outgoing", "drain", "streams", "requests"):
            setattr(out, name, getattr(self, name) or 0)
        for name in ("handshake", "header", "body_idle", "body_grace", "write_idle", "request", "idle", "ping", "age", "linger"):
            setattr(out, name, nanoseconds(getattr(self, name)))
        return out


def nanoseconds(seconds: float | None) -> int:
    """A duration for the hot path; 0 is none."""
    return round(seconds * 1e9) if seconds else 0


PORTS = u.matching("a port range", r"\d{1,5}-\d{1,5}", 'write "49152-65535"')


@frozen
class Turn:
    """Options of `kind = "turn"`: STUN and TURN (RFC 8489, 8656)."""

    realm: str = setting("fairlead", "Realm of the long-term credentials.")
    secret: u.Secret | None = setting("none", "Shared secret of time-limited credentials; without it only STUN is answered.", u.maybe(u.SECRET))
    users: Mapping[str, u.Secret] = setting({}, "Users with a fixed password.", u.mapping(u.SECRET))
    relay: str = setting("49152-65535", "Ports for relayed addresses.", PORTS)
    public: str = setting("", "Address told to clients, when it is not the bound one.")
    lifetime: float = setting("10m", "Lifetime of an allocation.", u.DURATION)
    allocations: int = setting(100, "Allocations of one user.", u.POSITIVE)
    peers: tuple[Any, ...] = setting([], "Networks that may be relayed to; empty is everything but loopback, private and link-local.", u.NETWORKS)


@frozen
class Forward:
    """Options of `kind = "forward"`: a proxy for clients that ask for one."""

    allow: Many = setting([], "Hosts that may be reached (`*.example` covers subdomains); empty is all.", u.TEXTS)
    deny: Many = setting([], "Hosts that may not; stronger than `allow`.", u.TEXTS)
    ports: tuple[int, ...] = setting([80, 443], "Ports that may be reached.", u.several(u.count(1, 65535)))
    clients: tuple[Any, ...] = setting([], "Networks whose clients may use it; empty is all that can connect.", u.NETWORKS)
    private: bool = setting(False, "Allow loopback, private and link-local destinations.", u.FLAG)
    users: Mapping[str, u.Secret] = setting({}, "Users and passwords; empty asks for none.", u.mapping(u.SECRET))
    cache: bool = setting(False, "Keep answers in the cache.", u.FLAG)
    intercept: bool = setting(False, "Open TLS with our own CA, so that it can be seen and cached.", u.FLAG)


@frozen
class Socks5:
    """Options of `kind = "socks5"` (RFC 1928)."""

    allow: Many = setting([], "Hosts that may be reached; empty is all.", u.TEXTS)
    deny: Many = setting([], "Hosts that may not; stronger than `allow`.", u.TEXTS)
    clients: tuple[Any, ...] = setting([], "Networks whose clients may use it; empty is all that can connect.", u.NETWORKS)
    private: bool = setting(False, "Allow loopback, private and link-local destinations.", u.FLAG)
    users: Mapping[str, u.Secret] = setting({}, "Users and passwords (RFC 1929); empty asks for none.", u.mapping(u.SECRET))
    udp: bool = setting(False, "Allow UDP ASSOCIATE.", u.FLAG)


@frozen
class Quic:
    """HTTP/3's transport on a listener with `h3` in `protocols`."""

    engine: str = setting("qh3", "The QUIC engine: `qh3` (Rust; in `fairlead[h3]`), or `aioquic` (Python; a second opinion).", u.choice("qh3", "aioquic"))
    retry: str = setting("auto", "Whether a client must prove its address before we do work for it: `always`, `never`, or `auto` for when `half_open` handshakes are under way.", u.choice("auto", "always", "never"))
    half_open: int = setting(200, "Handshakes under way in one worker from which `auto` asks for proof; from twice as many on, new connections are dropped.", u.POSITIVE)
    congestion: str = setting("cubic", "Congestion control of `aioquic`; `qh3` has `cubic` only.", u.choice("cubic", "reno"))
    datagram: int = setting(1280, "Bytes of the datagrams that we send until path MTU discovery has found what the path takes, and again when it takes that no more: 1280 passes everywhere.", u.count(1200, 9000))
    largest: int = setting(8952, "Bytes of the largest datagram that path MTU discovery tries (RFC 8899); the interface's MTU and the client's own limit count as well. Larger datagrams cost less work for downloads; 0 is no discovery.", u.count(0, 65507))
    ecn: bool = setting(True, "Explicit congestion notification with the engine `aioquic`: datagrams are marked ECT(0) while the path is seen to keep the mark, and a router's mark of congestion slows us as a loss would. Marks of clients are counted and told to them in any case.", u.FLAG)
    qlog: str = setting("", "Directory for a qlog file of each connection (large; to look into one client's trouble); empty is none.", u.PATH)


@frozen
class Listener:
    """A place where clients arrive."""

    name: str = setting("", "Name for routes, logs and metrics; without one: `listener1`, `listener2`, ...", u.matching("a name", r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?", "use letters, digits, '-', '_' and '.'"))
    bind: tuple[u.Address, ...] = setting("127.0.0.1:8000", "Addresses: `host:port`, `[::]:port` or `unix:/path`; one or a list.", u.ADDRESSES)
    kind: str = setting("http", "What is spoken.", u.choice("http", "tcp", "udp", "forward", "socks5", "turn"))
    protocols: Many = setting(["h1", "h2"], "HTTP versions: over TLS the client chooses (ALPN), in plain text `h2` is for clients that begin with its preface; `h3` needs `tls`.", u.several(u.choice("h1", "h2", "h3")))
    tls: Tls | None = table(Tls, "TLS; absent is plain text.", absent=True)
    proxy_protocol: tuple[Any, ...] = setting([], "Peers that must send a PROXY protocol header (v1 or v2).", u.NETWORKS)
    socket: Socket = table(Socket, "Socket options.")
    quic: Quic = table(Quic, "HTTP/3's transport.")
    early_data: bool = setting(False, "Accept TLS 1.3 and QUIC 0-RTT data, with replay protection.", u.FLAG)
    forwarded: tuple[Any, ...] = setting(["127.0.0.1/32", "::1/128", "unix"], "Peers whose `Forwarded` and `X-Forwarded-*` are believed.", u.NETWORKS)
    limits: Limits = table(Limits, "Deadlines and caps.")
    mode: str = setting("rewrite", "Layer 4 only: relay bytes ourselves (`rewrite`) or let the kernel forward (`nat`).", u.choice("rewrite", "nat"))
    upstream: str = setting("", "Layer 4 only: the upstream.")
    sni: Mapping[str, str] = setting({}, "`tcp` only: server name to upstream, without opening TLS.", u.mapping(u.NAME))
    turn: Turn = table(Turn, "Options of `kind = \"turn\"`.")
    forward: Forward = table(Forward, "Options of `kind = \"forward\"`.")
    socks5: Socks5 = table(Socks5, "Options of `kind = \"socks5\"`.")


# ---- [[route]] and [[upstream]] -------------------------------------------------------------------------------------

ANSWERS = ("app", "wsgi", "grpc", "proxy", "files", "topic", "job", "upload", "signal", "redirect", "respond")
HOST = u.matching("a host", r"(\*\.)?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]|\*", 'write "shop.example", or "*.example" for its subdomains, without a port')


@frozen
class Route:
    """Which requests get which answer. The first route in file order that matches answers; exactly one answer per route."""

    listener: Many = setting([], "Only on this listener (or these); empty is all of `kind = \"http\"`.", u.TEXTS)
    host: Many = setting([], "Host names; `*.example` is its subdomains; empty is all.", u.several(HOST))
    path: str = setting("", "`/api/*` is a prefix and also matches `/api`; `/a/{x}` matches one segment; `/a` alone is exact; empty is everything.", u.matching("a path", r"(/\S*)?", 'write "/api/*", "/users/{id}" or "/exact"'))
    methods: Many = setting([], "Methods; others get 405; empty is all. GET includes HEAD.", u.several(u.METHOD))
    headers: Mapping[str, str] = setting({}, "Header fields that must have these values; `*` is any value.", u.FIELDS)
    websocket: WebSocket = table(WebSocket, "WebSockets of a route that answers by `app`.")
    app: App | None = table(App, "A Python application.", absent=True)
    wsgi: App | None = table(App, "The same with `interface = \"wsgi\"`.", absent=True)
    grpc: Grpc | None = table(Grpc, "A gRPC server.", absent=True)
    proxy: Proxy | None = table(Proxy, "A reverse proxy.", absent=True)
    files: Files | None = table(Files, "Files of a directory.", absent=True)
    topic: Topic | None = table(Topic, "A topic.", absent=True)
    job: Job | None = table(Job, "Work done behind the request.", absent=True)
    upload: Upload | None = table(Upload, "Resumable uploads.", absent=True)
    signal: Signal | None = table(Signal, "WebRTC signalling.", absent=True)
    redirect: Redirect | None = table(Redirect, "A redirect.", absent=True)
    respond: Respond | None = table(Respond, "A fixed answer.", absent=True)
    filters: tuple[Filter, ...] = tables(Filter, "Filters, outermost first: names or one-key tables; also written `[[route.filter]]`.", aliases=("filter",))

    @property
    def answers(self) -> Many:
        """The names of the answers that are written; a valid route has one."""
        return tuple(name for name in ANSWERS if getattr(self, name) is not None)

    @property
    def answer(self) -> str:
        """The name of the one answer; "" when there is none."""
        return next(iter(self.answers), "")

    @property
    def application(self) -> App | None:
        """The application of `app` or `wsgi`."""
        return self.app if self.app is not None else self.wsgi

    @property
    def listeners(self) -> Many:
        """The listeners it answers on; empty means all."""
        return self.listener


@frozen
class Target:
    """One server of an upstream. Short form: its address."""

    address: u.Address = setting(REQUIRED, "`host:port` or `unix:/path`.", u.ADDRESS)
    weight: int = setting(1, "Share of the requests, beside the others; 0 gets none.", u.count(0, 65535))
    backup: bool = setting(False, "Used only when no other server is healthy.", u.FLAG)

    short: ClassVar[Callable[[Any], Any]] = short_form("address", str, int)


@frozen
class Health:
    """Active health checks."""

    path: str = setting("", "Path to ask for; empty only connects.", u.matching("a path", r"(/\S*)?", 'write "/healthz"'))
    every: float = setting("2s", "Time between checks.", u.DURATION)
    timeout: float = setting("2s", "Longest check.", u.DURATION)
    rise: int = setting(2, "Good checks in a row that make a server healthy.", u.count(1, 1000))
    fall: int = setting(3, "Bad checks in a row that make it unhealthy.", u.count(1, 1000))
    status: tuple[int, ...] = setting([200, 204], "Answers that are good.", u.several(u.count(100, 599)))
    host: str = setting("", "`Host` to send; empty is the server's address.")
    grpc: bool = setting(False, "Ask grpc.health.v1.Health (over HTTP/2, or HTTP/3 with `protocol = \"h3\"`) in place of a path.", u.FLAG)
    service: str = setting("", "The service that is asked about with `grpc`; empty is the server as a whole.", u.matching("a service", r"([A-Za-z0-9_.]{1,120})?", 'write "package.Service"'))


@frozen
class Eject:
    """Passive health: a server that fails real requests rests for a while."""

    errors: int = setting(5, "Failures in a row; 0 never ejects.", u.COUNT)
    for_: float = setting("30s", "How long it rests.", u.DURATION, key="for")
    most: float = setting("50%", "Most servers at rest at once.", u.PERCENT)


@frozen
class Pool:
    """Connections kept to each server, per worker."""

    warm: int = setting(0, "Connections opened before they are needed.", u.count(0, 10000))
    max: int = setting(128, "Most connections.", u.count(1, 100000))
    idle: float = setting("60s", "How long an unused connection is kept.", u.DURATION)


@frozen
class UpstreamLimits:
    """Admission to one upstream, and what its answers may cost us."""

    requests: int | None = setting(1000, "Requests in flight, in all workers together.", u.SOME_COUNT)
    queue: int = setting(200, "Requests that may wait; above it the answer is 503.", u.COUNT)
    queue_wait: float = setting("1s", "How long a request may wait.", u.DURATION)
    head: int = setting("64KiB", "Whole head of an answer; above it the client gets 502.", u.SIZE)
    headers: int = setting(200, "Header fields of an answer.", u.count(1, 10000))


@frozen
class Timeouts:
    """Deadlines of one request to an upstream."""

    dial: float | None = setting("5s", "Name, connection and TLS together.", u.SOME_DURATION)
    head: float | None = setting("60s", "From the request's end to the answer's head.", u.SOME_DURATION)
    idle: float | None = setting("60s", "Silence inside the answer, or a server that takes no byte of the request.", u.SOME_DURATION)
    total: float | None = setting("none", "The whole exchange, retries included.", u.SOME_DURATION)


@frozen
class Sticky:
    """A client stays with the server it first got. Short form: the cookie's name."""

    cookie: str = setting("lead", "Name of the cookie.", u.FIELD)
    keep: float | None = setting("none", "Lifetime of the cookie; `none` is the browser's session.", u.SOME_DURATION)

    short: ClassVar[Callable[[Any], Any]] = short_form("cookie", str)


BALANCES = ("round-robin", "weighted", "random", "p2c", "least-requests", "peak-ewma", "hash", "maglev", "first")
_BY = re.compile(r"(hash|maglev)\((ip|path|(?:header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+)\)", re.ASCII)


def _balance(value: Any) -> str:
    text = u.read_text(value)
    if (text in BALANCES and text != "hash") or _BY.fullmatch(text):
        return text
    if text.split("(")[0] in ("hash", "maglev"):
        raise u.BadValue(f"{u.quote(text)} does not say by what", 'write "hash(ip)", "hash(path)", "hash(header:x-user)" or "hash(cookie:id)"')
    meant = u.nearest(text.lower(), BALANCES)
    raise u.BadValue(f"{u.quote(text)} is unknown", (f'did you mean "{meant}"? ' if meant else "") + f"allowed: {', '.join(BALANCES)}")


BALANCE = u.Kind(" | ".join(f'"{name}"' for name in BALANCES), _balance, u.quote, choices=BALANCES)


@frozen
class Upstream:
    """A group of servers behind us that can stand in for each other."""

    name: str = setting(REQUIRED, "Name for routes, logs and metrics.", u.NAME)
    balance: str = setting("least-requests", "How a server is picked; `hash(...)` and `maglev(...)` take `ip`, `path`, `header:name` or `cookie:name`.", BALANCE)
    servers: tuple[Target, ...] = tables(Target, "The servers: addresses, or tables with a weight.")
    discover: str = setting("", "Where to find servers: `dns://host:port`, `dns+srv://name`.", u.matching("a discovery URL", r"((dns|dns\+srv|file)://\S+)?", 'write "dns://web.internal:8080" or "dns+srv://_http._tcp.web.internal"'))
    protocol: str = setting("h1", "What is spoken to the servers; `auto` asks by ALPN.", u.choice("h1", "h2", "h2c", "h3", "auto"))
    tls: UpstreamTls | None = table(UpstreamTls, "TLS to the servers; absent is plain text.", absent=True)
    health: Health | None = table(Health, "Active health checks; absent makes none.", absent=True)
    eject: Eject = table(Eject, "Passive health.")
    pool: Pool = table(Pool, "Connections kept to each server.")
    limits: UpstreamLimits = table(UpstreamLimits, "Limits of the upstream.")
    timeouts: Timeouts = table(Timeouts, "Deadlines.")
    socket: Socket = table(Socket, "Socket options.")
    sticky: Sticky | None = table(Sticky, "A client stays with its server; absent does not.", absent=True)


# ---- the whole ------------------------------------------------------------------------------------------------------


@frozen
class Config:
    """A whole configuration. ``source`` is the file it came from; ``sources`` says where each written value came from."""

    server: Server = table(Server, "Execution.")
    admin: Admin = table(Admin, "The admin socket and page.")
    store: Store = table(Store, "What lasts.")
    jobs: Jobs = table(Jobs, "Who works on jobs.")
    listeners: tuple[Listener, ...] = tables(Listener, "Where clients arrive.", "listener")
    routes: tuple[Route, ...] = tables(Route, "Which answer a request gets: the first match in file order.", "route")
    upstreams: tuple[Upstream, ...] = tables(Upstream, "Groups of servers behind us.", "upstream")
    log: Log = table(Log, "Logs.")
    journey: Journey = table(Journey, "The journey of each request.")
    metrics: Metrics = table(Metrics, "Numbers for others.")
    cache: Cache = table(Cache, "The HTTP cache.")
    source: str = field(default="", compare=False)
    sources: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)

    @property
    def fed(self) -> tuple[Route, ...]:
        """What upload routes feed, as routes of their own: for processes that run applications and jobs but take no uploads."""
        found = []
        known = {route.job.run for route in self.routes if route.job is not None}
        for route in self.routes:
            if route.upload is not None and route.upload.app is not None:
                found.append(replace(route, upload=None, app=route.upload.app))
            if route.upload is not None and route.upload.job and route.upload.job not in known:
                known.add(route.upload.job)
                found.append(replace(route, upload=None, job=Job(run=route.upload.job, dir=route.upload.module_dir)))  # type: ignore[call-arg]
        return tuple(found)

    def origin(self, path: str) -> Origin:
        """Where the value at a key path such as ``listener[0].limits.header`` came from."""
        return self.sources.get(path, Origin())
