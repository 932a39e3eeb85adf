"""`fairlead diagram`: the picture says what the configuration says, nothing in it overlaps, and nothing in it breaks out."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fairlead.run import cli, diagram
from fairlead.run.drawing.mermaid import mermaid
from fairlead.run.drawing.order import crossings, joined, order
from fairlead.run.drawing.picture import Picture
from fairlead.run.drawing.place import place
from fairlead.run.drawing.reading import read
from fairlead.run.drawing.svg import svg
from fairlead.run.drawing.widths import cut, width, wrap
from fairlead.run.load import examine, loads

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted([*ROOT.glob("examples/*.toml"), *ROOT.glob("examples/*/fairlead.toml")])
SVG = "{http://www.w3.org/2000/svg}"
SHOP = """[[listener]]
name = "web"
bind = "127.0.0.1:8443"
tls = "dev"
[[listener]]
name = "inner"
bind = "unix:/run/inner.sock"
[[route]]
path = "/stock/*"
methods = ["GET"]
filters = [{ ratelimit = "100/s per client" }, "idempotency"]
proxy = "stock"
[[route]]
path = "/beta/*"
proxy = { split = { stock = 95, next = 5 } }
[[route]]
listener = "inner"
path = "/news/{topic}"
topic = {}
[[route]]
app = "shop:app"
[store]
url = "postgresql://app:hunter2@db.internal/shop?password=hunter2"
[[upstream]]
name = "stock"
balance = "p2c"
servers = ["10.0.0.1:80", { address = "10.0.0.2:80", weight = 3 }]
health = { path = "/healthz", every = "2s" }
[[upstream]]
name = "next"
servers = ["10.0.1.1:443"]
protocol = "h2"
tls = true
"""


def large():
    """200 routes over 60 upstreams of many servers."""
    parts = ['[[listener]]\nbind = "127.0.0.1:80"\n']
    for i in range(200):
        host = f'host = "shop{i % 7}.example"\n' if i % 3 else ""
        answer = f'app = "service{i % 11}.main:app"' if i % 9 == 0 else f'proxy = "up{(i // 4 + i % 3) % 60}"'
        parts.append(f'[[route]]\n{host}path = "/orders/{i}/*"\n{answer}\n')
    for i in range(60):
        servers = ", ".join(f'"10.{i}.0.{k}:8080"' for k in range(1, 2 + i % 14))
        parts.append(f'[[upstream]]\nname = "up{i}"\nservers = [{servers}]\n')
    return "".join(parts)


def odd():
    """Names as long and as strange as the configuration allows."""
    long, wide = "x" * 300, "\u8239" * 60
    body = json.dumps('</text><script>&"]]>\u202e\x01%%{init}%%`x`#')
    return f"""[[listener]]
