"""TLS as a box: ciphertext in, plaintext out, and back. No socket, no clock, one `Engine` per connection.

`ServerTls` and `ClientTls` turn settings into `ssl.SSLContext`s once and hand out engines. They are not changed
afterwards: new certificates mean a new object, which new connections use while old ones finish on theirs.

Two engines with the same promises (the same tests run on both):
- `OpensslEngine` calls the libssl that Python's `ssl` has loaded (`_libssl.pyx`): about half the time of
  `ssl.SSLObject`, no buffers while a connection is idle, tickets shared by all workers. It reads two pointers from
  structs of `_ssl` that are not public, so it is used only where the layout is known (`tlschoice`) and after a
  child process tried it once.
- `PlainEngine` is `ssl.SSLObject` with two `MemoryBIO`s: for everything else, and for the interpreted build.
`FAIRLEAD_TLS_ENGINE=ssl|openssl` forces one of them.

Rules
- `take()` after every `feed`, also after one that raised: alerts (RFC 8446 6.2), KeyUpdate answers (4.6.3) and
  tickets are made there. An alert that is not sent leaves the peer guessing why its connection died.
- TLS 1.2 answers close_notify at once and drops what was not sent (RFC 5246 7.2.1). In TLS 1.3 only the peer's
  direction is closed (RFC 8446 6.1): an answer may still be finished, then `close()`.
- Options are added (`|=`), never assigned: assigning would clear middlebox compatibility (RFC 8446 D.4).
- Defaults are Mozilla's "intermediate" without DHE: TLS 1.2 and 1.3, ECDHE with AEAD, X25519, P-256, P-384, no
  renegotiation, no compression, tickets. The order is ours, as scanners ask; ChaCha20 for those who put it first.
- Ticket keys are mixed with the rules for client certificates, so a ticket of a listener without them opens nothing
  on a listener that wants them.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.core.errors import ConfigError, WireError
from fairlead.net import certs
from fairlead.net import tlschoice as choice
from fairlead.net.tlschoice import engine_kind, unusable

MOZILLA_INTERMEDIATE = ":".join(
    f"ECDHE-{kind}-{seal}"
    for seal in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for kind in ("ECDSA", "RSA")
)
GROUPS = ("X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384")  # the first needs OpenSSL 3.5
SUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
OP_PRIORITIZE_CHACHA = 1 << 21  # ChaCha20 for clients that put it first, because they lack AES instructions
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SESSIONS_KEPT = 256  # per ClientTls, by server name
HTTP_START = re.compile(rb"[A-Z]{3,16} [/*h][^\r\n]*|[A-Z]{3,16} [^\s]+ HTTP/|PRI \* HTTP/2")

# OpenSSL's reasons that people meet, in other words: what happened, what would be right
TRUST = "`fairlead cert ca` says how to trust the development CA"
EXPLAINED = {
    "UNSUPPORTED_PROTOCOL": ("the peer offers no TLS version that is allowed here", "1.2 and 1.3 are; see `tls.min`"),
    "WRONG_VERSION_NUMBER": ("the peer does not speak TLS", "connect with TLS, or use a listener without `tls`"),
    "NO_SHARED_CIPHER": ("the peer offers no cipher that is allowed here", "ECDHE with AES-GCM or ChaCha20 is"),
    "NO_APPLICATION_PROTOCOL": ("the peer asks for protocols (ALPN) that are not spoken here", ""),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("the client showed no certificate", "`tls.client_ca` needs one"),
    "CALLBACK_FAILED": ("the client asked for a name that is no host name", ""),
    "CERTIFICATE_VERIFY_FAILED": ("the peer's certificate was not accepted", ""),
    "TLSV1_ALERT_UNKNOWN_CA": ("the peer does not trust the CA of our certificate", TRUST),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("the peer did not accept our certificate", TRUST),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("the peer did not accept our certificate", ""),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("the peer says that our certificate has expired", ""),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the server wants a client certificate",
        "set `tls.certificate` and `tls.key`",
    ),
    "TLSV1_ALERT_PROTOCOL_VERSION": ("the peer allows none of our TLS versions", ""),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": ("the peer found no settings in common", ""),
    "TLSV1_UNRECOGNIZED_NAME": ("the server does not know the name we asked for", "check `tls.name`"),
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": ("a record was damaged on its way", ""),
}


class TlsError(WireError):
    """A handshake or a record that failed; the engine is dead, and `take()` still holds the alert for the peer.

    `reason` is OpenSSL's reason ("NO_SHARED_CIPHER"). `plain_http` says that the peer spoke HTTP without TLS: there
    is no alert then, so that a listener can answer with a plain 400.
    """

    def __init__(
        self, message: str, *, reason: str = "", plain_http: bool = False, side: str = "peer", hint: str = ""
    ) -> None:
        rule = "tls-" + reason.lower().replace("_", "-")
        super().__init__(message, status=400 if plain_http else 0, rule=rule, side=side, retry="fresh", hint=hint)
        self.reason = reason
        self.plain_http = plain_http


@dataclass(frozen=True, kw_only=True)
class CertificateFiles:
    """A certificate and its key as PEM files; an empty `key` means that it is in the certificate file."""

    certificate: str
    key: str = ""
    password: Any = None


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What `ServerTls` reads; `run.config.Tls` has the same attributes."""

    mode: str = "files"
    certificate: str = ""
    key: str = ""
    password: Any = None
    certificates: tuple[Any, ...] = ()
    client_ca: str = ""
    client_auth: str = "require"
    min: str = "1.2"
    max: str = "1.3"
    ciphers: str = ""
    tickets: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """What `ClientTls` reads; `run.config.UpstreamTls` has the same attributes."""

    verify: bool = True
    name: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    password: Any = None
    min: str = "1.2"


