"""A picture -> Mermaid's flowchart text, for pages that draw it themselves (GitHub, GitLab, many wikis).

Rules
1. Names of nodes are our own (`n1`, `n2`, …), texts are quoted. What Mermaid, Markdown or HTML would read in a text is written as
   Mermaid's entity (`#lt;`, `#quot;`, `#35;`), what is not printable as U+FFFD.
2. A column is a subgraph, a framed group one inside it. A soft edge is dotted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.run.drawing.picture import NOTE, Box, Group, Picture, Row
from fairlead.run.drawing.svg import KINDS

DIRECTIVE = re.compile("%(?=[%{])")  # `%%{init: …}%%` is read anywhere
ENTITIES = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "#": "#35;", "`": "#96;", "\\": "#92;"}


def mermaid(picture: Picture) -> str:
    """The whole text."""
    return "\n".join(lines(picture)) + "\n"


def lines(picture: Picture) -> Iterator[str]:
    """The text's lines."""
    names: dict[str, str] = {}
    yield f"%% {safe(picture.title)}: {safe(picture.subtitle)}"
    yield "flowchart LR"
    for index, column in enumerate(picture.columns):
        yield f'  subgraph c{index}["{safe(column.caption)}"]'
        for group in column.groups:
            yield from grouped(group, names)
        yield "  end"
    for edge in picture.edges:
        label = f'|"{safe(edge.label)}"|' if edge.label else ""
        yield f"  {names[edge.source]} {'-.->' if edge.soft else '-->'}{label} {names[edge.target]}"
    for kind in sorted({box.kind for box in picture.boxes.values() if box.kind in KINDS}):
        yield f"  classDef {kind} stroke:{KINDS[kind][0]},stroke-width:2px"


def grouped(group: Group, names: dict[str, str]) -> Iterator[str]:
    """The boxes of a group, in a subgraph when it has a caption."""
    if group.caption:
        names[group.name] = f"g{len(names) + 1}"
        yield f'    subgraph {names[group.name]}["{safe(group.caption)}"]'
    for box in group.boxes:
        names[box.name] = f"n{len(names) + 1}"
        yield f'    {"  " if group.caption else ""}{names[box.name]}["{words(box)}"]:::{box.kind}'
    if group.caption:
        yield "    end"


def words(box: Box) -> str:
    """The lines of a box."""
    return "<br>".join(said(row) for row in box.rows)


def said(row: Row) -> str:
    """One line: names of the first rank in bold."""
    text = " ".join(part for part in (row.number, row.text, f"({row.mark})" if row.mark else "") if part)
    return safe(text) if row.kind == NOTE else f"<b>{safe(text)}</b>"


def plain(text: str) -> str:
    """Text in one line."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def safe(text: str) -> str:
    """Text for a label."""
    return DIRECTIVE.sub("#37;", "".join(ENTITIES.get(char, char) for char in plain(text)))
