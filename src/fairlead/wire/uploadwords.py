"""The words of resumable uploads: fields of the IETF draft, of tus 1.0 and of digests, read and written. No I/O, no clock.

After draft-ietf-httpbis-resumable-upload-11 (interop version 8), tus 1.0.0 (tus.io/protocols/resumable-upload), RFC 9530 (digest
fields), RFC 9651 (structured fields) and RFC 6266 (Content-Disposition). Rules
1. A field of the draft that is not what its structured type says is ignored whole (section "State"): the readers give None.
2. A field of tus or a digest that cannot be read is the client's mistake: WireError 400 says which and what would be right.
3. A name of a file is a name, never a path: what stands before the last slash or backslash is dropped, as are control characters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from fairlead.core.errors import WireError

VERSION = b"8"  # of the draft's wire, sent as Upload-Draft-Interop-Version while it is a draft
PARTIAL = b"application/partial-upload"
STREAM = b"application/offset+octet-stream"
TUS = b"1.0.0"
TUS_HASHES = {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512", "md5": "md5"}
HASHES = {"sha-256": "sha256", "sha-512": "sha512"}  # RFC 9530's active ones, as hashlib names them
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
NAME = 255  # bytes of a file's name, as file systems have it
PAIRS = 64  # entries of tus metadata

INTEGER = re.compile(rb"(\d{1,15})[ \t]*(;.*)?")
BOOLEAN = re.compile(rb"\?([01])[ \t]*(;.*)?")
DIGEST = re.compile(rb"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):[ \t]*(;[^,]*)?")
WEIGHT = re.compile(rb"[ \t]*([a-z*][a-z0-9_.*-]*)=(\d{1,2})[ \t]*(;[^,]*)?")
KEY = re.compile(rb"[!-+\--~]+")
EXTENDED = re.compile(r"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)
PLAIN = re.compile(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))', re.IGNORECASE)


def integer(value: bytes | None) -> int | None:
    """A structured-field Integer that is not negative."""
    found = INTEGER.fullmatch(value.strip()) if value is not None else None
    return int(found[1]) if found else None


def boolean(value: bytes | None) -> bool | None:
    """A structured-field Boolean."""
    found = BOOLEAN.fullmatch(value.strip()) if value is not None else None
    return found[1] == b"1" if found else None


def flag(value: bool) -> bytes:
    """A Boolean, written."""
    return b"?1" if value else b"?0"


def dictionary(pairs: Iterable[tuple[str, int | None]]) -> bytes:
    """A Dictionary of Integers (Upload-Limit); those that are None are left out."""
    return ", ".join([f"{name}={value}" for name, value in pairs if value is not None]).encode()


def digests(value: bytes, field: str) -> dict[str, bytes]:
    """{algorithm: digest} of a digest field, of those algorithms that are known. WireError."""
    found = {}
    for part in value.split(b","):
        match = DIGEST.fullmatch(part)
        if match is None:
            raise WireError(f"{field} is no dictionary of byte sequences", hint=f"write {field}: sha-256=:<base64>:")
        name = match[1].decode()
        if name in HASHES:
            found[name] = decoded(match[2], field)
    return found


def wanted(value: bytes | None) -> str:
    """The algorithm that Want-Repr-Digest likes best of those we have; "" for none."""
    best, name = 0, ""
    for part in (value or b"").split(b","):
        match = WEIGHT.fullmatch(part)
        if match is not None and match[1].decode() in HASHES and int(match[2]) > best:
            best, name = int(match[2]), match[1].decode()
    return name


def digest(name: str, value: bytes) -> bytes:
    """A digest field, written."""
    return b"%b=:%b:" % (name.encode(), base64.b64encode(value))


def decoded(text: bytes, field: str) -> bytes:
    """Base64. WireError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WireError(f"{field} has a value that is not base64", hint="RFC 4648 section 4, with its padding") from None


def number(value: bytes | None, field: str) -> int | None:
    """A number as tus writes it; None when the field is not there. WireError."""
    if value is None:
        return None
    text = value.strip()
    if not text.isdigit() or len(text) > 15:
        raise WireError(f"{field} is not a number of bytes", hint=f"write {field}: 12345")
    return int(text)


def metadata(value: bytes | None) -> dict[str, str]:
    """Upload-Metadata: keys with values in base64, which are text (what is not UTF-8 is kept by surrogates). WireError."""
    found: dict[str, str] = {}
    for pair in (value or b"").split(b","):
        words = pair.split()
        if not words and not (value or b"").strip():
            break
        if not 1 <= len(words) <= 2 or not KEY.fullmatch(words[0]):
            raise WireError("Upload-Metadata is not pairs of a key and a base64 value", hint='as in "filename d29ybGQudHh0,draft"')
        name = words[0].decode()
        if name in found:
            raise WireError(f"Upload-Metadata has the key {name[:64]} twice")
        if len(found) == PAIRS:
            raise WireError(f"Upload-Metadata has more than {PAIRS} keys")
        found[name] = decoded(words[1], "Upload-Metadata").decode("utf-8", "surrogateescape") if len(words) > 1 else ""
    return found


def metadata_field(found: Mapping[str, str]) -> bytes:
    """The same, written."""
    parts = []
    for name, value in found.items():
        text = base64.b64encode(value.encode("utf-8", "surrogateescape"))
        parts.append(name.encode() + b" " + text if text else name.encode())
    return b",".join(parts)


def checksum(value: bytes) -> tuple[str, bytes]:
    """(algorithm, digest) of tus' Upload-Checksum. WireError 400, also for an algorithm we do not have."""
    words = value.split()
    name = words[0].decode("latin-1").lower() if words else ""
    if len(words) != 2 or name not in TUS_HASHES:
        raise WireError("Upload-Checksum is not an algorithm and a digest in base64", hint=f"algorithms: {', '.join(TUS_HASHES)}")
    return TUS_HASHES[name], decoded(words[1], "Upload-Checksum")


def concatenated(value: str) -> list[str]:
    """The names of the uploads that tus' "final;..." is made of: the last part of each URL."""
    return [urlsplit(url).path.rstrip("/").rpartition("/")[2] for url in value.removeprefix("final;").split()]


def safe_name(text: str) -> str:
    """A file's own name out of whatever a client calls it; "" when nothing is left."""
    last = text.replace("\\", "/").rpartition("/")[2]
    last = "".join([c for c in last if c.isprintable() and not "\ud800" <= c <= "\udfff"]).strip(" .")
    while len(last.encode()) > NAME:
        last = last[1:]  # the end has the kind
    return last


def disposition(value: bytes | None) -> str:
    """The file's name in Content-Disposition, safe; "" when there is none."""
    text = (value or b"").decode("utf-8", "replace")
    if found := EXTENDED.search(text):
        return safe_name(unquote(found[1], errors="replace"))
    if found := PLAIN.search(text):
        return safe_name(re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2])
    return ""
