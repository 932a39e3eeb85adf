"""Standard Webhooks 1.0: what a signature covers, how keys are written, and checking one. No clock: times are arguments.

Rules
1. Signed are the bytes `<id>.<timestamp>.<body>`: the id is the same for every attempt of a message, the timestamp is the
   attempt's. So an id has no dot.
2. `webhook-signature` is a list separated by spaces, one signature for each key that is valid now: a receiver that knows
   any one of them is satisfied, and that is how keys rotate.
3. Keys are text: `whsec_<base64>` is an HMAC-SHA256 secret of 24 to 64 bytes (signature `v1,<base64>`), `whsk_<base64>`
   an ed25519 private key (seed and public key, or the seed alone) and `whpk_<base64>` its public half (`v1a,<base64>`).
4. A check compares in constant time, takes any signature of the list, and refuses timestamps further than `tolerance`
   from now, in both directions.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from fairlead.core.errors import ConfigError, Refused

SECRET = "whsec_"
PRIVATE = "whsk_"
PUBLIC = "whpk_"
TOLERANCE = 300.0  # seconds between the sender's clock and ours
LEAST, MOST = 24, 64  # bytes of an HMAC secret


def raw_key(key: str) -> bytes:
    """The bytes of a key. ConfigError when it is none."""
    prefix, _, text = key.partition("_")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    sizes = {"whsec": range(LEAST, MOST + 1), "whsk": (32, 64), "whpk": (32,)}
    if prefix not in sizes or len(raw) not in sizes[prefix]:
        raise ConfigError(
            "not a webhook key", hint=f"write whsec_ and {LEAST} to {MOST} bytes as base64, or whsk_ and an ed25519 key"
        )
    return raw


def new_secret(random: bytes) -> str:
    """An HMAC secret of these random bytes."""
    return SECRET + base64.b64encode(random).decode()


def _ed25519():
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ConfigError("ed25519 signatures need cryptography", hint="pip install 'fairlead[tls]'") from None
    return ed25519


def new_private(seed: bytes) -> str:
    """An ed25519 private key of 32 random bytes."""
    return PRIVATE + base64.b64encode(seed + public_bytes(seed)).decode()


def public_bytes(seed: bytes) -> bytes:
    """The public half of a private key's first 32 bytes."""
    return _ed25519().Ed25519PrivateKey.from_private_bytes(seed[:32]).public_key().public_bytes_raw()


def public_of(key: str) -> str:
    """What may be shown of a key: `whpk_…` of a private one, "" of a secret."""
    if not key.startswith(PRIVATE):
        return key if key.startswith(PUBLIC) else ""
    return PUBLIC + base64.b64encode(public_bytes(raw_key(key))).decode()


def content(message: str, timestamp: int, body: bytes) -> bytes:
    """What is signed."""
    return f"{message}.{timestamp}.".encode() + body


def signature(key: str, message: str, timestamp: int, body: bytes) -> str:
    """One signature: `v1,…` by a secret, `v1a,…` by a private key."""
    raw, signed = raw_key(key), content(message, timestamp, body)
    if key.startswith(SECRET):
        return "v1," + base64.b64encode(hmac.digest(raw, signed, hashlib.sha256)).decode()
    if not key.startswith(PRIVATE):
        raise ConfigError("a public key signs nothing", hint="write the whsk_ key")
    made = _ed25519().Ed25519PrivateKey.from_private_bytes(raw[:32]).sign(signed)
    return "v1a," + base64.b64encode(made).decode()


def headers(keys: Iterable[str], message: str, timestamp: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """The three fields of an attempt."""
    if "." in message:
        raise ValueError("a webhook's id has no dot: it is signed as id.timestamp.body")
    made = " ".join(signature(key, message, timestamp, body) for key in keys)
    return [
        (b"webhook-id", message.encode()),
        (b"webhook-timestamp", str(timestamp).encode()),
        (b"webhook-signature", made.encode()),
    ]


def verify(
    keys: Iterable[str], given: Mapping[str, str], body: bytes, now: float, tolerance: float = TOLERANCE
) -> None:
    """For a receiver: raises Refused (401) unless one of `keys` signed this. `given`: header names in lower case."""
    message, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message or "webhook-timestamp" not in given or not given.get("webhook-signature"):
        raise Refused("not signed: webhook-id, webhook-timestamp or webhook-signature is missing", status=401)
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        raise Refused("webhook-timestamp is not a number of seconds", status=401)
    if abs(now - int(stamp)) > tolerance:
        raise Refused(f"webhook-timestamp is more than {tolerance:g} s from now", status=401)
    signatures = given["webhook-signature"].split(" ")
    if not any(_fits(key, one, message, int(stamp), body) for key in keys for one in signatures):
        raise Refused("no signature fits a known key", status=401)


def _fits(key: str, given: str, message: str, timestamp: int, body: bytes) -> bool:
    kind, _, text = given.partition(",")
    if key.startswith(SECRET):
        return kind == "v1" and hmac.compare_digest(
            given.encode(), signature(key, message, timestamp, body).encode()
        )
    if kind != "v1a":
        return False
    from cryptography.exceptions import InvalidSignature

    public = raw_key(key) if key.startswith(PUBLIC) else public_bytes(raw_key(key))
    try:
        found = base64.b64decode(text, validate=True)
        _ed25519().Ed25519PublicKey.from_public_bytes(public).verify(found, content(message, timestamp, body))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