# ---- engines ---------------------------------------------------------------------------------------------------------


def self_test() -> None:
    """What the child does: a ClientHello out, into a server without a certificate, and its alert back. Prints
    "good".
    """
    if unusable():
        return
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    one = OpensslEngine(None, client, wrap(client, False, "localhost"))
    two = OpensslEngine(None, server, wrap(server, True, None))
    hello = one.take()
    for engine, flight in ((two, hello), (one, None)):
        try:
            engine.feed(two.take() if flight is None else flight)
        except TlsError:
            continue
        return
    one.free()
    two.free()
    if hello.startswith(b"\x16\x03"):
        print("good")


# wrap_bio wants a pair; the fast engine replaces it at once, so all share this one. Two of them: given one for both
# directions, CPython takes a reference more than OpenSSL gives back.
_NEVER_READ, _NEVER_WRITTEN = ssl.MemoryBIO(), ssl.MemoryBIO()


def wrap(context: ssl.SSLContext, server: bool, name: str | None) -> ssl.SSLObject:
    """An SSLObject that only lends its SSL."""
    return context.wrap_bio(_NEVER_READ, _NEVER_WRITTEN, server_side=server, server_hostname=name)


class Engine:
    """One connection's TLS. `done` says that the handshake is over; from then on `alpn`, `version`, `cipher`, `resumed`
    and `peer_cert` (DER) are known, and on a server `server_name`. `closed_by_peer`: close_notify came, so the end of
    the stream is no truncation. `failed` is the TlsError that ended it.
    """

    def __init__(self, home: Any) -> None:
        self.done = False
        self.closed_by_peer = False
        self.alpn: str | None = None
        self.server_name: str | None = None
        self.failed: Any = None
        self.scope: Any = None  # what ASGI says of it, made when first asked for
        self.home: Any = home
        self.ssl_object: Any = None
        self.facts: Any = None
        self.held: Any = None
        self.fed = False

    def feed(self, data: bytes) -> bytes:
        """Take ciphertext, return the plaintext of all records that are now whole, joined. Raises TlsError."""
        return b""

    def write(self, data: bytes) -> None:
        """Encrypt `data` for `take`. Before the handshake is done it is kept until then."""

    def take(self) -> bytes:
        """Ciphertext to send, b"" when there is none."""
        return b""

    def close(self) -> None:
        """Queue close_notify: we say no more."""

    def free(self) -> None:
        """Give up everything OpenSSL holds, now. Nothing may be called afterwards but `take`."""

    def finish(self) -> None:
        """The handshake is over: note what is needed on every connection, send what was held back."""
        self.done = True
        self.alpn = self.facts.selected_alpn_protocol()
        self.server_name = getattr(self.ssl_object, "asked_name", None)
        if self.held is not None:
            held, self.held = self.held, None
            self.write(b"".join(held))

    @property
    def version(self) -> str:
        """ "TLSv1.3"; "" before the handshake is done and after `free`."""
        return (self.facts.version() or "") if self.done and self.facts is not None else ""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher; "" like `version`."""
        return self.facts.cipher()[0] if self.done and self.facts is not None else ""

    @property
    def resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return bool(self.done and self.facts is not None and self.facts.session_reused)

    @property
    def peer_cert(self) -> bytes | None:
        """The peer's certificate in DER, None when it showed none."""
        return self.facts.getpeercert(True) if self.done and self.facts is not None else None


