"""The one error tree: every error says whose side broke, whether to try again, and what to tell the peer.

    FairleadError(side, retry, hint, status)
    |- ConfigError      the configuration is wrong; `problems` lists every place (file, line, key)
    |- WireError        bytes that break a protocol's rules; `status` is what HTTP would answer (0: close without a word)
    |  '- TlsError      (net.tls) a TLS record or handshake that failed
    |- NetError         the network: refused, reset, timed out; `step` names where
    |- Refused          we will not: no route, no target, full, denied, too big
    '- AppError         the application broke its contract (ASGI, WSGI) or raised

`side` is "peer" (who sent us this), "us", or "upstream". `retry` is "never", "fresh" (on a new connection) or "always".
`hint` is one line that says what would be right. The shape follows what Pingora's error type taught: an error without
a side and a retry rule makes every caller guess.
"""

from __future__ import annotations

from dataclasses import dataclass


class FairleadError(Exception):
    """Base of all our errors. `str(error)` is one line; `hint` says what to do about it."""

    def __init__(self, message: str, *, side: str = "us", retry: str = "never", hint: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.side = side
        self.retry = retry
        self.hint = hint
        self.status = status
        self.after = 0  # seconds for Retry-After, 0 for none


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a configuration file: where (file, line, dotted key), what, and what would be right."""

    file: str
    line: int
    key: str
    message: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"
        return f"{what} ({self.hint})" if self.hint else what


class ConfigError(FairleadError):
    """A configuration that cannot be used. `problems` holds every one found, in file order."""

    def __init__(self, message: str = "", *, problems: list[Problem] | None = None, hint: str = "") -> None:
        self.problems = problems or []
        super().__init__(message or "\n".join(str(problem) for problem in self.problems), hint=hint)


class WireError(FairleadError):
    """The peer's bytes broke a rule. `status` is the HTTP answer it deserves, 0 when closing says enough.

    `rule` is a short stable name of the broken rule ("te-and-cl"), used in logs and counters.
    """

    def __init__(
        self, message: str, *, status: int = 400, rule: str = "", side: str = "peer", retry: str = "never", hint: str = ""
    ) -> None:
        super().__init__(message, side=side, retry=retry, hint=hint, status=status)
        self.rule = rule


class NetError(FairleadError):
    """The network failed. `step` names the phase: resolve, dial, tls, send, receive, idle."""

    def __init__(
        self, message: str, *, step: str = "", status: int = 502, side: str = "peer", retry: str = "fresh", hint: str = ""
    ) -> None:
        super().__init__(message, side=side, retry=retry, hint=hint, status=status)
        self.step = step


class Refused(FairleadError):
    """We decline the request on purpose; `status` says why (404, 405, 413, 503, ...)."""

    def __init__(self, message: str, *, status: int = 503, retry: str = "never", hint: str = "", after: int = 0) -> None:
        super().__init__(message, side="us", retry=retry, hint=hint, status=status)
        self.after = after


class AppError(FairleadError):
    """The application raised, or broke the ASGI or WSGI contract."""

    def __init__(self, message: str, *, status: int = 500, hint: str = "") -> None:
        super().__init__(message, side="us", retry="never", hint=hint, status=status)
