"""Autobahn's WebSocket suite (PyPI autobahntestsuite, CPython 2.7), installed once into the user's cache and run as a peer.

`fuzz(urls, cases, exclude)` has it test servers, `serve()` is the server against which a client is tested. Results are
{case: (behavior, behaviorClose)} of Autobahn's own index.json.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from processes import PATIENCE, Process, folder, free_port, unavailable

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
HOME = CACHE / "fairlead" / "autobahn"
VERSION = "25.10.1"
CORE = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# of each group of permessage-deflate (five of 12, seven of 13; eighteen cases each, 1,000 messages a case): whole messages of 16
# and of 1,024 bytes, and one cut into frames of 256
PACKED = [*[f"12.{i}" for i in range(1, 6)], *[f"13.{i}" for i in range(1, 8)]]
SHARE = [f"{group}.{case}" for group in PACKED for case in (1, 4, 13)]
SETS = {"core": CORE, "share": SHARE}
Results = dict[str, tuple[str, str]]


@cache
def wstest() -> Path:
    """The suite's program; installed at the first use (a minute or two), else `unavailable`."""
    program = HOME / "py27" / "bin" / "wstest"
    if (HOME / "installed").exists():
        return program
    old = python27()
    try:
        HOME.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", HOME / "maker"])
        run([HOME / "maker" / "bin" / "pip", "install", "-q", "virtualenv<20.22"])
        run([HOME / "maker" / "bin" / "virtualenv", "-q", "-p", old, HOME / "py27"])
        run([HOME / "py27" / "bin" / "pip", "install", "-q", f"autobahntestsuite=={VERSION}"])
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or b""
        unavailable(f"Autobahn's suite cannot be installed here: {error} {said.decode(errors='replace')[-500:]}")
    (HOME / "installed").write_text(VERSION)
    return program


def run(argv: Sequence[object]) -> None:
    """One step of the installation."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    subprocess.run([str(part) for part in argv], check=True, capture_output=True, timeout=600, env=env)


def python27() -> str:
    """A CPython 2.7: on the path, or pyenv's."""
    candidates = sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python2.7"))
    for found in [*map(str, candidates), shutil.which("python2.7")]:
        if found and subprocess.run([found, "-c", "0"], capture_output=True).returncode == 0:
            return found
    return unavailable("Autobahn's suite needs a CPython 2.7")


def fuzz(url: str, cases: Sequence[str], exclude: Sequence[str] = (), seconds: float = 3600) -> Results:
    """Test the server at `url`."""
    home = folder()
    spec = {
        "outdir": str(home / "out"), "servers": [{"agent": "it", "url": url}],
        "cases": list(cases), "exclude-cases": list(exclude), "exclude-agent-cases": {},
    }  # fmt: skip
    (home / "fuzz.json").write_text(json.dumps(spec))
    try:
        with Process([wstest(), "-m", "fuzzingclient", "-s", home / "fuzz.json"], home=home, env=clean()) as process:
            process.wait(seconds)
        return results(home / "out")
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Server:
    """Autobahn's own server: runs its cases against a client that asks for them one by one."""

    def __init__(self, cases: Sequence[str], exclude: Sequence[str] = ()) -> None:
        self.home, self.port = folder(), free_port()
        spec = {
            "url": f"ws://127.0.0.1:{self.port}", "outdir": str(self.home / "out"), "webport": 0,
            "cases": list(cases), "exclude-cases": list(exclude), "exclude-agent-cases": {},
        }  # fmt: skip
        (self.home / "server.json").write_text(json.dumps(spec))
        argv = [wstest(), "-m", "fuzzingserver", "-s", self.home / "server.json", "-u", "0"]
        self.process = Process(argv, home=self.home, env=clean(), port=self.port)

    def __enter__(self) -> "Server":
        self.process.ready(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def results(self) -> Results:
        """After the client asked for the report."""
        return results(self.home / "out")


def results(out: Path) -> Results:
    """What the report says of its only agent."""
    [agent] = json.loads((out / "index.json").read_text()).values()
    return {case: (found["behavior"], found["behaviorClose"]) for case, found in agent.items()}


def named(sets: str) -> list[str]:
    """The cases that a list of patterns and names of SETS means: "core,9.*"."""
    return [case for part in sets.split(",") for case in SETS.get(part, [part])]


def less_than_strict(found: Results) -> Results:
    """The cases that were not passed strictly. Informational ones have no right answer."""
    good = ("OK", "INFORMATIONAL")
    return {case: pair for case, pair in found.items() if pair[0] not in good or pair[1] not in good}


def clean() -> dict[str, str]:
    """Python 2.7 must not see our Python's paths."""
    return {"PYTHONPATH": ""}
