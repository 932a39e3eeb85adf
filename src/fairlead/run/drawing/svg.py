"""A placed picture -> SVG 1.1 that needs nothing else: no script, no font, no file; fit for `<img>` in Markdown.

Rules
1. Text is text, in the reader's own fonts, cut to the room that `place` found (`widths`). Everything from the configuration is
   escaped, and what no XML may hold, or what would turn the direction of text, becomes U+FFFD.
2. Colours are in one style sheet, twice: light, and dark by `prefers-color-scheme`. It has no variables, which not every
   renderer knows. The ground is painted: a page need not have the scheme of its reader's system.
3. `<title>` and `<desc>` say all of it in words; each box has a `<title>` with its whole text.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from fairlead.run.drawing.order import ranks
from fairlead.run.drawing.picture import NOTE, TITLE, Box, Edge, Group, Picture, Row
from fairlead.run.drawing.place import (
    CAPTION,
    LABEL,
    MARGIN,
    MARK,
    SIDE,
    SIZES,
    TOP,
    Gap,
    indent,
    place,
    port,
)
from fairlead.run.drawing.widths import cut, width

WORDS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
NAMES = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
MANY = 60  # edges, from which on they are drawn thinner
GREY, BLUE, ORANGE = ("#5b6b7f", "#93a4ba"), ("#2563c9", "#77a8ff"), ("#b4530f", "#f0a35e")
VIOLET, GREEN = ("#6d3fc4", "#b394ff"), ("#4d6b12", "#a9cf5f")
KINDS = {  # kind of box: its colour on a light and on a dark ground
    "client": GREY, "listener": ("#0b7a75", "#3fc1ba"), "app": BLUE, "wsgi": BLUE, "grpc": VIOLET, "proxy": ORANGE,
    "upstream": ORANGE, "files": ("#4a6076", "#9db4cc"), "topic": ("#0f7b4f", "#55cf98"), "job": ("#a82a66", "#f48ab9"),
    "upload": ("#856400", "#e0bd4a"), "signal": VIOLET, "redirect": GREY, "respond": GREY, "kept": GREEN, "store": GREEN,
    "outside": GREY,
}  # fmt: skip
GROUND, BOX, INK, QUIET, LINE, FRAME = range(6)
LIGHT = ("#fbfcfd", "#ffffff", "#16202b", "#566472", "#d3dbe3", "#f1f4f7")
DARK = ("#11161c", "#1a2129", "#e7edf3", "#9fadbb", "#36414d", "#161c23")


def svg(picture: Picture) -> str:
    """The whole file."""
    gaps = place(picture)
    return "\n".join(lines(picture, gaps)) + "\n"


def lines(picture: Picture, gaps: list[Gap]) -> Iterator[str]:
    """The file's lines."""
    wide, high = number(max(picture.width, 420.0)), number(picture.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img" '
        'aria-labelledby="fairlead-title fairlead-says">'
    )
    yield f'<title id="fairlead-title">{safe(picture.title)}: overview</title>'
    yield f'<desc id="fairlead-says">{safe(picture.says)}</desc>'
    yield f"<style>{style(len(picture.edges))}</style>"
    yield f'<rect class="ground" width="{wide}" height="{high}" rx="12"/>'
    room = max(picture.width, 420.0) - 2 * MARGIN
    yield text(MARGIN, 36, cut(picture.title, room, 17, True, "back"), "head")
    yield text(MARGIN, 57, cut(picture.subtitle, room, 12, False, "back"), "sub")
    for column in picture.columns:
        if column.caption:
            yield text(column.x, TOP - 16, column.caption, "col")
    groups = [group for column in picture.columns for group in column.groups]
    for group in groups:
        if group.caption:
            yield frame(group)
    yield from edges(picture, gaps)
    for group in groups:
        for box in group.boxes:
            yield from drawn(box)
    yield "</svg>"


# ---- boxes ----------------------------------------------------------------------------------------------------------


def frame(group: Group) -> str:
    """The frame of a group, with its caption."""
    caption = cut(group.caption, group.width - 2 * SIDE, LABEL, False, "back")
    return (
        f'<rect class="frame" x="{number(group.x)}" y="{number(group.y)}" width="{number(group.width)}" '
        f'height="{number(group.height)}" rx="10"/>' + text(group.x + SIDE, group.y + CAPTION / 2 + 6, caption, "cap")
    )


def drawn(box: Box) -> Iterator[str]:
    """A box with its lines."""
    yield f'<g class="{box.kind}"><title>{safe(box.about)}</title>'
    place = f'x="{number(box.x)}" y="{number(box.y)}"'
    yield f'<rect class="box" {place} width="{number(box.width)}" height="{number(box.height)}" rx="6"/>'
    x, y, high = box.x, box.y, box.height
    bar = f"M{number(x + 4)} {number(y)}h-0q-4 0-4 6v{number(high - 12)}q0 6 4 6z"
    yield f'<path class="bar" d="{bar}"/>'
    for row in box.rows:
        yield from line(box, row)
    yield "</g>"


def line(box: Box, row: Row) -> Iterator[str]:
    """A line of a box: a number, the text, a mark at its end."""
    base = box.y + row.y + SIZES[row.kind] * 0.35
    left, right = box.x + SIDE, box.x + box.width - SIDE
    if row.number:
        yield text(left, base, row.number, "num")
    left += indent(box)
    room = right - left - (width(row.mark, MARK, False) + 10 if row.mark else 0.0)
    folded = row.text.startswith("… and ")
    kind = NOTE if folded and row.kind == TITLE else row.kind
    yield text(left, base, cut(row.text, room, SIZES[row.kind], kind != NOTE, row.cut), kind)
    if row.mark:
        yield text(right, base, row.mark, "mark")


