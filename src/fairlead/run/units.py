"""Units: how the text of a setting becomes a value, and a value becomes text again.

A setting is written with its unit ("10s", "64KiB", "240B/s") and kept without one: durations are float seconds, sizes
are int bytes, "none" is ``None``. A ``Kind`` reads and shows one sort of value; it raises ``BadValue`` saying what
was wrong and what would be right, and knows nothing about files or keys. A bare number where a unit is expected is an
error, never a guess.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
PER = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
SCOPES = ("client", "principal", "route", "listener", "worker")
LARGEST = 2**53  # beyond this a float no longer counts in ones

_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*/\s*([a-z]+)(?:\s+per\s+([a-z]+))?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\*", re.ASCII)


class BadValue(ValueError):
    """A value that a kind cannot read; ``hint`` says what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Rate:
    """So much per time: ``amount`` (bytes when ``unit`` is "B") in ``seconds``, per ``scope`` ("" means in all)."""

    amount: float
    unit: str = ""
    seconds: float = 1.0
    scope: str = ""

    @property
    def per_second(self) -> float:
        return self.amount / self.seconds

    def __str__(self) -> str:
        amount = show_size(int(self.amount)) if self.unit == "B" else _number(self.amount)
        per = next(name for name, seconds in PER.items() if seconds == self.seconds)
        return f"{amount}/{per}" + (f" per {self.scope}" if self.scope else "")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to bind or connect: a host and port, or a unix path (``host`` is then ""). Port 0 means: any free one."""

    host: str
    port: int = 0
    path: str = ""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by reference: ``source`` is "env" or "file", or "text" for one written in the file. Never shown."""

    source: str
    name: str

    def value(self) -> str:
        """The secret itself, read now; raises ``BadValue`` when the variable or file is missing."""
        if self.source == "text":
            return self.name
        if self.source == "env":
            if self.name not in os.environ:
                raise BadValue(
                    f"environment variable {self.name} is not set", f"export {self.name}=... before starting"
                )
            return os.environ[self.name]
        try:
            with open(self.name, encoding="utf-8") as file:
                return file.read().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadValue(f"cannot read the secret file {self.name}: {error}") from error

    def __str__(self) -> str:
        return "(hidden)" if self.source == "text" else f"{self.source}:{self.name}"

    def __repr__(self) -> str:
        return f"Secret({self})"


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of value: its ``name`` for the reference, how it is read from TOML and shown as TOML again."""

    name: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str]
    scalar: bool = True
    choices: tuple[str, ...] = ()
    path: bool = False  # a file or directory: relative to the file that names it


def quote(text: str) -> str:
    """A TOML basic string."""
    body = text.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"'
        + "".join(
            c if c.isprintable() else f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}" for c in body
        )
        + '"'
    )


def show_any(value: Any) -> str:
    """Any plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return '"none"'
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{show_key(k)} = {show_any(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(show_any(item) for item in value) + "]"
    return quote(str(value))


def show_key(key: str) -> str:
    """A TOML key, quoted when it must be."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key, re.ASCII) else quote(key)


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that was probably meant, or ""."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    if not close and len(word) > 2:
        close = [name for name in known if name.startswith(word) or word.startswith(name)]
    return close[0] if close else ""


def what(value: Any) -> str:
    """The value in words, short enough for an error line."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array", dict: "a table"}
    kind = names.get(type(value), "a date or time")
    if isinstance(value, list | dict) or (isinstance(value, str) and len(value) > 60):
        return kind
    return f"{kind}, {show_any(value)}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else "far too large"
    if not math.isfinite(value):
        return str(value)
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")


def _text(value: Any, right: str) -> str:
    if not isinstance(value, str):
        raise BadValue(f"is {what(value)}", right)
    return value


def read_duration(value: Any) -> float:
    """Seconds of "1m30s"."""
    right = 'write a duration with its unit, such as "10s", "250ms" or "1m30s"'
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise BadValue(
            f"is a bare number, {_plain(value)}",
            f'write the unit: "{_plain(value)}s" for seconds, "{_plain(value)}ms" for milliseconds',
        )
    text = _text(value, right).strip()
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise BadValue(f"{quote(text)} is not a duration", right)
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if seconds > LARGEST / 1e9:  # kept as nanoseconds in 64 bits
        raise BadValue(
            f"{quote(text)} is too long", 'the longest duration is about 104 days, or "none" where that is allowed'
        )
    return seconds


def _plain(value: float) -> str:
    return _number(value)


def show_duration(value: float) -> str:
    """Exact text in one unit, as people write it: "75s", "10m", "24h", "250ms"."""
    micros = round(value * 1e6)
    if micros <= 0:
        return "0s" if value <= 0 else "1us"
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(micros, round(SECONDS[unit] * 1e6))
        if not rest and (count > 1 or (count == 1 and unit not in ("d", "m"))):
            return f"{count}{unit}"
    return f"{micros}us"


def read_size(value: Any) -> int:
    """Bytes of "64KiB"."""
    right = 'write a size with its unit, such as "64KiB", "1MB" or "512B"'
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return 0
        raise BadValue(
            f"is a bare number, {_plain(value)}",
            f'write the unit: "{_plain(value)}B" for bytes, "{_plain(value)}MB" for megabytes',
        )
    text = _text(value, right).strip()
    match = _SIZE.fullmatch(text)
    if not match:
        raise BadValue(f"{quote(text)} is not a size", right)
    return _bytes(text, *match.groups())


def _bytes(text: str, number: str, unit: str) -> int:
    if unit not in BYTES:
        meant = next((name for name in BYTES if name.lower() == unit.lower() or name[0].lower() == unit.lower()), "KiB")
        raise BadValue(
            f"{quote(text)} has the unknown unit {unit}", f'write "{number}{meant}"; units are {", ".join(BYTES)}'
        )
    if len(number) > 16 or float(number) * BYTES[unit] > LARGEST:
        raise BadValue(f"{quote(text)} is too large", 'the largest size is 8 PiB, or "none" where that is allowed')
    return int(float(number) * BYTES[unit])


def show_size(value: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"):
        if value and value % BYTES[unit] == 0:
            return f"{value // BYTES[unit]}{unit}"
    return f"{value}B"


def read_rate(value: Any) -> Rate:
    """ "240B/s", "100/s per client"."""
    right = 'write a rate, such as "240B/s", "100/s" or "100/s per client"'
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise BadValue(f"is a bare number, {_plain(value)}", f'write "{_plain(value)}/s" or "{_plain(value)}B/s"')
    text = _text(value, right).strip()
    match = _RATE.fullmatch(text)
    if not match:
        raise BadValue(f"{quote(text)} is not a rate", right)
    number, unit, per, scope = match.groups()
    if per not in PER:
        raise BadValue(f"{quote(text)} has the unknown period {per}", f"periods are {', '.join(PER)}")
    if scope and scope not in SCOPES:
        raise BadValue(f"{quote(text)} counts per {scope}, which is unknown", f"write per {', per '.join(SCOPES)}")
    if len(number) > 16:
        raise BadValue(f"{quote(text)} is too large", right)
    amount = float(_bytes(text, number, unit)) if unit else float(number)
    return Rate(amount, "B" if unit else "", PER[per], scope or "")


def _where(port: str) -> str:
    return f'say on which address: "127.0.0.1:{port}" for this machine, "0.0.0.0:{port}" for everybody'


def read_address(value: Any) -> Address:
    """ "host:port", "[::]:port", "unix:/path"."""
    right = 'write "127.0.0.1:8000", "[::1]:8000" or "unix:/run/app.sock"'
    if isinstance(value, int) and not isinstance(value, bool):
        raise BadValue(
            f"is only a port, {_plain(value)}",
            _where(_plain(value)),
        )
    text = _text(value, right)
    if text.startswith("unix:"):
        if not text[5:] or "\0" in text:
            raise BadValue(f"{quote(text)} has no path", right)
        return Address("", 0, text[5:])
    if "://" in text:
        scheme, _, rest = text.partition("://")
        place = rest.partition("/")[0]
        port = "" if re.search(r":\d+$", place) else {"http": ":80", "https": ":443"}.get(scheme, ":8000")
        tls = ", and TLS with tls" if scheme == "https" else ""
        raise BadValue(f"{quote(text)} is a URL", f"write its address, {quote(place + port)}{tls}")
    host, colon, port = text.rpartition(":")
    if text.isdigit() or (colon and not host and port.isdigit()):
        number = text.lstrip(":")
        raise BadValue(
            f"{quote(text)} is only a port",
            _where(number),
        )
    if not colon or not port.isascii() or not port.isdigit():
        missing = text if not colon else host
        raise BadValue(
            f"{quote(text)} has no port", f'write "{missing}:8000"' if missing and '"' not in missing else right
        )
    if len(port) > 5 or int(port) > 65535:
        raise BadValue(f"{quote(text)} has port {port[:12]}, and ports end at 65535", right)
    return Address(_host(text, host), int(port))


def _host(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise BadValue(f"{quote(text)} is not an IPv6 address", 'write "[::1]:8000"') from None
    if ":" in host:
        raise BadValue(f"{quote(text)} is an IPv6 address without brackets", 'write "[::1]:8000"')
    if not _HOST.fullmatch(host):
        raise BadValue(f"{quote(text)} has a bad host name", 'write "127.0.0.1:8000" or "name.example:8000"')
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise BadValue(f"{quote(text)} is not an IPv4 address", 'write "127.0.0.1:8000"') from None
    return "0.0.0.0" if host == "*" else host


def read_secret(value: Any) -> Secret:
    """ "env:NAME", "file:PATH"."""
    text = _text(value, 'write "env:NAME" or "file:/path"')
    source, colon, name = text.partition(":")
    if colon and source in ("env", "file"):
        if not name:
            raise BadValue(f"{quote(text)} names nothing", 'write "env:NAME" or "file:/path"')
        return Secret(source, name)
    raise BadValue(
        "is a secret written in the file", 'keep it outside: "env:NAME" reads a variable, "file:/path" a file'
    )


def read_network(value: Any) -> Any:
    """An ``ipaddress`` network of "10.0.0.0/8", "::1" or "unix" (peers on unix sockets, kept as text)."""
    text = _text(value, 'write "10.0.0.0/8" or "127.0.0.1"')
    if text == "unix":
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        loose = _loose_network(text)
        raise BadValue(
            f"{quote(text)} is not a network ({error})",
            f'write "{loose}"' if loose else 'write "10.0.0.0/8", "127.0.0.1" or "unix"',
        ) from None


def _loose_network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ""


def read_percent(value: Any) -> float:
    """A share from 0 to 1 of "20%"."""
    right = 'write a share such as "20%"'
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise BadValue(f"is a bare number, {_plain(value)}", right)
    text = _text(value, right).strip()
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?%", text, re.ASCII) or float(text[:-1]) > 100:
        raise BadValue(f"{quote(text)} is not a share", right)
    return float(text[:-1]) / 100


def read_text(value: Any) -> str:
    text = _text(value, "write a string in quotes")
    if "\0" in text:
        raise BadValue("contains a NUL character", "remove it")
    return text


def read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        meant = {
            "true": "true",
            "yes": "true",
            "on": "true",
            "1": "true",
            "false": "false",
            "no": "false",
            "off": "false",
            "0": "false",
        }.get(str(value).lower())
        raise BadValue(f"is {what(value)}", f"write {meant} without quotes" if meant else "write true or false")
    return value


def count(least: int = 0, most: int = 2**31 - 1) -> Kind:
    """Whole numbers from ``least`` to ``most``."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            text = value.strip() if isinstance(value, str) else ""
            right = f"write {text} without quotes" if text.isascii() and text.isdigit() else "write a whole number"
            raise BadValue(f"is {what(value)}", right)
        if not least <= value <= most:
            raise BadValue(f"is {_plain(value)}", f"write a number from {least} to {most}")
        return value

    return Kind("number", read, _number)


def choice(*words: str) -> Kind:
    """One of these words."""

    def read(value: Any) -> str:
        right = "write " + " or ".join(quote(word) for word in words)
        text = _text(value, right)
        if text not in words:
            meant = nearest(text.lower(), words)
            raise BadValue(
                f"{quote(text)} is unknown",
                (f"did you mean {quote(meant)}? " if meant else "") + f"allowed: {', '.join(quote(w) for w in words)}",
            )
        return text

    return Kind(" | ".join(quote(word) for word in words), read, quote, choices=words)


def maybe(kind: Kind, word: str = "none") -> Kind:
    """The same, or "none" (``None``)."""

    def read(value: Any) -> Any:
        try:
            return None if value == word else kind.read(value)
        except BadValue as bad:
            raise BadValue(bad.message, f'{bad.hint}, or "{word}"') from None

    return Kind(
        f'{kind.name} | "{word}"',
        read,
        lambda value: f'"{word}"' if value is None else kind.show(value),
        kind.scalar,
        kind.choices,
    )


def several(kind: Kind, single: bool = True) -> Kind:
    """A tuple of them; one alone may be written without brackets."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            if not single:
                raise BadValue(f"is {what(value)}", "write an array: [ ... ]")
            return (kind.read(value),)
        out = []
        for position, item in enumerate(value):
            try:
                out.append(kind.read(item))
            except BadValue as bad:
                raise BadValue(f"item {position + 1} {bad.message}", bad.hint) from None
        return tuple(out)

    return Kind(
        f"list of {kind.name}", read, lambda value: "[" + ", ".join(kind.show(item) for item in value) + "]", False
    )


def mapping(kind: Kind, names: Kind | None = None) -> Kind:
    """A table of names (of one kind, when given) to values of one kind."""

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise BadValue(f"is {what(value)}", "write a table: { name = ... }")
        out = {}
        for name, item in value.items():
            try:
                out[names.read(name) if names else name] = kind.read(item)
            except BadValue as bad:
                raise BadValue(f"{quote(name)}: {bad.message}", bad.hint) from None
        return out

    def show(value: Mapping[str, Any]) -> str:
        return "{ " + ", ".join(f"{show_key(k)} = {kind.show(v)}" for k, v in value.items()) + " }" if value else "{}"

    return Kind(f"table of {kind.name}", read, show, False)


def matching(name: str, pattern: str, right: str) -> Kind:
    """Text of a given shape."""
    shape = re.compile(pattern, re.ASCII)

    def read(value: Any) -> str:
        text = read_text(value) if isinstance(value, str) else _text(value, right)
        if not shape.fullmatch(text):
            raise BadValue(f"{quote(text)} is not {name}", right)
        return text

    return Kind(name, read, quote)


TEXT = Kind("text", read_text, quote)
FLAG = Kind("true | false", read_flag, show_any)
DURATION = Kind("duration", read_duration, lambda value: quote(show_duration(value)))
SIZE = Kind("size", read_size, lambda value: quote(show_size(value)))
RATE = Kind("rate", read_rate, lambda value: quote(str(value)))
PERCENT = Kind("share", read_percent, lambda value: quote(f"{_number(value * 100)}%"))
ADDRESS = Kind("address", read_address, lambda value: quote(str(value)))
SECRET = Kind("secret", read_secret, lambda value: quote(str(value)))
NETWORK = Kind("network", read_network, lambda value: quote(str(value)))
COUNT = count()
POSITIVE = count(1)
SOME_DURATION = maybe(DURATION)
SOME_SIZE = maybe(SIZE)
SOME_COUNT = maybe(POSITIVE)
SOME_RATE = maybe(RATE)
TEXTS = several(TEXT)
NETWORKS = several(NETWORK)
ADDRESSES = several(ADDRESS)
NAME = matching(
    "a name", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "use letters, digits, '-', '_' and '.', at most 64 of them"
)
TARGET = matching(
    "module:attribute",
    r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*",
    'write "module:attribute", such as "shop.main:app"',
)
METHOD = matching("a method", r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", 'write ["GET", "POST"]')
FIELD = matching("a header name", r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header names have no spaces and no colon")
PATH = Kind("path", read_text, quote, path=True)
ENV_FILE = Kind("path", lambda value: read_text(value).removeprefix("file:"), quote, path=True)
FIELD_VALUE = matching(
    "a header value", r"([^\x00-\x1f\x7f]|\t)*", "header values have no line breaks and no control characters"
)
FIELDS = mapping(FIELD_VALUE, FIELD)
