"""In which order the things of a column stand: as few crossings as a few sweeps find (Sugiyama, Tagawa and Toda, 1981).

Rules
1. Each sweep goes through the columns once, forwards or backwards, and sorts the groups of a column by the mean place of what
   they are joined to in the column before it (the barycentre); what is joined to nothing there keeps its place.
2. The order with the fewest crossings of all sweeps is kept; of equal ones the first, which is nearest to the file's. Crossings
   between two columns are counted as inversions, in O(E log E).
3. A fixed column is never sorted, nor are the boxes in a group.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import pairwise

from fairlead.run.drawing.picture import Column, Group, Picture

SWEEPS = 8
Places = dict[str, float]


def order(picture: Picture) -> None:
    """Sort the groups of every column."""
    columns = picture.columns
    sides = joined(picture)
    best, fewest = [list(column.groups) for column in columns], crossings(columns, sides)
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        steps = range(1, len(columns)) if forwards else range(len(columns) - 2, -1, -1)
        for index in steps:
            if not columns[index].fixed:
                sort(columns[index], places(columns[index - 1 if forwards else index + 1]), sides, forwards)
        found = crossings(columns, sides)
        if found < fewest:
            best, fewest = [list(column.groups) for column in columns], found
    for column, groups in zip(columns, best, strict=True):
        column.groups = groups


def joined(picture: Picture) -> dict[bool, dict[str, list[str]]]:
    """Who is joined to whom: for True from the left (targets' sources), for False from the right; arcs do not count."""
    rank = ranks(picture.columns)
    found: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for edge in picture.edges:
        if rank[edge.source] != rank[edge.target]:
            found[True].setdefault(edge.target, []).append(edge.source)
            found[False].setdefault(edge.source, []).append(edge.target)
    return found


def ranks(columns: list[Column]) -> dict[str, int]:
    """The column of every box and group."""
    found = {}
    for index, column in enumerate(columns):
        for group in column.groups:
            found[group.name] = index
            found.update((box.name, index) for box in group.boxes)
    return found


def places(column: Column) -> Places:
    """The place of every box in its column; a group's is its first box's, where its caption is."""
    found: Places = {}
    at = 0.0
    for group in column.groups:
        found[group.name] = at
        for box in group.boxes:
            found[box.name] = at
            at += 1
    return found


def sort(column: Column, others: Places, sides: dict[bool, dict[str, list[str]]], forwards: bool) -> None:
    """Sort a column by what stands beside it."""
    own = places(column)
    keys: dict[str, float] = {}
    for group in column.groups:
        found = [others[name] for end in ends(group) for name in sides[forwards].get(end, ()) if name in others]
        keys[group.name] = sum(found) / len(found) if found else own[group.name]
    column.groups.sort(key=lambda group: keys[group.name])


def ends(group: Group) -> list[str]:
    """The names under which edges find a group."""
    return [group.name, *(box.name for box in group.boxes)]


def crossings(columns: list[Column], sides: dict[bool, dict[str, list[str]]]) -> int:
    """How often edges cross, over all neighbouring columns."""
    total = 0
    for left, right in pairwise(columns):
        here, there = places(left), places(right)
        pairs = sorted((here[one], there[name]) for name in there for one in sides[True].get(name, ()) if one in here)
        seen: list[float] = []
        for _, target in pairs:
            total += len(seen) - bisect_right(seen, target)
            insort(seen, target)
    return total
