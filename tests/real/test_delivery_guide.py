"""The guide of delivery patterns does what it says: every example of its pages is run; its diagrams are made from their sources."""

import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Real
from processes import Process, program

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs" / "guide" / "delivery"
PAGES = sorted(page.stem for page in GUIDE.glob("*.md") if page.stem != "README")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """The configuration of the guide's first page."""
    (config,) = [text for kind, text in BLOCK.findall((GUIDE / "README.md").read_text()) if kind == "toml"]
    config = config.replace("127.0.0.1:8000", "127.0.0.1:@PORT@").replace("[server]", '[server]\ngrace = "1s"')
    with Real() as peers:
        started = peers.fairlead(config=config)
        started.says("Ctrl-C")
        yield started
        started.kill()  # at once: who follows would be waited for


def here(text: str, server: Process) -> str:
    return text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of_a_page_do_what_it_says(server: Process, name: str, tmp_path: Path) -> None:
    program("curl")
    for command, module in (("python", ""), ("fairlead", " -m fairlead")):
        (tmp_path / command).write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
        (tmp_path / command).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said, ran = "", 0
    for kind, text in BLOCK.findall((GUIDE / f"{name}.md").read_text()):
        if kind == "python":
            file = re.match(r"# (\w+\.py)\n", text)
            assert file, "an example in Python begins with the name of its file"
            (tmp_path / file[1]).write_text(here(text, server))
        elif kind == "sh":
            shell = ["bash", "-eu", "-o", "pipefail", "-c", here(text, server)]
            done = subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            said, ran = done.stdout, ran + 1
        elif kind == "text":
            wanted = ".*".join(re.escape(part) for part in text.split("…"))
            assert re.fullmatch(wanted, said), f"it said:\n{said}"
    assert ran


def test_the_diagrams_are_made_from_their_sources() -> None:
    loader = importlib.machinery.SourceFileLoader("sequence", str(ROOT / "scripts" / "sequence"))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader("sequence", loader))  # type: ignore[arg-type]
    sys.dont_write_bytecode = True
    loader.exec_module(made)
    for source in GUIDE.glob("*.seq"):
        drawn = made.draw(*made.parse(source.read_text()))
        assert source.with_suffix(".svg").read_text() == drawn, f"scripts/sequence {source.name} would draw another"
        assert f"]({source.stem}.svg)" in (GUIDE / f"{source.stem}.md").read_text()
