"""How wide a text is, without asking a font: whoever reads the picture has other fonts than whoever draws it.

Rules
1. Two sorts of text. Names are in fixed width: 0.61 em a character is as wide as the usual fonts have it. Words are counted
   with the widths of a wide font (DejaVu Sans, Verdana); in a narrower one there is room left.
2. What is outside of ASCII is counted generously: a wide East Asian character is one em and a quarter, a combining one is none.
3. A text that does not fit is cut with an ellipsis where its row says: paths in the middle, modules and folders in front.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

from fairlead.run.drawing.picture import FRONT, MIDDLE

FIXED = 0.61
WIDE = 1.25
OTHER = 0.9
# em / 100 of the characters from space to tilde
ASCII = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 53,
    100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50,
    50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip


def width(text: str, size: float, fixed: bool) -> float:
    """Pixels, at most, of a text in a font size."""
    return sum(em(char, fixed) for char in text) * size


def em(char: str, fixed: bool) -> float:
    """One character."""
    if " " <= char <= "~":
        return FIXED if fixed else ASCII[ord(char) - 32] / 100
    if combining(char):
        return 0.0
    if east_asian_width(char) in "WF":
        return WIDE
    return FIXED if fixed and char in "\u00b7\u2026\u2013\u00d7" else OTHER


def cut(text: str, room: float, size: float, fixed: bool, where: str) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if width(text, size, fixed) <= room + 0.5:
        return text
    room -= width("…", size, fixed)
    if where == FRONT:
        return "…" + head(text[::-1], room, size, fixed)[::-1]
    if where == MIDDLE:
        first = head(text, room * 0.6, size, fixed)
        rest = head(text[::-1], room - width(first, size, fixed), size, fixed)[::-1]
        return f"{first}…{rest}"
    return head(text, room, size, fixed).rstrip(" ·,") + "…"


def head(text: str, room: float, size: float, fixed: bool) -> str:
    """As many first characters as fit."""
    for index, char in enumerate(text):
        room -= em(char, fixed) * size
        if room < 0:
            return text[:index]
    return text


def wrap(text: str, room: float, size: float, most: int) -> list[str]:
    """Lines, at most so many, broken between things (at ` · `) rather than inside one; the last one may be too long."""
    lines = [""]
    for thing in text.split(" · "):
        longer = f"{lines[-1]} · {thing}" if lines[-1] else thing
        if width(longer, size, False) <= room or len(lines) >= most:
            lines[-1] = longer
            continue
        lines += [thing] if lines[-1] else []
        lines[-1] = thing
        while width(lines[-1], size, False) > room and len(lines) < most:
            first, rest = broken(lines[-1], room, size)
            if not rest:
                break
            lines[-1:] = [first, rest]
    return lines


def broken(text: str, room: float, size: float) -> tuple[str, str]:
    """As many words as fit, one at least, and the rest."""
    first, _, rest = text.partition(" ")
    while rest:
        word, _, after = rest.partition(" ")
        if width(f"{first} {word}", size, False) > room:
            break
        first, rest = f"{first} {word}", after
    return first, rest
