"""What all QUIC connections of one listener, or to one upstream, have in common: certificates, limits, tickets; and the engines'
own configuration objects made of it.

Rules
1. Only version 1 (RFC 9000): qh3's key update does not interoperate on version 2.
2. Certificates are chosen as for TCP (`net.tls`): the exact name, then a wildcard over one label, else the first.
3. An engine credits what was pulled from it, so its windows are what a connection may hold of what nobody has read yet:
   `stream_window` of each stream, `window` of all.
4. A client's certificate is asked for by `net.quicauth`; ours is shown by the engine (`pair` of a client's settings).
"""

from __future__ import annotations

import ssl
from importlib import import_module
from pathlib import Path
from typing import Any

from fairlead.net import certs
from fairlead.net.tls import password_of

VERSION = 1


class QuicSettings:
    """See the module. `tickets` is a `net.quictickets.Tickets` or None."""

    def __init__(self, engine: str = "qh3", *, client: bool = False, alpn: tuple[str, ...] = ("h3",)) -> None:
        self.engine = engine
        self.client = client
        self.alpn = list(alpn)
        self.tickets: Any = None
        self.early_data = False
        self.idle = 80.0
        self.window = 1 << 20
        self.stream_window = 1 << 18
        self.congestion = "cubic"
        self.qlog = ""
        self.name = ""
        self.ca = ""
        self.verify = True
        self.ticket: Any = None
        self.datagram = 65535  # bytes of a DATAGRAM frame that we take
        self.size = 1280  # bytes of our datagrams
        self.ecn = True  # mark what is sent (RFC 9000 section 13.4), where the engine can
        self.most = 0  # bytes of the largest that path MTU discovery tries; 0 or below `size` is none
        self.exact: dict[str, Any] = {}
        self.wildcard: dict[str, Any] = {}
        self.first: Any = None
        self.made: Any = None
        self.ready: dict[int, Any] = {}  # of a pair's id: how `net.quictls` shows it
        self.told = b""  # transport parameters that are the same for all connections
        self.trust: Any = None  # a `quicauth.Trust`, on a listener that asks for certificates
        self.pair: Any = None  # what we show as a client: (certificate, chain, key)

    # ---- certificates

    def load(self, tls: Any) -> None:
        """The certificates of a listener's `tls` settings. Raises ConfigError."""
        if tls.client_ca:
            from fairlead.net.quicauth import Trust

            self.trust = Trust(tls.client_ca, tls.client_auth != "optional")
        pairs = [*tls.certificates]
        if tls.mode == "dev":
            certificate, key = certs.dev_ca().leaf(tuple(tls.names))
            pairs.insert(0, type("Pair", (), {"certificate": certificate, "key": key, "password": None}))
        elif tls.certificate:
            pairs.insert(0, tls)
        for pair in pairs:
            self.add(pair.certificate, pair.key or pair.certificate, password_of(pair.password))

    def show(self, tls: Any) -> None:
        """The certificate of an upstream's `tls` settings is ours. Raises ConfigError."""
        if tls.certificate:
            password, key = password_of(tls.password), tls.key or tls.certificate
            certs.load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls.certificate, key, password)
            self.pair = self.parse(Path(tls.certificate).read_bytes(), Path(key).read_bytes(), password)

    def asking(self, engine: Any, context: Any, module: Any, output: Any) -> Any:
        """Who asks a client of this connection for its certificate."""
        from fairlead.net.quicauth import ClientAuth

        return ClientAuth(engine, context, module, output)

    def add(self, certificate: str, key: str, password: str | None) -> None:
        """One certificate: the names in it choose it."""
        info = certs.load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key, password)
        pair = self.parse(Path(certificate).read_bytes(), Path(key).read_bytes(), password)
        self.first = self.first or pair
        for name in info.names:
            if name.startswith("*."):
                self.wildcard.setdefault(name[2:], pair)
            else:
                self.exact.setdefault(name, pair)

    def parse(self, certificate: bytes, key: bytes, password: str | None) -> tuple[Any, list[Any], Any]:
        """(certificate, chain, key) as the engine has them."""
        from cryptography.hazmat.primitives import serialization as s

        secret = s.load_pem_private_key(key, password.encode() if password else None)
        plain = secret.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        if self.engine == "qh3":
            from qh3 import tls

            chain = tls.load_pem_x509_certificates(certificate)
            return chain[0], list(chain[1:]), tls.load_pem_private_key(plain)
        from aioquic import tls as other

        found = other.load_pem_x509_certificates(certificate)
        return found[0], found[1:], secret

    def choose(self, name: str) -> tuple[Any, list[Any], Any]:
        """Rule 2."""
        name = name.lower().rstrip(".")
        found = self.exact.get(name) or self.wildcard.get(name.partition(".")[2]) or self.first
        return found  # type: ignore[no-any-return]

    def shown(self, name: str) -> Any:
        """The certificate for a name, as `net.quictls` shows it."""
        pair = self.choose(name)
        found = self.ready.get(id(pair))
        if found is None:
            from fairlead.net.quictls import Shown

            found = self.ready[id(pair)] = Shown(pair)
        return found

    # ---- the engines' objects

    def common(self, module: Any) -> Any:
        """What both have."""
        made = module.QuicConfiguration(is_client=self.client, alpn_protocols=self.alpn)
        made.connection_id_length = 8
        made.idle_timeout = self.idle
        made.max_data = self.window
        made.max_stream_data = self.stream_window
        made.max_datagram_frame_size = self.datagram
        made.max_datagram_size = self.size
        made.supported_versions = [VERSION]
        if self.client:
            made.server_name = self.name or None
            made.session_ticket = self.ticket
            made.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
            made.cafile = self.ca or None
            if self.pair is not None:
                made.certificate, made.certificate_chain, made.private_key = self.pair
        else:
            made.certificate, made.certificate_chain, made.private_key = self.first
        if self.qlog:
            made.quic_logger = self.logger()
        return made

    def qh3(self) -> Any:
        """For qh3; one object for all connections of a server."""
        if self.made is None or self.client:
            from qh3.quic import configuration

            self.made = self.common(configuration)
            self.made.probe_datagram_size = False  # a client's own probes end at 1,472 bytes; `net.quicmtu` is for both roles
        return self.made

    def aioquic(self) -> Any:
        """For aioquic."""
        if self.made is None or self.client:
            from aioquic.quic import configuration

            self.made = self.common(configuration)
            self.made.congestion_control_algorithm = self.congestion
        return self.made

    def logger(self) -> Any:
        """A qlog file for each connection, in a directory."""
        return import_module(f"{self.engine}.quic.logger").QuicFileLogger(self.qlog)