bind = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]
[[route]]
path = "/{long}/{wide}"
headers = {{ x-{long[:50]} = "<script>alert(1)</script>" }}
respond = {{ body = {body} }}
[[route]]
path = "/{wide}/{{topic}}"
topic = {{ name = "a&b<c>" }}
[[route]]
redirect = "https://{long}"
"""


CONFIGS = {
    "demo": diagram.demo,
    "full": lambda: examine(str(ROOT / "examples" / "full.toml"))[0],
    "shop": lambda: loads(SHOP, "shop.toml"),
    "large": lambda: loads(large(), "large.toml"),
    "odd": lambda: loads(odd(), "odd.toml"),
    "least": lambda: loads('[[listener]]\n[[route]]\nrespond = "x"\n', "least.toml"),
    "jobs": lambda: loads('[jobs]\nworkers = 2\nmodules = ["shop.tasks"]\n', "jobs.toml"),
    "itself": None,
}


def picture_of(name):
    return diagram.itself() if CONFIGS[name] is None else read(CONFIGS[name]())


def texts_of(document):
    return ["".join(one.itertext()) for one in ElementTree.fromstring(document).iter(f"{SVG}text")]


# ---- what it says


def test_the_pictures_in_the_docs_are_those_that_are_drawn_now():
    for name, drawn in diagram.pictures(ROOT / "docs").items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == drawn, "run: python -m fairlead.run.diagram docs"


def test_the_demos_diagram_reads_like_its_configuration():
    config, texts = diagram.demo(), texts_of(svg(read(diagram.demo())))
    for listener in config.listeners:
        assert {listener.name, str(listener.bind[0])} <= set(texts)
    for number, route in enumerate(config.routes, 1):
        assert texts[texts.index(str(number)) + 1 : texts.index(str(number)) + 3] == [route.path or "/*", route.answer]
    assert {"h1 h2 h3 · TLS", "h1 h2c · plain", "h1 · unix", "stock", "unix:stock.sock"} <= set(texts)
    assert {"SQLite", "demo/demo.db", "pipeline", "{topic}", "fairlead.run.reports.reports:build"} <= set(texts)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT / "examples")))
def test_every_example_is_drawn(file):
    config, _ = examine(str(file))
    drawn = svg(read(config))
    assert len([one for one in texts_of(drawn) if one.isdecimal()]) == len(config.routes)


def test_an_upstream_says_who_is_picked_how_it_is_asked_and_what_is_spoken():
    texts = texts_of(svg(read(loads(SHOP))))
    assert {"upstream · p2c", "GET /healthz every 2s", "10.0.0.2:80", "\u00d73", "h1 · plain"} <= set(texts)
    assert {"h2 · TLS", "95 % stock", "5 % next"} <= set(texts)
    assert "only GET" in texts and "through ratelimit 100/s per client" in texts and "idempotency keys" in texts


def test_a_route_of_one_listener_stands_in_a_frame_of_its_own():
    picture = read(loads(SHOP))
    frames = [group for group in picture.columns[2].groups if group.caption]
    assert [(frame.caption, [box.rows[0].number for box in frame.boxes]) for frame in frames] == [
        ("the first match answers", ["1", "2", "4"]),
        ("on inner only", ["3"]),
    ]
    assert {edge.source for edge in picture.edges if edge.target == frames[1].name} == {"listener inner"}


def test_what_is_secret_in_a_stores_url_is_not_shown():
    picture = read(loads(SHOP))
    for drawn in (svg(picture), mermaid(picture)):
        assert "hunter2" not in drawn and "app:" not in drawn.replace("shop:app", "") and "db.internal/shop" in drawn


def test_routes_that_differ_only_in_their_path_and_long_lists_are_folded():
    routes = "".join(f'[[route]]\npath = "/p{i}"\nproxy = "web"\n' for i in range(20))
    servers = ", ".join(f'"10.0.0.{i}:80"' for i in range(1, 13))
    texts = texts_of(svg(read(loads(f'[[listener]]\n{routes}[[upstream]]\nname = "web"\nservers = [{servers}]\n'))))
    assert "/p2" in texts and "/p3" not in texts and "… and 17 more like these" in texts
    assert "10.0.0.5:80" in texts and "10.0.0.6:80" not in texts and "… and 7 more" in texts


def test_a_file_for_jobs_alone_shows_who_works_and_where_they_are_kept():
    texts = texts_of(svg(picture_of("jobs")))
    assert {"2 processes for jobs", "shop.tasks", "SQLite"} <= set(texts) and "Clients" not in texts


def test_those_who_do_not_see_it_are_told_all_of_it():
    root = ElementTree.fromstring(svg(read(loads(SHOP, "shop.toml"))))
    assert root.find(f"{SVG}title").text == "shop.toml: overview"
    says = root.find(f"{SVG}desc").text
    assert "/stock/* (proxy); only GET" in says and "stock to 10.0.0.1:80 (h1 · plain)." in says
    assert root.get("role") == "img" and root.get("aria-labelledby") == "fairlead-title fairlead-says"


# ---- how it looks


def boxes_and_texts(picture):
    """(boxes as x, y, width, height; texts as the same) of a drawn picture; texts in boxes only."""
    root = ElementTree.fromstring(svg(picture))
    boxes, texts = [], []
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is None:
            continue
        box = tuple(float(rect.get(name)) for name in ("x", "y", "width", "height"))
        boxes.append(box)
        texts += [(box, text) for text in group.iter(f"{SVG}text")]
    return boxes, texts


def extent(text):
    """(left, right) of a text in pixels, as `widths` counts it."""
    kind, x = text.get("class"), float(text.get("x"))
    size = {"title": 13, "item": 12, "note": 11.5}.get(kind, 11)
    wide = width(text.text or "", size, kind in ("title", "item"))
    return (x - wide, x) if kind in ("mark", "lab") else (x, x + wide)


@pytest.mark.parametrize("name", CONFIGS)
def test_boxes_do_not_overlap_and_texts_stay_in_them(name):
    picture = picture_of(name)
    boxes, texts = boxes_and_texts(picture)
    for column in {box[0] for box in boxes}:
        stacked = sorted(box for box in boxes if box[0] == column)
        assert all(upper[1] + upper[3] + 5 <= lower[1] for upper, lower in itertools.pairwise(stacked))
    lines = {}
    for box, text in texts:
        left, right = extent(text)
        assert box[0] + 8 <= left and right <= box[0] + box[2] - 8, text.text
        assert box[1] + 8 <= float(text.get("y")) <= box[1] + box[3] - 4
        lines.setdefault((box, round(float(text.get("y")))), []).append((left, right))
    for placed in lines.values():
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(sorted(placed)))
    assert all(box[0] >= 0 and box[0] + box[2] <= picture.width and box[1] + box[3] <= picture.height for box in boxes)


@pytest.mark.parametrize("name", CONFIGS)
def test_labels_of_edges_touch_neither_each_other_nor_a_box(name):
    picture = picture_of(name)
    boxes, _ = boxes_and_texts(picture)
    labels = [text for text in ElementTree.fromstring(svg(picture)).iter(f"{SVG}text") if text.get("class") == "lab"]
    areas = [(*extent(text), float(text.get("y")) - 9, float(text.get("y")) + 2) for text in labels]
    for one, other in itertools.combinations(areas, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
    for left, right, top, bottom in areas:
        for x, y, wide, high in boxes:
            assert right <= x or x + wide <= left or bottom <= y or y + high <= top


def test_columns_are_sorted_so_that_edges_do_not_cross():
    picture = Picture("x", "", ["a", "b", "c"], fixed=0)
    for i in range(12):
        picture.box(0, f"a{i}", "app", f"a{i}")
        picture.box(1, f"b{11 - i}", "app", "b")
        picture.box(2, f"c{i * 7 % 12}", "app", "c")
    for i in range(12):
        picture.edge(f"a{i}", f"b{i}")
        picture.edge(f"b{i}", f"c{i}")
    assert crossings(picture.columns, joined(picture)) > 60
    order(picture)
    assert crossings(picture.columns, joined(picture)) == 0
    assert [group.boxes[0].name for group in picture.columns[0].groups] == [f"a{i}" for i in range(12)]


def test_edges_of_a_straight_configuration_are_level():
    picture = read(loads('[[listener]]\n[[route]]\napp = "app:app"\n'))
    place(picture)
    route, app = picture.boxes["route 1"], picture.boxes["app app:app ."]
    assert abs(route.y + route.rows[0].y - app.y - app.rows[0].y) < 1


def test_the_same_configuration_gives_the_same_bytes_whatever_the_hash_seed():
    script = "from fairlead.run import diagram as d; print(d.svg(d.read(d.demo())))"
    command = [sys.executable, "-P", "-c", script]
    drawn = [
        subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}, check=True).stdout
        for seed in ("1", "2")
    ]
    assert drawn[0] == drawn[1] and b"<svg" in drawn[0]


def test_it_is_light_or_dark_as_the_reader_is_and_needs_nothing_else():
    drawn = svg(read(loads(SHOP)))
    assert "@media(prefers-color-scheme:dark)" in drawn
    assert not re.search(r"href|url\(|<script|@import|<image|<foreignObject", drawn)


# ---- what cannot happen


def test_nothing_in_a_configuration_breaks_out_of_the_picture():
    drawn = svg(picture_of("odd"))
    tags = {one.tag.removeprefix(SVG) for one in ElementTree.fromstring(drawn).iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "text", "g", "path"}
    assert "\x01" not in drawn and "\u202e" not in drawn and "\ufffd" in drawn


def test_nothing_in_a_configuration_breaks_out_of_the_text():
    drawn = mermaid(picture_of("odd"))
    assert "<script" not in drawn and "%%{" not in drawn and "\u202e" not in drawn and "`" not in drawn
    for line in drawn.splitlines()[2:]:
        assert line.count('"') in (0, 2), line


def test_a_text_is_cut_where_it_may_be():
    assert cut("short", 100, 10, True, "back") == "short"
    for where, kept in (("front", "…"), ("back", "a"), ("middle", "a")):
        got = cut("abcdefghijklmnop", 50, 10, True, where)
        assert width(got, 10, True) <= 50 and "…" in got and got.startswith(kept)
    assert cut("abcdefghijklmnop", 50, 10, True, "front").endswith("p")
    assert wrap("one two · three four · five", 60, 10, 4) == ["one two", "three four", "five"]


# ---- the command


def test_the_ending_says_what_is_written(tmp_path, capsys):
    file = tmp_path / "shop.toml"
    file.write_text(SHOP)
    assert cli.main(["diagram", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("%% shop.toml: ") and "flowchart LR" in printed
    for name, begin in (("x.svg", "<svg "), ("x.mmd", "%% shop.toml")):
        assert cli.main(["diagram", str(file), "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().startswith(begin)
    assert "2 listeners, 4 routes, 2 upstreams" in capsys.readouterr().out
    assert (tmp_path / "x.mmd").read_text() == printed


def test_a_configuration_with_errors_gives_those_of_check(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text('[[listener]]\nbnid = "127.0.0.1:80"\n[[route]]\nproxy = "nobody"\n')
    assert cli.main(["check", str(file)]) == 2
    said = capsys.readouterr().err
    assert cli.main(["diagram", str(file), "-o", str(tmp_path / "x.svg")]) == 2
    assert capsys.readouterr().err == said and said.count("\n") == 2
    assert not (tmp_path / "x.svg").exists()


def test_what_cannot_be_written_is_said_in_one_line(tmp_path, capsys):
    file = tmp_path / "shop.toml"
    file.write_text(SHOP)
    assert cli.main(["diagram", str(file), "-o", "x.png"]) == 2
    assert capsys.readouterr().err == "fairlead: x.png: a diagram is written as .svg or .mmd (write -o overview.svg)\n"
    assert cli.main(["diagram", str(file), "-o", str(tmp_path / "no" / "x.svg")]) == 1
    assert "cannot be written" in capsys.readouterr().err
