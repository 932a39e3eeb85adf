"""Server-sent events (WHATWG HTML, section 9.2): events into text, and text into events.

Rules
1. A line ends by LF, CR or CRLF; so none of them may stand in a field, and data with line ends is several `data` lines.
2. An event without data is not dispatched, but its id is remembered: `priming` sets where a client resumes before there is an
   event.
3. An `id` with NUL is ignored by clients: ours have none. `retry` is in milliseconds, digits only.
4. A line that begins with a colon is a comment: our heartbeat.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BEAT = b":\n\n"
ENDS = re.compile(rb"\r\n|\r|\n")
END_OF_LINE = re.compile("\r\n|\r|\n")


def field(name: bytes, value: str) -> bytes:
    """One line; what would end it is left out."""
    return b"%b: %b\n" % (name, value.replace("\r", "").replace("\n", "").replace("\0", "").encode("utf-8", "replace"))


def data_lines(data: bytes) -> bytes:
    """`data` lines of a text: a client joins them with LF, and takes away one space at the beginning of each."""
    if b"\n" not in data and b"\r" not in data:
        return (b"data: %b\n" if data[:1] == b" " else b"data:%b\n") % data
    return b"".join([(b"data: %b\n" if line[:1] == b" " else b"data:%b\n") % line for line in ENDS.split(data)])


def event(data: bytes, name: str = "", token: str = "") -> bytes:
    """One whole event."""
    head = (field(b"id", token) if token else b"") + (field(b"event", name) if name else b"")
    return head + data_lines(data) + b"\n"


def priming(token: str, retry: int) -> bytes:
    """The first words of a stream: when to come back (ms), and from where."""
    return b"retry: %d\n" % retry + field(b"id", token) + b"\n"


class Heard(NamedTuple):
    """An event as a client has it."""

    name: str
    data: str
    token: str


class Parser:
    """The client's side: `feed` text as it comes. `token` is the last id, `retry` what the server said, in ms, or None."""

    def __init__(self, token: str = "", most: int = 16 << 20) -> None:
        self.token, self.most = token, most
        self.retry: int | None = None
        self.buffer = ""
        self.name = ""
        self.lines: list[str] = []
        self.size = 0
        self.begun = False

    def feed(self, text: str) -> list[Heard]:
        """The events that are whole now. ValueError when one is larger than `most` characters."""
        if not self.begun and text:
            text = text.removeprefix("\ufeff")
            self.begun = True
        found: list[Heard] = []
        self.buffer += text
        at = 0
        while (match := END_OF_LINE.search(self.buffer, at)) is not None:
            if match[0] == "\r" and match.end() == len(self.buffer):
                break  # its LF may be on the way
            self.line(self.buffer[at : match.start()], found)
            at = match.end()
        self.buffer = self.buffer[at:]
        if self.size + len(self.buffer) > self.most:
            raise ValueError(f"an event is larger than {self.most} characters")
        return found

    def line(self, line: str, found: list[Heard]) -> None:
        """One line."""
        if not line:
            if self.lines:
                found.append(Heard(self.name or "message", "\n".join(self.lines), self.token))
            self.name, self.lines, self.size = "", [], 0
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self.lines.append(value)
            self.size += len(value)
        elif name == "event":
            self.name = value
        elif name == "id" and "\0" not in value:
            self.token = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value[:9])
