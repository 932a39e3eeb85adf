"""The shape of the code: imports point one way, files and functions stay short, every .pxd matches its source."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fairlead"
MODULES = sorted(SOURCE.rglob("*.py"))
ALLOWED = {
    "core": set(),
    "wire": {"core"},
    "store": {"core", "wire"},
    "net": {"core", "wire"},
    "client": {"core", "wire", "net"},
    "adapters": {"core", "client"},
    "serve": {"core", "wire", "net", "store"},
    "run": {"core", "wire", "net", "store", "serve", "client"},
    "probe": {"core", "wire", "net", "store", "serve", "run", "client"},
    "lab": {"core", "wire", "net", "store", "serve", "run", "probe", "client"},
}
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


@cache
def parsed(path):
    return ast.parse(path.read_text())


def name_of(path):
    return str(path.relative_to(SOURCE))


def imported_layers(path):
    for node in ast.walk(parsed(path)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "fairlead" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != SOURCE], ids=name_of)
def test_imports_point_one_way(path):
    layer = path.relative_to(SOURCE).parts[0]
    wrong = {found for found in imported_layers(path) if found in ALLOWED and found != layer and found not in ALLOWED[layer]}
    assert not wrong, f"{layer} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert text.count("\n") <= 620 or name_of(path) in LONG_FILES
    for node in ast.walk(parsed(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            size = (node.end_lineno or 0) - node.lineno + 1
            assert size <= 60 or f"{name_of(path)}:{node.name}" in LONG_FUNCTIONS, f"{node.name} has {size} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_opens_with_what_it_is_about(path):
    assert ast.get_docstring(parsed(path)), "no module docstring"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.pxd")), ids=name_of)
def test_every_name_in_a_pxd_exists_in_its_source(path):
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path.with_suffix(".pyx")
    text = source.read_text()
    declared = re.findall(r"^\s*cp?def (?!class )[^(=\n]*?\b(\w+)\(", path.read_text(), re.M)
    missing = [name for name in declared if not re.search(rf"def [^(=\n]*\b{name}\(", text)]
    assert not missing


def test_wire_knows_no_socket_no_await_and_no_clock():
    for path in (SOURCE / "wire").glob("*.py"):
        if path.name == "_plain.py":
            continue
        tree = parsed(path)
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert not imported & {"socket", "asyncio", "time", "select", "random"}, path.name
        assert not any(isinstance(node, (ast.Await, ast.AsyncFunctionDef)) for node in ast.walk(tree)), path.name


PAGES = [ROOT / "docs" / "design.md", *sorted((ROOT / "docs" / "components").glob("*.md"))]
HAVE = {name_of(p) for p in SOURCE.rglob("*")}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_file_that_a_page_names_is_there(path):
    stems = HAVE | {name.rpartition(".")[0] for name in HAVE}
    named = re.findall(rf"`((?:{'|'.join(ALLOWED)})(?:/\w+)+(?:\.(?:py|pxd|pyx|js|html|css))?)(?:\.\w+)*`", path.read_text())
    missing = [name for name in named if name not in stems]
    for name in re.findall(r"`(?!test_|x\.)(\w+\.(?:py|pxd|pyx))`", path.read_text()):
        missing += [] if any(f"/{have}".endswith(f"/{name}") for have in HAVE) else [name]
    assert not missing
