"""The server's own log: what happened to the process, one line each, as text for people or JSON for programs.

The access log is another matter (run/log). Standard error is the default; a file is opened for appending and opened
again on `reopen` (SIGUSR1), so that logrotate can move it away. What a full disk does not take goes to standard error until
there is room again: said once, and the file ends with whole lines.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import suppress
from typing import Any

from fairlead.core.errors import NetError
from fairlead.run import config as c

log = logging.getLogger("fairlead")


class Text(logging.Formatter):
    """`2026-01-31 12:00:00 warning worker 1: ...`; plain words alone for what a starting server says to a terminal."""

    def __init__(self, colour: bool) -> None:
        super().__init__("%(asctime)s %(name)s %(message)s", "%Y-%m-%d %H:%M:%S")
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        level = record.levelname.lower()
        if self.colour and record.levelno >= logging.WARNING:
            level = f"\x1b[3{'1' if record.levelno >= logging.ERROR else '3'}m{level}\x1b[0m"
        shown = f"{self.formatTime(record, self.datefmt)} {level} {text}"
        return shown + "\n" + self.formatException(record.exc_info) if record.exc_info else shown


class Json(logging.Formatter):
    """One JSON object per line: time, level, message, pid, and whatever `fields` the caller gave."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        entry: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        entry.update(getattr(record, "fields", {}), pid=record.process)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Reopening(logging.Handler):
    """A file that `reopen` opens again under its name. `missing` counts the messages that it could not take."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.rest = b""  # of a line that was written in part
        self.missing = 0
        self.fd = self.open()

    def open(self) -> int:
        """A descriptor for appending. Raises NetError."""
        try:
            return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise NetError(
                f"cannot write the log {self.path}: {error.strerror}", side="us", hint="see [log] file"
            ) from None

    def reopen(self) -> None:
        """Let the old file go, unless the new one cannot be opened."""
        try:
            before, self.fd, self.rest = self.fd, self.open(), b""
        except NetError as error:
            log.error("%s; going on with the old file", error)
            return
        os.close(before)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line; where that fails, say it on standard error."""
        line = self.format(record) + "\n"
        error = self.append(line.encode("utf-8", "backslashreplace"))
        if error is None:
            self.missing = 0
            return
        if not self.missing:
            aside(f"cannot write the log {self.path}: {error.strerror}; it goes on here until that is over\n")
        self.missing += 1
        aside(line)

    def append(self, line: bytes) -> OSError | None:
        """Append the end of a line that was cut, how many are missing, and this line; what stood in the way."""
        lines = [self.rest, self.said_again() if self.missing else b"", line]
        for one in lines:
            left, error = push(self.fd, one)
            self.rest = left if len(left) < len(one) or one is self.rest else b""
            if error is not None:
                return error
        return None

    def said_again(self) -> bytes:
        """The line that says that lines are missing."""
        words = f"{self.missing} messages could not be written here; standard error has them"
        record = logging.LogRecord("fairlead", logging.WARNING, "", 0, words, None, None)
        return (self.format(record) + "\n").encode()

    def close(self) -> None:
        """The end."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        super().close()


def push(fd: int, data: bytes) -> tuple[bytes, OSError | None]:
    """Write until all is gone or an error comes: what is left, and the error."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        return data, error
    return b"", None


def aside(text: str) -> None:
    """To standard error, if that takes it."""
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: there is none
        sys.stderr.write(text)
        sys.stderr.flush()


def setup(settings: c.Log) -> None:
    """Send everything under the logger "fairlead" where the configuration says."""
    to_terminal = settings.file == "-"
    handler: logging.Handler = logging.StreamHandler(sys.stderr) if to_terminal else Reopening(settings.file)
    colour = to_terminal and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    handler.setFormatter(Json() if settings.file_format == "json" else Text(colour))
    for before in log.handlers:
        if isinstance(before, Reopening):
            before.close()
    log.handlers[:] = [handler]
    log.setLevel(settings.level.upper())
    log.propagate = False


def reopen() -> None:
    """SIGUSR1: open the log file again."""
    for handler in log.handlers:
        if isinstance(handler, Reopening):
            handler.reopen()


def reclaim() -> None:
    """Have our loggers speak again after an application's own logging setup (`disable_existing_loggers`) silenced them."""
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.split(".", 1)[0] == "fairlead" and isinstance(logger, logging.Logger):
            logger.disabled = False


def unraisable(what: Any) -> None:
    """A `sys.unraisablehook`: a TLS server name that is none (peers send anything) is one quiet line, not a traceback.

    The ssl module reports the name's bytes when they are not ASCII, before our own callback could see them.
    """
    if type(what.object) is bytes and isinstance(what.exc_value, UnicodeDecodeError):
        log.debug("a client sent a TLS server name that is none: %s", what.exc_value)
    else:
        sys.__unraisablehook__(what)
