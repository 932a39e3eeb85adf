"""Lines of TOML keys: ``tomllib`` gives values without places, so this walks a text that it has accepted and notes the
places.

Rules: the text is known to be valid TOML 1.0, so a value can be skipped by its first character. A key path is written
as users write it: ``listener[0].limits.header``; keys that are not bare are quoted. A header or dotted key that goes
through an array of tables means its last element. A path gets the line where it was first written.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right

from fairlead.run.units import show_key

SPACE = " \t"
GAP = " \t\r\n"
ENDS = ",]}#\r\n"


def join(path: str, key: str) -> str:
    """``a.b`` of ``a`` and ``b``."""
    return f"{path}.{show_key(key)}" if path else show_key(key)


def scan(text: str) -> dict[str, int]:
    """The line (from 1) of every key path in a valid TOML text."""
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text + "\n"
        self.at = 0
        self.lines: dict[str, int] = {}
        self.arrays: dict[str, int] = {}  # arrays of tables: how many elements so far
        self.starts = [i + 1 for i, c in enumerate(text) if c == "\n"]

    def run(self) -> dict[str, int]:
        table = ""
        while self.gap():
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def gap(self) -> bool:
        """Skip blanks, newlines and comments; False at the end."""
        text = self.text
        while self.at < len(text):
            if text[self.at] == "#":
                self.at = text.index("\n", self.at)
            elif text[self.at] not in GAP:
                return True
            else:
                self.at += 1
        return False

    def blanks(self) -> None:
        while self.text[self.at] in SPACE:
            self.at += 1

    def note(self, path: str, at: int) -> str:
        self.lines.setdefault(path, bisect_right(self.starts, at) + 1)
        return path

    def header(self) -> str:
        """``[a.b]`` or ``[[a.b]]``: the path of the table it opens."""
        start = self.at
        many = self.text.startswith("[[", start)
        self.at += 2 if many else 1
        parts = self.key()
        self.at = self.text.index("]", self.at) + (2 if many else 1)
        path = ""
        for part in parts[:-1]:
            path = self.note(self.last(join(path, part)), start)
        path = join(path, parts[-1])
        if not many:
            return self.note(self.last(path), start)
        self.note(path, start)
        self.arrays[path] = self.arrays.get(path, 0) + 1
        return self.note(self.last(path), start)

    def last(self, path: str) -> str:
        """The path, or that of its last element when it is an array of tables."""
        return f"{path}[{self.arrays[path] - 1}]" if path in self.arrays else path

    def key(self) -> list[str]:
        """A dotted key, up to what follows it."""
        parts = []
        while True:
            self.blanks()
            parts.append(self.part())
            self.blanks()
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def part(self) -> str:
        start, text = self.at, self.text
        if text[start] in "\"'":
            self.string()
            return str(tomllib.loads(f"k = {text[start : self.at]}")["k"])
        while text[self.at].isalnum() or text[self.at] in "_-":
            self.at += 1
        return text[start : self.at]

    def pair(self, path: str) -> None:
        """``key = value`` inside the table at ``path``."""
        start = self.at
        for part in self.key():
            path = self.note(join(path, part), start)
        self.at = self.text.index("=", self.at) + 1
        self.value(path)

    def value(self, path: str) -> None:
        self.blanks()
        first = self.text[self.at]
        if first in "\"'":
            self.string()
        elif first == "[":
            self.array(path)
        elif first == "{":
            self.inline(path)
        else:
            while self.text[self.at] not in ENDS:
                self.at += 1

    def string(self) -> None:
        """Skip a string of any of the four kinds."""
        text, quote = self.text, self.text[self.at]
        long = text.startswith(quote * 3, self.at)
        closing = quote * 3 if long else quote
        self.at += len(closing)
        while not text.startswith(closing, self.at):
            self.at += 2 if text[self.at] == "\\" and quote == '"' else 1
        self.at += len(closing)
        while long and text[self.at] == quote:  # up to two quotes may stand just before the closing three
            self.at += 1

    def array(self, path: str) -> None:
        self.at += 1
        index = 0
        while self.gap() and self.text[self.at] != "]":
            if self.text[self.at] == ",":
                self.at += 1
                index += 1
                continue
            self.value(self.note(f"{path}[{index}]", self.at))
        self.at += 1

    def inline(self, path: str) -> None:
        self.at += 1
        while self.gap() and self.text[self.at] != "}":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.pair(path)
        self.at += 1
