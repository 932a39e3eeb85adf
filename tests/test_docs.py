"""The documents: links lead somewhere, TOML is a configuration, Python compiles, each `fairlead` command has the options shown."""

import re
import shlex
from pathlib import Path
from textwrap import dedent, indent
from urllib.parse import unquote

import pytest

from fairlead.run import cli
from fairlead.run.load import examine_text

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "changes", "examples", "bench", "fuzz")
BELOW = [page for top in FOLDERS for page in sorted((ROOT / top).rglob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *BELOW]
BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```", re.M | re.S)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\(([^()\s]*(?:\([^()]*\))?[^()\s]*)\)")
PART = (  # what is wrong with a table that is shown alone
    "has no listener", "there is no listener", "there is no upstream", "does not exist", "has no servers", "has no answer",
    "has no name",
)  # fmt: skip


def name_of(page):
    return str(page.relative_to(ROOT))


def prose(text):
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))


def anchors(text):
    """The names of a page's headings, as GitHub makes them."""
    found, seen = set(), {}
    for heading in re.findall(r"^#+ +(.*?)\s*#*$", BLOCK.sub("", text), re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def blocks(page, *kinds):
    for _, kind, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind.strip() in kinds:
            yield code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(BLOCK.sub("", text)) + re.findall(r'(?:src|href)="([^"]*)"', prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {path}"
        assert target.is_relative_to(ROOT), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_compiles_and_toml_is_a_configuration(page):
    for code in blocks(page, "python"):
        compile(f"async def part():\n{indent(dedent(code), '    ')}", name_of(page), "exec")
    for code in blocks(page, "toml"):
        _, problems = examine_text(whole(code), name_of(page), env={})
        wrong = [str(one) for one in problems if one.severity == "error" and not any(word in one.message for word in PART)]
        assert not wrong, "\n".join([code, *wrong])


def whole(code):
    """A block that shows the inside of a table, with the table's head."""
    first = re.sub(r"^(\s*(#.*)?\n)*", "", code)
    for begin, head in (("[route.", "[[route]]"), ("filters", "[[route]]"), ("[upstream.", '[[upstream]]\nname = "x"')):
        if first.startswith(begin):
            return f"{head}\n{code}"
    return code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_configuration_that_is_run_is_whole(page):
    for code in blocks(page, "toml"):
        named = re.match(r"# ([\w.-]+\.toml)\n", code)
        if named and f"fairlead run {named[1]}" in page.read_text(encoding="utf-8"):
            _, problems = examine_text(code, named[1], env={})
            assert not [str(one) for one in problems if one.severity == "error"]


def commands(page):
    """The `fairlead` lines of a page's blocks, joined where they go on, without their remarks."""
    for code in blocks(page, "", "sh", "bash", "console", "shell"):
        for line in code.replace("\\\n", " ").splitlines():
            line = re.sub(r"^\s*\$ ", "", line)
            if re.match(r"\s*fairlead [a-z]", line) and "──" not in line:
                yield line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_as_they_are_shown(page, capsys):
    for line in commands(page):
        words = shlex.split(re.split(r"\s+#\s|\s{2,}(?=[a-z]+\s)| \|| >|&&|;|&$", line.strip())[0])
        top = cli.parser(words[1] if words[1] in cli.COMMANDS else "")
        try:
            top.parse_args(words[1:])
        except SystemExit as end:
            assert not end.code, f"{line}\n{capsys.readouterr().err}"