# ---- edges ----------------------------------------------------------------------------------------------------------


def edges(picture: Picture, gaps: list[Gap]) -> Iterator[str]:
    """All lines, their heads and their labels; a head and a label once where several lines arrive."""
    ends: dict[str, Box | Group] = dict(picture.boxes)
    ends |= {group.name: group for column in picture.columns for group in column.groups}
    rank, heads, stubs = ranks(picture.columns), set(), set()
    for edge in picture.edges:
        source, target = ends[edge.source], ends[edge.target]
        kind, soft = colour(source, target), " soft" if edge.soft else ""
        gap = gaps[rank[edge.source]]
        path, tip = arc(edge, source, target, gap) if edge in gap.lanes else curve(edge, source, target, gap)
        if (edge.target, kind, soft) in stubs and edge not in gap.lanes:
            path = path[: path.rindex("H")]  # the straight end is there: dashes over dashes are no dashes
        stubs.add((edge.target, kind, soft) if edge not in gap.lanes else ())
        yield f'<g class="edge {kind}{soft}"><path class="line" d="{path}"/>'
        if (edge.target, tip, kind) not in heads:
            heads.add((edge.target, tip, kind))
            yield f'<path class="tip" d="{tip}"/>'
        if edge.label:
            y = target.y + port(target, None) - 5
            yield text(target.x - 9, y, edge.label, "lab")
        yield "</g>"


def colour(source: Box | Group, target: Box | Group) -> str:
    """The kind whose colour an edge has: of what answers, on either side of it."""
    if isinstance(target, Box) and target.kind != "outside":
        told = isinstance(source, Box) and source.kind == "upload" and target.kind != "store"
        return "upload" if told else target.kind
    return source.kind if isinstance(source, Box) else "client"


def curve(edge: Edge, source: Box | Group, target: Box | Group, gap: Gap) -> tuple[str, str]:
    """A line to the next column, and its head: straight, bent where there is room for it, straight."""
    x1, y1 = source.x + source.width, source.y + port(source, edge.row)
    x2, y2 = target.x, target.y + port(target, None)
    middle = (gap.begin + gap.end) / 2
    bent = f"C{number(middle)} {number(y1)} {number(middle)} {number(y2)} {number(gap.end)} {number(y2)}"
    path = f"M{number(x1)} {number(y1)}H{number(gap.begin)}{bent}H{number(x2 - 5)}"
    return path, f"M{number(x2)} {number(y2)}l-8-4v8z"


def arc(edge: Edge, source: Box | Group, target: Box | Group, gap: Gap) -> tuple[str, str]:
    """A line within a column, along its lane behind the boxes."""
    ends = [one.boxes[-1] if isinstance(one, Group) else one for one in (source, target)]
    y1, y2 = (one.y + one.rows[-1].y for one in ends)
    x1, x2 = (one.x + one.width for one in ends)
    lane, turn = gap.lanes[edge], 7 if y2 > y1 else -7
    path = (
        f"M{number(x1)} {number(y1)}H{number(lane - 7)}q7 0 7 {turn}V{number(y2 - turn)}q0 {turn}-7 {turn}H{number(x2 + 5)}"
    )
    return path, f"M{number(x2)} {number(y2)}l8-4v8z"


# ---- words ----------------------------------------------------------------------------------------------------------


def text(x: float, y: float, words: str, kind: str) -> str:
    """A text at its base line."""
    return f'<text class="{kind}" x="{number(x)}" y="{number(y)}">{safe(words)}</text>'


def safe(words: str) -> str:
    """Text for XML."""
    return escape("".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in words), {'"': "&quot;"})


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def style(count: int) -> str:
    """The style sheet."""
    wide = "1.5" if count < MANY else "1"
    common = (
        f"text{{font:11px {WORDS}}}.head{{font:600 17px {NAMES}}}.sub{{font-size:12px}}.col{{font-size:12px;font-weight:600}}"
        f".title,.item{{font:12px {NAMES};white-space:pre}}.title{{font-size:13px;font-weight:600}}.note{{font-size:11.5px}}"
        ".mark,.lab{text-anchor:end}.box,.frame{stroke-width:1}.line{fill:none;stroke-width:" + wide + "}"
        ".soft .line{stroke-dasharray:5 4}.edge:hover .line{stroke-width:3}"
    )
    dark = f"@media(prefers-color-scheme:dark){{{colours(DARK, 1)}}}"
    return common + colours(LIGHT, 0) + dark


def colours(shades: tuple[str, ...], scheme: int) -> str:
    """The colours of one scheme."""
    out = (
        f".ground{{fill:{shades[GROUND]}}}.box{{fill:{shades[BOX]};stroke:{shades[LINE]}}}.frame{{fill:{shades[FRAME]};"
        f"stroke:{shades[LINE]}}}.head,.title,.item{{fill:{shades[INK]}}}.sub,.col,.cap,.note,.num,.lab{{fill:{shades[QUIET]}}}"
    )
    for kind, pair in KINDS.items():
        out += f".{kind} .bar,.{kind} .tip,.{kind} .mark{{fill:{pair[scheme]}}}.{kind} .line{{stroke:{pair[scheme]}}}"
    return out
