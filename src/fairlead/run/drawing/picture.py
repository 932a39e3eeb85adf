"""What a diagram shows, before anybody decides where it stands: columns of groups of boxes, and edges between them.

Rules
1. A name is that of one box or group; edges go by names. An edge goes from a column to the next one, or stays in its column
   (then it is drawn as an arc). It may leave from one row of its box.
2. A box that is asked for twice is one box: `Picture.box` gives the first one back.
3. The text of a row is as the configuration has it. Whoever draws it cuts it to the room there is and escapes it; `about` is
   the whole of what a box would say.
4. `x y width height`, in pixels, belong to `place`; until then they are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

TITLE, NOTE, ITEM = "title", "note", "item"  # a name in fixed width; words about it; one of several things in fixed width
FRONT, MIDDLE, BACK = "front", "middle", "back"


@dataclass(eq=False)
class Row:
    """A line of a box. `mark` stands at its right end, `number` at its left one; `cut` says where it gets shorter."""

    text: str
    kind: str = NOTE
    mark: str = ""
    number: str = ""
    cut: str = BACK
    y: float = 0.0  # the middle of the line, from the top of its box


@dataclass(eq=False)
class Box:
    """One thing. `kind` chooses its colour."""

    name: str
    kind: str
    rows: list[Row] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def about(self) -> str:
        """All that it says, in one line."""
        return "; ".join(f"{row.text} ({row.mark})" if row.mark else row.text for row in self.rows)

    def note(self, *texts: str) -> Box:
        """Add lines; an empty text adds none."""
        self.rows += [Row(text) for text in texts if text]
        return self


@dataclass(eq=False)
class Group:
    """Boxes that stay together in their order: with a caption in a frame, without one a box alone."""

    name: str
    caption: str = ""
    boxes: list[Box] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


@dataclass(eq=False)
class Edge:
    """From a box or group to another. `soft` is what happens behind a request: kept, told, mirrored."""

    source: str
    target: str
    label: str = ""
    soft: bool = False
    row: Row | None = None


@dataclass(eq=False)
class Column:
    """Things of one rank. In a `fixed` column the order says something, and stays."""

    caption: str
    groups: list[Group] = field(default_factory=list)
    fixed: bool = False
    x: float = 0.0
    width: float = 0.0


class Picture:
    """The whole. `says` is the text for those who do not see it."""

    def __init__(self, title: str, subtitle: str, captions: list[str], fixed: int = -1) -> None:
        self.title, self.subtitle = title, subtitle
        self.columns = [Column(caption, fixed=index == fixed) for index, caption in enumerate(captions)]
        self.edges: list[Edge] = []
        self.boxes: dict[str, Box] = {}
        self.width = self.height = 0.0

    def group(self, column: int, name: str, caption: str = "") -> Group:
        """The group of this name."""
        for one in self.columns[column].groups:
            if one.name == name:
                return one
        made = Group(name, caption)
        self.columns[column].groups.append(made)
        return made

    def box(self, column: int, name: str, kind: str, title: str, cut: str = BACK, group: Group | None = None) -> tuple[Box, bool]:
        """(the box of this name, whether it is new)."""
        if name in self.boxes:
            return self.boxes[name], False
        made = self.boxes[name] = Box(name, kind, [Row(title, TITLE, cut=cut)])
        (group or self.group(column, f"around {name}")).boxes.append(made)
        return made, True

    def edge(self, source: str, target: str, label: str = "", soft: bool = False, row: Row | None = None) -> None:
        """Draw a line, once between the same two ends."""
        if not any((one.source, one.target, one.row) == (source, target, row) for one in self.edges_of(source)):
            self.edges.append(Edge(source, target, label, soft, row))

    def edges_of(self, source: str) -> Iterator[Edge]:
        """The edges that leave here; new ones are near the end."""
        return (one for one in reversed(self.edges) if one.source == source)

    def trim(self) -> None:
        """Leave out columns in which nothing stands."""
        self.columns = [column for column in self.columns if column.groups]

    @property
    def says(self) -> str:
        """Every box and every edge in words, column by column."""
        titles = {name: box.rows[0].text for name, box in self.boxes.items()}
        titles |= {group.name: group.caption for column in self.columns for group in column.groups if group.caption}
        lines = []
        for column in self.columns:
            lines.append(f"{column.caption}:")
            for group in column.groups:
                lines += [f"  {box.about}." for box in group.boxes]
        lines.append("Edges:")
        for edge in self.edges:
            word = f" ({edge.label})" if edge.label else ""
            lines.append(f"  {titles[edge.source]} to {titles[edge.target]}{word}.")
        return "\n".join(lines)
