"""The opening handshake of a WebSocket: over HTTP/1.1 by Upgrade (RFC 6455 section 4), over HTTP/2 and 3 by an extended
CONNECT (RFC 8441, 9220). Both roles, on heads only: what is said and what must be checked, not how it travels.

| | HTTP/1.1 | HTTP/2, HTTP/3 |
|---|---|---|
| asks | `GET`, `Upgrade: websocket`, `Connection: Upgrade`, `Sec-WebSocket-Key` | `CONNECT`, `:protocol: websocket` |
| agrees | 101 and `Sec-WebSocket-Accept` | 200 |

Version, subprotocol and extensions are the same fields in both. The key is no access control (section 10.2 is why there
is `Origin`): it proves that the server speaks WebSocket and no cache answered.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import Error, a2b_base64
from hashlib import sha1

from fairlead.core.errors import AppError, Refused, WireError
from fairlead.core.message import Request, Response

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LONGEST = 2048  # bytes of all offered subprotocols together: HPACK repeats long ones for a byte, and each is a str for the app
OURS = frozenset(
    (b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol", b"upgrade", b"connection")
)


def is_websocket(request):
    """Does this request ask for a WebSocket?"""
    if request.protocol:
        return request.protocol == b"websocket"
    if not request.upgrade or request.method != "GET" or request.length:
        return False
    return request.upgrade == b"websocket" or b"websocket" in listed([request.upgrade])


def check(request):
    """Server: hold the request to the rules (RFC 6455 section 4.2.1). Refused 400, or 426 for another version."""
    version = only(request, b"sec-websocket-version")
    if version != b"13":
        asked = (version or b"none").decode("latin-1")[:20]
        raise Refused(f"WebSocket version {asked} is not spoken here", status=426, hint="version 13 is")
    if sum([len(value) for value in field(request, b"sec-websocket-protocol")]) > LONGEST:
        raise Refused(f"the subprotocols offered are longer than {LONGEST} bytes", status=400)
    if request.protocol:
        return
    key = only(request, b"sec-websocket-key")
    try:
        size = len(a2b_base64(key or b"", strict_mode=True))
    except (Error, ValueError):
        size = 0
    if size != 16:
        raise Refused("Sec-WebSocket-Key is not one value of 16 bytes in base64", status=400)


def only(request, name):
    """The value of a field that must be there once; None for none, b"" for several."""
    found = [value for key, value in request.headers if key == name]
    return found[0] if len(found) == 1 else b"" if found else None


def listed(values):
    """The elements of comma-separated field values, in order."""
    return [part.strip(b" \t") for value in values for part in value.split(b",") if part.strip(b" \t")]


def field(request, name):
    """All values of a field."""
    return [value for key, value in request.headers if key == name]


def subprotocols(request):
    """The subprotocols that the client offers, its favourite first."""
    return [part.decode("latin-1") for part in listed(field(request, b"sec-websocket-protocol"))]


def accept_key(key):
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (section 4.2.2, step 5)."""
    return b64encode(sha1(key + GUID, usedforsecurity=False).digest())


def answer(request, headers, subprotocol, extension):
    """Server: the head that opens the WebSocket. AppError for a subprotocol that was not offered or fields that are ours."""
    for name, _ in headers:
        if name.lower() in OURS:
            raise AppError(
                f"the field {name.decode('latin-1')} is the server's in a handshake", hint="use subprotocol="
            )
    found = list(headers)
    if subprotocol:
        if subprotocol not in subprotocols(request):
            raise AppError(
                f"the subprotocol {subprotocol!r} was not offered", hint="choose one of scope['subprotocols'], or none"
            )
        found.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    if extension:
        found.append((b"sec-websocket-extensions", extension))
    key = only(request, b"sec-websocket-key")
    if request.protocol:
        if key:  # superfluous there (RFC 8441 section 5), but who sends one waits for the answer to it (urllib3.future does)
            found.append((b"sec-websocket-accept", accept_key(key)))
        return Response(200, found)
    found += [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-accept", accept_key(key))]
    return Response(101, found)


def wrong_version(response):
    """Complete a 426: which version is spoken (section 4.4)."""
    response.headers += [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    return response


# ---- client


def ask(authority, target, nonce, *, scheme="http", headers=(), offered=(), extension=b"", version="1.1"):
    """Client: the request that asks for a WebSocket. `nonce`: 16 bytes nobody can guess."""
    found = list(headers)
    found.append((b"sec-websocket-version", b"13"))
    if offered:
        found.append((b"sec-websocket-protocol", ", ".join(offered).encode("latin-1")))
    if extension:
        found.append((b"sec-websocket-extensions", extension))
    if version == "1.1":
        key = b64encode(nonce)
        found += [(b"sec-websocket-key", key), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        request = Request("GET", scheme, authority, target, found)
        request.upgrade = b"websocket"
        return request
    request = Request("CONNECT", scheme, authority, target, found, version, -1)
    request.protocol = b"websocket"
    return request


def verify(request, response, offered=()):
    """Client: the subprotocol that was chosen ("" for none). WireError unless the answer opens the WebSocket (section 4.1)."""
    if response.status != (200 if request.protocol else 101):
        raise WireError(f"the server answered {response.status}", status=502, rule="ws-refused")
    if not request.protocol:
        key = only(request, b"sec-websocket-key")
        if listed([response.upgrade or response.get(b"upgrade") or b""])[:1] not in ([b"websocket"], [b"WebSocket"]):
            raise WireError("the answer does not switch to websocket", status=502, rule="ws-upgrade")
        if only(response, b"sec-websocket-accept") != accept_key(key):
            raise WireError("Sec-WebSocket-Accept is wrong", status=502, rule="ws-accept")
    chosen = only(response, b"sec-websocket-protocol")
    if chosen is None:
        return ""
    if chosen.decode("latin-1") not in offered:
        raise WireError("the server chose a subprotocol that was not offered", status=502, rule="ws-protocol")
    return chosen.decode("latin-1")


# ---- who asks


def good_origin(request, allowed):
    """May a page of the request's Origin open a WebSocket here (section 10.2)? Clients that are no browsers send none.

    `allowed`: origins as browsers write them ("https://shop.example"), "self" for the one of the request itself, or "*".
    """
    values = field(request, b"origin")
    if not values or "*" in allowed:
        return True
    if len(values) > 1:
        return False
    origin = values[0].lower().decode("latin-1")
    own = f"{request.scheme}://{request.authority.decode('latin-1').lower()}"
    return origin in [own if one == "self" else one.lower().rstrip("/") for one in allowed]
