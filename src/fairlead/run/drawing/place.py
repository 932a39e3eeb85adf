"""Where everything stands: sizes from the texts, columns from left to right, each column as level with its neighbours as it can.

Rules
1. All boxes of a column are as wide as its widest name, up to `MOST`; words are wrapped to that, and longer names are cut.
2. The tallest column is stacked; the others follow outwards from it. Each group wants to be where its edges are level, on
   average; groups that want the same place are moved apart as little as possible (least squares under a fixed order: isotonic
   regression by pooling adjacent violators; Barlow, Bartholomew, Bremner and Brunk, 1972).
3. Between two columns stand, from the left: lanes for arcs, room in which edges bend, room for labels. All bending is done in the
   middle part, so that a label has only its own edge under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.run.drawing.order import order, ranks
from fairlead.run.drawing.picture import ITEM, NOTE, TITLE, Box, Column, Edge, Group, Picture, Row
from fairlead.run.drawing.widths import width, wrap

SIZES = {TITLE: 13.0, ITEM: 12.0, NOTE: 11.5}
LINES = {TITLE: 20.0, ITEM: 17.0, NOTE: 16.0}
MARK = LABEL = 11.0
LEAST, MOST, WRAPPED = 84.0, 320.0, 216.0
PAD, SIDE, NUMBER = 7.0, 12.0, 24.0
FRAME, CAPTION = 10.0, 24.0
GAP, TIGHT = 16.0, 6.0
MARGIN, TOP = 24.0, 104.0
BEND, STEEP, LANE = 44.0, 14.0, 14.0


@dataclass
class Gap:
    """The room behind a column, as x: where bending begins and ends, and the lane of each arc."""

    begin: float = 0.0
    end: float = 0.0
    lanes: dict[Edge, float] = field(default_factory=dict)


def place(picture: Picture) -> list[Gap]:
    """Order a picture and give everything its place; the gaps behind the columns."""
    for column in picture.columns:
        size(column)
    order(picture)
    levels(picture)
    gaps = across(picture)
    bottom = max((group.y + group.height for column in picture.columns for group in column.groups), default=TOP)
    picture.height = bottom + MARGIN
    return gaps


# ---- sizes ----------------------------------------------------------------------------------------------------------


def size(column: Column) -> None:
    """The width of a column, and the heights of what stands in it."""
    boxes = [box for group in column.groups for box in group.boxes]
    rows = [(box, row) for box in boxes for row in box.rows]
    names = max((needs(box, row) for box, row in rows if row.kind != NOTE), default=0.0)
    notes = max((min(needs(box, row), WRAPPED) for box, row in rows if row.kind == NOTE), default=0.0)
    captions = max((2 + width(group.caption, LABEL, False) for group in column.groups if group.caption), default=0.0)
    framed, head = captions > 0, width(column.caption, 14, False) - 2 * SIDE
    inner = min(MOST, max(LEAST, head, names, notes, min(captions, WRAPPED) - 2 * FRAME))
    column.width = inner + 2 * SIDE + (2 * FRAME if framed else 0.0)
    for group in column.groups:
        for box in group.boxes:
            fill(box, inner)
        stack(group)


def indent(box: Box) -> float:
    """Room before the texts of a numbered box."""
    return NUMBER if box.rows and box.rows[0].number else 0.0


def needs(box: Box, row: Row) -> float:
    """The width of a line."""
    mark = width(row.mark, MARK, False) + 12 if row.mark else 0.0
    return indent(box) + width(row.text, SIZES[row.kind], row.kind != NOTE) + mark


def fill(box: Box, inner: float) -> None:
    """Wrap the words of a box, and give its lines their height."""
    rows: list[Row] = []
    for row in box.rows:
        lines = wrap(row.text, inner - indent(box), SIZES[NOTE], 4) if row.kind == NOTE else [row.text]
        if len(lines) > 1:
            rows += [Row(line) for line in lines]
        else:
            rows.append(row)
    box.rows, y = rows, PAD
    for row in rows:
        row.y = y + LINES[row.kind] / 2
        y += LINES[row.kind]
    box.width, box.height = inner + 2 * SIDE, y + PAD


def stack(group: Group) -> None:
    """The boxes of a group below each other, from 0."""
    y = CAPTION if group.caption else 0.0
    for box in group.boxes:
        box.y = y
        y += box.height + TIGHT
    group.height = y - TIGHT + (FRAME if group.caption else 0.0)


# ---- up and down ----------------------------------------------------------------------------------------------------


def levels(picture: Picture) -> None:
    """The y of every group, and of the boxes in it."""
    columns = picture.columns
    offsets = {group.name: port(group, None) for column in columns for group in column.groups}
    within: dict[str, Group] = {}
    for column in columns:
        for group in column.groups:
            within[group.name] = group
            for box in group.boxes:
                within[box.name], offsets[box.name] = group, port(box, None)
    edges = sided(picture)
    anchor = max(range(len(columns)), key=lambda index: tall(columns[index]))
    spread(columns[anchor].groups, [0.0] * len(columns[anchor].groups))
    others = [*range(anchor - 1, -1, -1), *range(anchor + 1, len(columns))]
    for index in others:
        settle(columns[index].groups, edges, within, offsets, (index + 1 if index < anchor else index - 1,))
    for _ in range(2):
        for index in others:
            settle(columns[index].groups, edges, within, offsets, (index - 1, index + 1))
    top = min((group.y for column in columns for group in column.groups), default=0.0)
    for column in columns:
        for group in column.groups:
            group.y += TOP - top
            for box in group.boxes:
                box.y += group.y


def tall(column: Column) -> float:
    """The height of a column without room."""
    return sum(group.height + GAP for group in column.groups)


def port(end: Box | Group, row: Row | None) -> float:
    """Where an edge meets something, from its top."""
    if isinstance(end, Group):
        return CAPTION / 2 + 2 if end.caption else port(end.boxes[0], None)
    return (row or end.rows[0]).y


def sided(picture: Picture) -> dict[str, list[tuple[str, str, float, int]]]:
    """By group: (own end, other end, offset of its row, the other's column) of every edge to another column."""
    rank = ranks(picture.columns)
    found: dict[str, list[tuple[str, str, float, int]]] = {}
    owner = {box.name: group.name for column in picture.columns for group in column.groups for box in group.boxes}
    for edge in picture.edges:
        ends = (edge.source, edge.target)
        for own, other in (ends, ends[::-1]):
            if rank[own] != rank[other]:
                entry = (own, other, edge.row.y if edge.row is not None else -1.0, rank[other])
                found.setdefault(owner.get(own, own), []).append(entry)
    return found


def settle(
    groups: Sequence[Group],
    edges: dict[str, list[tuple[str, str, float, int]]],
    within: dict[str, Group],
    offsets: dict[str, float],
    beside: tuple[int, ...],
) -> None:
    """Place a column where its edges to the columns beside it are level."""

    def inside(name: str) -> float:
        group = within[name]
        start = next((box.y for box in group.boxes if box.name == name), 0.0)
        return start + offsets[name]

    wanted = []
    for group in groups:
        found = [
            within[other].y + inside(other) - inside(own) for own, other, _, rank in edges.get(group.name, ()) if rank in beside
        ]
        wanted.append(sum(found) / len(found) if found else group.y)
    spread(groups, wanted)


def spread(groups: Sequence[Group], wanted: Sequence[float]) -> None:
    """The nearest places to those wanted, in this order and without touching."""
    blocks: list[list[float]] = []  # [sum of wanted places, count] with what stands before taken off
    before, offsets = 0.0, []
    for group, want in zip(groups, wanted, strict=True):
        offsets.append(before)
        blocks.append([want - before, 1.0])
        before += group.height + GAP
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, number = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += number
    bases = [total / number for total, number in blocks for _ in range(int(number))]
    for group, base, offset in zip(groups, bases, offsets, strict=True):
        group.y = round(base + offset, 1)


# ---- from left to right ---------------------------------------------------------------------------------------------


def across(picture: Picture) -> list[Gap]:
    """The x of every column, and the gaps behind them."""
    rank, gaps, x = ranks(picture.columns), [], MARGIN
    leaving: dict[int, list[Edge]] = {}
    for edge in picture.edges:
        leaving.setdefault(rank[edge.source], []).append(edge)
    ys = {box.name: box.y for box in picture.boxes.values()}
    for index, column in enumerate(picture.columns):
        column.x = x
        for group in column.groups:
            group.x, group.width = x, column.width
            for box in group.boxes:
                box.x = x + (column.width - box.width) / 2
        x += column.width
        edges = leaving.get(index, [])
        gap = Gap()
        for lane, edge in enumerate(arcs(edges, rank, ys)):
            gap.lanes[edge] = x + LANE * (1 + lane % 6)
        gap.begin = max(gap.lanes.values(), default=x - 6) + 6
        steepest = max((abs(ys.get(edge.source, 0.0) - ys.get(edge.target, 0.0)) for edge in edges), default=0.0)
        gap.end = gap.begin + min(160.0, BEND + steepest / STEEP)
        labels = [width(edge.label, LABEL, False) + 12 for edge in edges if edge.label]
        if index + 1 < len(picture.columns):
            x = gap.end + max(labels, default=0.0) + 10
        elif gap.lanes:
            x = gap.begin
        gaps.append(gap)
    picture.width = round(x + MARGIN, 1)
    return gaps


def arcs(edges: Sequence[Edge], rank: dict[str, int], ys: dict[str, float]) -> list[Edge]:
    """Edges that stay in their column, the shortest first."""
    found = [edge for edge in edges if rank[edge.source] == rank[edge.target]]
    return sorted(found, key=lambda edge: abs(ys[edge.source] - ys[edge.target]))
