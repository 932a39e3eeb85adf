"""What a servicer sees of its call: the `context` of grpc.aio (grpc.aio.ServicerContext), of which the call itself is one.

`context.journey` is the call's journey: `with context.journey.step("sql"):` times a part of the servicer.

Rules
1. Metadata is read out of the request's fields when it is first asked for. Keys of HTTP and of gRPC itself are not in it.
2. `set_code`, `set_details` and `set_trailing_metadata` are kept until the call ends. `abort` ends it: it raises, and what the
   servicer does after it caught that is not said any more. A second `abort` is a mistake in the servicer.
3. Initial metadata leaves with the head: at once when it is sent by itself, else with the first message or the end.
4. The peer is written as grpcio does: `ipv4:1.2.3.4:5`, `ipv6:%5B::1%5D:5`, `unix:/path`.
5. A client that proved who it is by a certificate is in `auth_context` by the names that grpcio uses.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

import ssl
from typing import Any

from fairlead.serve.done import DONE
from fairlead.serve.grpcmethods import CODES, Aborted, Metadatum, Misused, number_of
from fairlead.serve.grpcserver import coding_name
from fairlead.serve.runner import Work
from fairlead.wire.grpcwords import hear_metadata, say_metadata


class Context(Work):
    """See the module. The states of the call itself are in `serve.grpccall`."""

    def overdue(self):
        """The deadline has come; `serve.grpccall` ends the call."""

    # ---- who asks, and for how long

    def invocation_metadata(self):
        """The client's metadata: a tuple of (key, value), values bytes for keys in -bin."""
        if self.metadata is None:
            found = hear_metadata(self.exchange.request.listed())
            self.metadata = tuple([Metadatum(key, value) for key, value in found])
        return self.metadata

    def peer(self):
        """The client's address."""
        exchange = self.exchange
        client = exchange.client if exchange.client is not None else exchange.conn.peer
        if type(client) is not tuple:
            return f"unix:{client or ''}"
        host, port = client[0], client[1]
        return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def auth_context(self):
        """What is known of the client and of how it is connected: names with lists of bytes."""
        if self.auth is None:
            self.auth = auth_of(self.exchange)
        return self.auth

    def peer_identity_key(self):
        """The name in `auth_context` under which the client's identities stand, or None."""
        auth = self.auth_context()
        for key in ("x509_subject_alternative_name", "x509_common_name", "principal"):
            if auth.get(key):
                return key
        return None

    def peer_identities(self):
        """Who the client proved to be, or None."""
        key = self.peer_identity_key()
        return self.auth_context()[key] if key is not None else None

    def time_remaining(self):
        """Seconds until the deadline, not negative; None when there is none."""
        if not self.deadline:
            return None
        left = self.deadline - self.clock.now()
        return left / 1e9 if left > 0 else 0.0

    def cancelled(self):
        """Was the call cancelled, by its client or by its deadline?"""
        return self.gone

    def done(self):
        """Is the call over?"""
        return self.complete or self.gone

    def add_done_callback(self, callback):
        """Have `callback(context)` called when the call is over."""
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append(callback)

    @property
    def principal(self):
        """Who the client proved to be to a filter of the route (a user name, or a token's claims), or None."""
        return self.exchange.principal

    # ---- how it ends

    def code(self):
        """The status as it was set; 0 before."""
        return self.given_code if self.given_code is not None else CODES.get(0, 0)

    def details(self):
        """The status message as it was set."""
        return self.text

    def trailing_metadata(self):
        """The trailing metadata as it was set."""
        return self.given_trailing if self.given_trailing is not None else ()

    def set_code(self, code):
        """Set the status (a grpc.StatusCode, or its number)."""
        self.status = number_of(code)
        self.given_code = code

    def set_details(self, details):
        """Set the status message."""
        self.text = details if isinstance(details, str) else bytes(details).decode("utf-8", "replace")

    def set_trailing_metadata(self, trailing_metadata):
        """Set the trailing metadata: (key, value) pairs."""
        self.trailing = say_metadata(trailing_metadata)
        self.given_trailing = tuple(trailing_metadata)

    async def abort(self, code, details="", trailing_metadata=()):
        """End the call with a status that is not OK. Raises."""
        self.aborts(code, details, trailing_metadata)

    async def abort_with_status(self, status):
        """End the call with a `grpc.Status`. Raises."""
        self.aborts(status.code, status.details, status.trailing_metadata)

    def aborts(self, code, details, trailing_metadata):
        """Both of them."""
        if self.aborted:
            raise Misused("abort was called already")
        number = number_of(code)
        if number == 0:
            number, details = 2, "abort was called with the status OK"
        self.aborted = True
        self.status = number
        self.given_code = code
        self.set_details(details or "")
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        raise Aborted("the call was aborted")

    # ---- metadata and compression of the answer

    def send_head(self):
        """Say the head now; `serve.grpccall` does."""

    def send_initial_metadata(self, initial_metadata):
        """Send the answer's head, with these (key, value) pairs. An awaitable."""
        if self.said:
            raise Misused("the initial metadata was sent already")
        self.initial = say_metadata(initial_metadata)
        if not self.complete and not self.gone:
            self.send_head()
        return DONE

    def set_compression(self, compression):
        """Compress the messages to come: a grpc.Compression, or "gzip", "deflate", "zstd", "identity"."""
        if self.said:
            raise Misused("the initial metadata was sent already")
        self.wanted = coding_name(compression)

    def disable_next_message_compression(self):
        """The next message is sent as it is."""
        self.as_is = True


def auth_of(exchange: Any) -> dict[str, list[bytes]]:
    """The `auth_context` of an exchange."""
    found: dict[str, list[bytes]] = {}
    if exchange.principal is not None:
        principal = exchange.principal
        name = principal.get("sub", "") if isinstance(principal, dict) else principal
        found["principal"] = [str(name).encode()]
    engine = exchange.conn.tls
    if engine is None:
        return found
    found["transport_security_type"] = [b"ssl"]
    der = engine.peer_cert
    if der:
        found["x509_pem_cert"] = [ssl.DER_cert_to_PEM_cert(der).encode()]
        found.update(names_of(der))
    return found


def names_of(der: bytes) -> dict[str, list[bytes]]:
    """The common name and the alternative names of a certificate; nothing without the `cryptography` package."""
    try:
        from cryptography import x509
    except ImportError:
        return {}
    certificate = x509.load_der_x509_certificate(der)
    found = {}
    names = [one.value for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if names:
        found["x509_common_name"] = [str(name).encode() for name in names]
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return found
    found["x509_subject_alternative_name"] = [str(one.value).encode() for one in extension.value]
    return found