class OpensslEngine(Engine):
    """On libssl itself (`_libssl.Channel`)."""

    def __init__(self, home: Any, context: ssl.SSLContext, lender: ssl.SSLObject, session: Any = None) -> None:
        Engine.__init__(self, home)
        self.ssl_object = lender  # the SNI callback needs it; dropped once the handshake is over
        self.facts = lender._sslobj  # type: ignore[attr-defined]
        self.channel = choice.leaf.Channel(self.facts, context)
        if not lender.server_side:
            self.channel.start(session)

    def feed(self, data: bytes) -> bytes:
        if self.failed is not None:
            raise self.failed
        try:
            plain = self.channel.feed(data)
        except choice.leaf.Broken as error:
            self.failed = explain(error.args[0], error.args[1], self, data)
            raise self.failed from None
        if not self.done:
            self.fed = True
            if self.channel.done:
                self.finish()
                self.ssl_object = None
        if self.channel.closed and not self.closed_by_peer:
            self.closed_by_peer = True
            if self.version == "TLSv1.2":
                self.channel.bye()
        return plain

    def write(self, data: bytes) -> None:
        if not self.done:
            hold(self, data)
            return
        if self.channel.said_bye or self.channel.broken:
            refuse_write(self)
            return
        try:
            self.channel.write(data)
        except choice.leaf.Broken as error:
            self.failed = explain(error.args[0], 0, self, b"")
            raise self.failed from None

    def take(self) -> bytes:
        return self.channel.take()

    def close(self) -> None:
        self.remember()
        self.channel.bye()

    def remember(self) -> None:
        """A client keeps its newest session by server name, for the next connection (TLS 1.3 tickets come late)."""
        if self.done and self.failed is None and self.facts is not None and isinstance(self.home, ClientTls):
            self.home.keep_session(self.facts.server_hostname or "", self.channel.session())

    def free(self) -> None:
        self.remember()
        self.channel.free()
        self.facts = None
        self.ssl_object = None
        self.home = None


class PlainEngine(Engine):
    """On `ssl.SSLObject`: slower, and it keeps its buffers, but it needs nothing that is not public."""

    def __init__(self, home: Any, context: ssl.SSLContext, server: bool, name: str | None) -> None:
        Engine.__init__(self, home)
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.said_bye = False
        self.ssl_object = context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=name)
        self.facts = self.ssl_object
        if not server:
            self.read_all()

    def feed(self, data: bytes) -> bytes:
        if self.failed is not None:
            raise self.failed
        if self.closed_by_peer or self.facts is None:
            return b""
        self.incoming.write(data)
        try:
            plain = self.read_all()
        except ssl.SSLError as error:
            self.failed = explain(error.reason or "", getattr(error, "verify_code", 0), self, data)
            raise self.failed from None
        if not self.done:
            self.fed = True
        if self.closed_by_peer and self.version == "TLSv1.2":
            self.say_bye()
        return plain

    def read_all(self) -> bytes:
        """Go on with the handshake, then read until nothing more can be had."""
        plain: list[bytes] = []
        try:
            if not self.done:
                self.ssl_object.do_handshake()
                self.finish()
            while True:
                chunk = self.ssl_object.read(65536)
                if not chunk:
                    self.closed_by_peer = True
                    break
                plain.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed_by_peer = True
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def write(self, data: bytes) -> None:
        if not self.done:
            hold(self, data)
            return
        if self.said_bye or self.failed is not None or self.facts is None:
            refuse_write(self)
            return
        sent, view = 0, memoryview(data)
        try:
            while sent < len(data):
                sent += self.ssl_object.write(view[sent:])
        except ssl.SSLError as error:
            self.failed = explain(error.reason or "", 0, self, b"")
            raise self.failed from None

    def take(self) -> bytes:
        if self.failed is not None and self.failed.plain_http:
            return b""
        return self.outgoing.read() if self.outgoing.pending else b""

    def say_bye(self) -> None:
        """Queue close_notify, once."""
        if self.said_bye or not self.done or self.failed is not None or self.facts is None:
            return
        self.said_bye = True
        try:
            self.ssl_object.unwrap()
        except ssl.SSLError:
            pass

    def close(self) -> None:
        self.say_bye()

    def free(self) -> None:
        self.ssl_object = None
        self.facts = None
        self.home = None


