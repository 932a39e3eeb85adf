"""Lines of TOML keys: every shape a key or value can have, by table."""

from __future__ import annotations

import tomllib

import pytest

from fairlead.run.scan import scan

CASES = [
    ("a = 1", {"a": 1}),
    ("\n\n# c = 1\n  a = 1 # b = 2\nb=2", {"a": 4, "b": 5}),
    ("[t]\na = 1\n[t.u]\nb = 2", {"t": 1, "t.a": 2, "t.u": 3, "t.u.b": 4}),
    ("a.b . c = 1\na.d = 2", {"a": 1, "a.b": 1, "a.b.c": 1, "a.d": 2}),
    ('"x.y" = 1\n\'z w\' = 2\n"q\\"r" = 3\nbare-key_1 = 4', {'"x.y"': 1, '"z w"': 2, '"q\\"r"': 3, "bare-key_1": 4}),
    ("[[l]]\na=1\n\n[[l]]\na=2\n[l.s]\nb=3", {"l[0].a": 2, "l[1]": 4, "l[1].a": 5, "l[1].s": 6, "l[1].s.b": 7}),
    (
        "[[l]]\n[[l.f]]\na=1\n[[l.f]]\n[[l]]\n[[l.f]]\nb=1",
        {"l[0].f[0].a": 3, "l[0].f[1]": 4, "l[1].f[0]": 6, "l[1].f[0].b": 7},
    ),
    (
        "t = { a = 1, b.c = [ { d = 1 } ], e = {} }",
        {"t": 1, "t.a": 1, "t.b": 1, "t.b.c": 1, "t.b.c[0]": 1, "t.b.c[0].d": 1, "t.e": 1},
    ),
    ("a = [\n 1,\n # x\n 2,\n]\nb = 3", {"a": 1, "a[0]": 2, "a[1]": 4, "b": 6}),
    ("a = [\n { x = 1 },\n { x = 2 },\n]", {"a[0].x": 2, "a[1].x": 3}),
    ('a = """\nb = 1\n\\""" """\nc = 2', {"a": 1, "c": 4}),
    ("a = '''\nb = 1\n\\'''\nc = 2", {"a": 1, "c": 4}),
    ('a = """x"""""\nc = 2', {"a": 1, "c": 2}),
    ('a = "#]},\\"" # "\nb = \'\\\'\nc = ""\nd = 1', {"a": 1, "b": 2, "c": 3, "d": 4}),
    ("a = 1979-05-27 07:32:00\nb = [1.5, inf, true]\nc = 0x1F", {"a": 1, "b[2]": 2, "c": 3}),
    ("a = 1\r\nb = [\r\n2\r\n]\r\nc = 3\r\n", {"a": 1, "b[0]": 3, "c": 5}),
    ("[ t . 'u' ]\nv = 1\n[[ w ]]\n", {"t": 1, "t.u": 1, "t.u.v": 2, "w[0]": 3}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "lines"), CASES, ids=range(len(CASES)))
def test_every_key_gets_the_line_where_it_is_written(text: str, lines: dict[str, int]) -> None:
    tomllib.loads(text)
    found = scan(text)
    assert {path: found.get(path) for path in lines} == lines


@pytest.mark.parametrize("text", [case[0] for case in CASES], ids=range(len(CASES)))
def test_no_key_is_invented_or_forgotten(text: str) -> None:
    def paths(value: object, path: str) -> set[str]:
        from fairlead.run.scan import join

        out = {path} if path else set()
        if isinstance(value, dict):
            return out.union(*[paths(item, join(path, key)) for key, item in value.items()])
        if isinstance(value, list):
            return out.union(*[paths(item, f"{path}[{index}]") for index, item in enumerate(value)])
        return out

    assert set(scan(text)) == paths(tomllib.loads(text), "")
