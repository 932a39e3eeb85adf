"""What a plain `fairlead run app:app` loads before it imports the application: nothing that this configuration does not use.

Start-up time is imports, and how long they take is the machine's; which they are is ours. The figures are in docs/bench.md.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

UNUSED = {
    "files and proxies": ("fairlead.serve.files", "fairlead.serve.proxy", "fairlead.serve.upstream", "mimetypes"),
    "filters": (
        "fairlead.serve.filters.jwt",
        "fairlead.serve.filters.compress",
        "urllib.request",
        "http.client",
        "email",
    ),
    "stores": ("fairlead.store.contract", "fairlead.store.sqlite", "fairlead.store.redis", "sqlite3", "uuid"),
    "topics and jobs": (
        "fairlead.serve.topics",
        "fairlead.serve.jobs",
        "fairlead.run.realtime",
        "fairlead.run.jobalone",
    ),
    "gRPC, HTTP/2 and 3": ("fairlead.serve.grpc", "fairlead.wire.h2", "fairlead.wire.hpack", "fairlead.net.quic"),
    "tools": ("fairlead.run.explain", "fairlead.run.demo", "tempfile", "watchfiles", "cryptography"),
}
APP = """
import json, os, sys
with open(os.environ["LOADED"] + ".part", "w") as file:
    json.dump(sorted(sys.modules), file)
os.replace(os.environ["LOADED"] + ".part", os.environ["LOADED"])
async def app(scope, receive, send):
    raise RuntimeError
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The modules of (the master before its first worker, a worker before the application)."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "app.py").write_text(APP)
    note = folder / "loaded"
    words = [sys.executable, "-m", "fairlead", "run", "app:app", "--workers", "1", "--bind", "127.0.0.1:0"]
    env = {**os.environ, "LOADED": str(note), "PYTHONPATH": os.pathsep.join(filter(None, (*paths(), str(folder))))}
    with subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not note.exists():
                with pytest.raises(subprocess.TimeoutExpired):  # it runs
                    server.wait(0.01)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    line = "import sys, json, fairlead.run.cli, fairlead.run.serving, fairlead.run.master; print(json.dumps(sorted(sys.modules)))"
    master = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True, env=env)
    return {"worker": json.loads(note.read_text()), "master": json.loads(master.stdout)}


def paths():
    """Where this process has Fairlead from."""
    given = os.environ.get("PYTHONPATH")
    return [os.path.abspath(path) for path in given.split(os.pathsep)] if given else []


@pytest.mark.parametrize("role", ["master", "worker"])
@pytest.mark.parametrize("what", UNUSED)
def test_what_is_not_used_is_not_loaded(loaded, role, what):
    assert "fairlead.core.connection" in loaded["worker"] and "fairlead.run.master" in loaded["master"]
    assert [name for name in UNUSED[what] if name in loaded[role]] == []


def test_each_core_module_imports_alone():
    """In whatever order: none of them needs another one to have been imported before it."""
    source = Path(__file__).parent.parent / "src" / "fairlead"
    names = [f"fairlead.{layer}.{path.stem}" for layer in ("core", "wire", "net") for path in (source / layer).glob("*.py")]
    script = (
        "import sys, importlib\n"
        "for n in sys.argv[1:]:\n"
        "  importlib.import_module(n)\n"
        "  [sys.modules.pop(m) for m in list(sys.modules) if m.startswith('fairlead')]"
    )
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