def hold(engine: Engine, data: bytes) -> None:
    """Keep plaintext that came before the handshake was done."""
    if engine.failed is not None:
        raise engine.failed
    if engine.held is None:
        engine.held = []
    engine.held.append(data)


def refuse_write(engine: Engine) -> None:
    """A peer that closed wants no more, so what is said to it is dropped; after our own `close` a write is our
    mistake.
    """
    if engine.failed is not None:
        raise engine.failed
    if not engine.closed_by_peer:
        raise TlsError("written after close()", reason="PROTOCOL_IS_SHUTDOWN", side="us")


def explain(reason: str, verdict: int, engine: Engine, data: bytes) -> TlsError:
    """The TlsError for OpenSSL's `reason`."""
    reason = reason.upper().replace(" ", "_")
    phase = "connection" if engine.done else "handshake"
    if not engine.done and not engine.fed and speaks_http(reason, data):
        engine.take()  # no alert: the peer would take it for the beginning of an answer
        return TlsError(
            "plain HTTP on a port that speaks TLS",
            reason="HTTP_REQUEST",
            plain_http=True,
            hint="use https:// for this port",
        )
    what, hint = EXPLAINED.get(reason, (reason.lower().replace("_", " "), ""))
    if reason == "CERTIFICATE_VERIFY_FAILED" and verdict and choice.leaf is not None:
        what = f"{what}: {choice.leaf.verify_text(verdict)}"
    elif reason == "CERTIFICATE_VERIFY_FAILED" and verdict:
        what = f"{what}: verification code {verdict}"
    return TlsError(f"TLS {phase} failed: {what} ({reason})", reason=reason, hint=hint)


def speaks_http(reason: str, data: bytes) -> bool:
    """Whether the first bytes of a connection are an HTTP request."""
    return reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST") or HTTP_START.match(data[:200]) is not None


# ---- contexts --------------------------------------------------------------------------------------------------------


def new_ticket_key() -> bytes:
    """80 random bytes: 16 name, 32 HMAC, 32 AES. The master makes one, gives it to all workers, and replaces it."""
    return os.urandom(80)


def password_of(value: Any) -> str | None:
    """The password as text: a string, or something with `value()` such as a secret by reference."""
    return value.value() if hasattr(value, "value") else value


def alpn_wire(protocols: Sequence[str]) -> bytes:
    """RFC 7301 3.1: each name with its length before it."""
    return b"".join(bytes((len(name),)) + name.encode("ascii") for name in protocols)


def harden(context: ssl.SSLContext, least: str, most: str, ciphers: str) -> None:
    """What both sides share."""
    context.minimum_version = VERSIONS[least]
    context.maximum_version = VERSIONS[most]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.set_ciphers(ciphers or MOZILLA_INTERMEDIATE)
    except ssl.SSLError:
        raise ConfigError(f"OpenSSL knows none of the ciphers {ciphers!r}", hint="see `openssl ciphers`") from None
    if engine_kind() == "openssl":
        choice.leaf.set_suites(context, SUITES)
        for groups in GROUPS:
            if choice.leaf.set_groups(context, groups):
                break


def load_ca(context: ssl.SSLContext, path: str, key: str) -> None:
    """Trust the CAs in a PEM file; `key` is the setting that names it."""
    certs.read_pem(path, f"`{key}`")
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigError(
            f"{path}: no CA certificate in it", hint=f"`{key}` is a PEM file with CA certificates"
        ) from None


class ServerTls:
    """TLS for a listener's connections. `settings` is a `ServerSettings` or has its attributes; `alpn` in our order;
    `ticket_keys` as of `new_ticket_key`, newest first (none: tickets work within this object only).

    `warnings` holds what is not wrong yet (a certificate near its end). Raises ConfigError that names the file.
    """

    def __init__(
        self, settings: Any, *, alpn: Sequence[str] = ("http/1.1",), ticket_keys: Sequence[bytes] = ()
    ) -> None:
        self.settings = settings
        self.alpn = tuple(alpn)
        self.fast = engine_kind() == "openssl"
        self.warnings: list[str] = []
        self.exact: dict[str, ssl.SSLContext] = {}
        self.wildcard: dict[str, ssl.SSLContext] = {}
        self.contexts: list[ssl.SSLContext] = []
        for pair in self.pairs():
            self.add(pair)
        self.context = self.contexts[0]
        self.context.sni_callback = self.choose
        if ticket_keys:
            self.set_ticket_keys(ticket_keys)

    def pairs(self) -> list[Any]:
        """The certificates, default first."""
        given = self.settings
        if given.mode == "dev":
            certificate, key = certs.dev_ca().leaf(tuple(given.names))
            return [CertificateFiles(certificate=certificate, key=key), *given.certificates]
        first = [given] if given.certificate else []
        if not first and not given.certificates:
            raise ConfigError("TLS without a certificate", hint='set `certificate` and `key`, or `tls = "dev"`')
        return [*first, *given.certificates]

    def add(self, pair: Any) -> None:
        """One certificate, one context: the names in it choose it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        info = certs.load_pair(context, pair.certificate, pair.key, password_of(pair.password))
        self.warnings.extend(info.warnings)
        self.configure(context)
        self.contexts.append(context)
        for name in info.names:
            if name.startswith("*."):
                self.wildcard.setdefault(name[2:], context)
            else:
                self.exact.setdefault(name, context)

    def configure(self, context: ssl.SSLContext) -> None:
        """Everything but the certificate."""
        given = self.settings
        harden(context, given.min, given.max, given.ciphers)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | OP_PRIORITIZE_CHACHA
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if not given.tickets:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        if given.client_ca:
            load_ca(context, given.client_ca, "client_ca")
            context.verify_mode = ssl.CERT_OPTIONAL if given.client_auth == "optional" else ssl.CERT_REQUIRED
        if self.fast:
            choice.leaf.no_session_cache(context)
            if self.alpn:
                choice.leaf.set_alpn(context, alpn_wire(self.alpn))
            if given.client_ca:
                choice.leaf.send_client_ca_names(context, given.client_ca)

    def set_ticket_keys(self, keys: Sequence[bytes]) -> None:
        """The keys of all workers, newest first; at once, for connections to come. Without the fast engine: nothing."""
        if not self.fast:
            return
        salt = b""
        if self.settings.client_ca:
            salt = self.settings.client_auth.encode() + Path(self.settings.client_ca).read_bytes()
        own = [hashlib.shake_256(key + salt).digest(80) for key in keys]
        for context in self.contexts:
            choice.leaf.set_ticket_keys(context, own)

    def choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        """The SNI callback: exact name, then wildcard over one label (RFC 6125 6.4.3), else the first certificate."""
        connection.asked_name = name
        if name is None or len(self.contexts) == 1:
            return
        name = name.lower().rstrip(".")
        chosen = self.exact.get(name) or self.wildcard.get(name.partition(".")[2])
        if chosen is not None and chosen is not context:
            connection.context = chosen

    def engine(self) -> Engine:
        """An engine for a connection that was accepted."""
        if self.fast:
            return OpensslEngine(self, self.context, wrap(self.context, True, None))
        return PlainEngine(self, self.context, True, None)


class ClientTls:
    """TLS towards an upstream. `settings` is a `ClientSettings` or has its attributes."""

    def __init__(self, settings: Any, *, alpn: Sequence[str] = ("http/1.1",)) -> None:
        self.settings = settings
        self.fast = engine_kind() == "openssl"
        self.sessions: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        harden(context, settings.min, "1.3", "")
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif settings.ca:
            load_ca(context, settings.ca, "ca")
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if settings.certificate:
            info = certs.load_pair(context, settings.certificate, settings.key, password_of(settings.password))
            self.warnings.extend(info.warnings)
        if alpn:
            context.set_alpn_protocols(list(alpn))

    def engine(self, server_name: str | None = None) -> Engine:
        """An engine whose first flight waits in `take()`. `server_name` is the host dialed; `name` of the
        settings wins.
        """
        name = self.settings.name or server_name or None
        if name is None and self.context.check_hostname:
            raise ConfigError(
                "no name to check the server's certificate against", hint="set `tls.name`, or `verify = false`"
            )
        if self.fast:
            return OpensslEngine(self, self.context, wrap(self.context, False, name), self.sessions.get(name or ""))
        return PlainEngine(self, self.context, False, name)

    def keep_session(self, name: str, session: Any) -> None:
        """Remember a server's newest session. `PlainEngine` keeps none: `SSLObject.session` leaks with every look."""
        if session is None:
            return
        if len(self.sessions) >= SESSIONS_KEPT:
            self.sessions.pop(next(iter(self.sessions)))
        self.sessions[name] = session
