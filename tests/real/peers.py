"""The real peers of tests/real: one `Real` per test starts servers and runs clients; its end stops them all.

    def test_nginx_as_an_origin(real):
        origin = real.nginx('server { listen 127.0.0.1:@PORT@; return 200 "hi"; }')
        server = real.fairlead(config=FILE.replace("ORIGIN", f"127.0.0.1:{origin.port}"))  # FILE binds 127.0.0.1:@PORT@
        assert real.curl(server.url).status == 200

In configurations ``@PORT@`` ``@FOLDER@`` ``@CERT@`` ``@KEY@`` ``@PEM@`` stand for the program's port, its folder, and a
throw-away certificate for localhost and 127.0.0.1.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import processes
from processes import Process, free_port, program

import fairlead

APPS = Path(__file__).resolve().parent / "apps"


@dataclass(frozen=True)
class Answer:
    """What curl got: the last answer's status and headers (names in lower case), the body, curl's exit code."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    exit_code: int
    stderr: str
    http_version: str

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode(errors="replace")

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name.lower()), None)


@dataclass(frozen=True)
class Load:
    """What a load generator saw: whole answers, those that were not 2xx, broken or failed ones."""

    requests: int
    bad_status: int
    failed: int
    text: str = field(repr=False)

    @property
    def clean(self) -> bool:
        """At least one request, and nothing went wrong."""
        return self.requests > 0 and not self.bad_status and not self.failed


NGINX = """daemon off; worker_processes 1; pid @FOLDER@/nginx.pid; error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
  access_log @FOLDER@/access.log; default_type text/plain; client_max_body_size 0;
  client_body_temp_path @FOLDER@/t1; proxy_temp_path @FOLDER@/t2; fastcgi_temp_path @FOLDER@/t3;
  uwsgi_temp_path @FOLDER@/t4; scgi_temp_path @FOLDER@/t5;
  {config}
}}
"""
HAPROXY = """global
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 10s
  timeout client 60s
  timeout server 60s
"""
CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


class Real:
    """Starts and stops what one test needs."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- servers

    def run(self, *argv: str | Path, home: Path | None = None, env: Mapping[str, str] | None = None,
            port: int = 0, scheme: str = "http") -> Process:  # fmt: skip
        """Any program; it is not waited for."""
        started = Process(argv, home=home, env=env, port=port, scheme=scheme)
        return self._stack.enter_context(started)

    def nginx(self, config: str, tls: bool = False) -> Process:
        """nginx with `config` inside its http block; answers once it accepts."""
        home, port = self.home(), free_port()
        file = self.write(home / "nginx.conf", NGINX.format(config=config), home, port)
        argv: list[str | Path] = [program("nginx"), "-p", home, "-e", "stderr", "-c", file]
        return self.run(*argv, home=home, port=port, scheme="https" if tls else "http").ready()

    def haproxy(self, config: str, tls: bool = False) -> Process:
        """HAProxy with `config` behind a global and a defaults section; answers once it accepts."""
        home, port = self.home(), free_port()
        file = self.write(home / "haproxy.cfg", HAPROXY + config + "\n", home, port)
        argv: list[str | Path] = [program("haproxy"), "-db", "-f", file]
        return self.run(*argv, home=home, port=port, scheme="https" if tls else "http").ready()

    def fairlead(
        self,
        *args: str,
        config: str | None = None,
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        tls: bool = False,
        wait: bool = True,
        port: int = 0,
        home: Path | None = None,
    ) -> Process:
        """Ours, as a process: ``fairlead run ARGS``, an application by default on a free port, or a `config`.

        `files` are written into its folder first, which is its working directory and on its path. `wait=False` for a
        start that is meant to fail. Its state (development CA, admin socket, store) stays in the folder.
        """
        home, port = home or self.home(), port or free_port()
        for name, text in (files or {}).items():
            self.write(home / name, text, home, port)
        argv = [sys.executable, "-m", "fairlead", "run"]
        if config is not None:
            argv.append(str(self.write(home / "fairlead.toml", config, home, port)))
        elif "--bind" not in args:
            args = (*args, "--bind", f"127.0.0.1:{port}")
        scheme = "https" if tls or "--tls" in args else "http"
        server = self.run(*argv, *args, home=home, env={**surroundings(home), **(env or {})}, port=port, scheme=scheme)
        return server.ready() if wait else server

    def command(self, *args: str, home: Path | None = None, seconds: float = 60,
                env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """``fairlead ARGS`` to its end, for the commands that print and stop. It is told of the server whose home this is, or it
        would find those that this machine runs as well; with a variable of FAIRLEAD_ADMIN="" it looks for itself.
        """
        home = home or self.home()
        argv = [sys.executable, "-m", "fairlead", *args]
        ours = list(home.glob("fairlead-*.sock"))
        admin = {"FAIRLEAD_ADMIN": f"unix:{ours[0]}"} if len(ours) == 1 else {}
        return self.finish(argv, seconds, home=home, env={**surroundings(home), **admin, **(env or {})})

    # -- clients

    def curl(self, url: str, *args: str, seconds: float = 30) -> Answer:
        """curl with any further arguments; no proxy, no redirect unless asked for."""
        home = self.home()
        head, body = home / "head", home / "body"
        own: list[str | Path] = ["-sS", "--noproxy", "*", "--max-time", str(seconds), "-D", head, "-o", body]
        done = self.finish([program("curl"), *own, "-w", "%{http_code} %{http_version}", *args, url], seconds + 10)
        status, _, version = done.stdout.partition(" ")
        data = body.read_bytes() if body.exists() else b""
        return Answer(int(status or 0), headers_of(head), data, done.returncode, done.stderr, version.strip())

    def wrk(self, url: str, *args: str, seconds: int = 1, connections: int = 8) -> Load:
        """wrk with one thread."""
        argv = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", *args, url]
        text = self.finish(argv, seconds + 30).stdout
        return Load(count(r"(\d+) requests in", text), count(r"Non-2xx or 3xx responses: (\d+)", text),
                    sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text))), text)  # fmt: skip

    def h2load(self, url: str, *args: str, requests: int = 1000, connections: int = 4, streams: int = 10) -> Load:
        """h2load; ``"--h1"`` among `args` for HTTP/1.1."""
        argv = [program("h2load"), f"-n{requests}", f"-c{connections}", f"-m{streams}", *args, url]
        text = self.finish(argv, 60).stdout
        bad = sum(count(rf"(\d+) {kind}xx", text) for kind in (4, 5))
        failed = requests - count(r"(\d+) succeeded", text) - bad
        return Load(count(r"(\d+) done", text), bad, failed, text)

    def slowhttptest(self, mode: str, url: str, *args: str, seconds: int = 6, connections: int = 100) -> bool:
        """One of its modes (H headers, B bodies, R range, X reads: slow); whether the service stayed available."""
        argv = [program("slowhttptest"), f"-{mode}", "-c", str(connections), "-r", "100", "-i", "2"]
        done = self.finish([*argv, "-l", str(seconds), "-p", "3", "-u", url, *args], seconds + 60)
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        answers = re.findall(r"service available:\s*(\w+)", text)
        print(text[-1500:])
        assert answers, f"slowhttptest said nothing of the service: {text[-500:]}"
        return answers[-1] == "YES"

    def dom(self, url: str, *args: str, budget_ms: int = 0, seconds: float = 60) -> str:
        """The page's DOM after its scripts ran in Chromium; `budget_ms` of virtual time for pages that keep working."""
        return self.chromium(url, "--dump-dom", *args, budget_ms=budget_ms, seconds=seconds).stdout

    def screenshot(self, url: str, file: Path, *args: str, width: int = 1280, height: int = 900, budget_ms: int = 0,
                   seconds: float = 60) -> Path:  # fmt: skip
        """The page as a PNG in `file`."""
        flags = [f"--screenshot={file.resolve()}", f"--window-size={width},{height}", "--hide-scrollbars"]
        done = self.chromium(url, *flags, *args, budget_ms=budget_ms, seconds=seconds)
        assert file.exists(), f"chromium wrote no screenshot: {done.stderr[-500:]}"
        return file

    def chromium(
        self, url: str, *args: str, budget_ms: int = 0, seconds: float = 60, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Chromium, headless, with a fresh profile, to its end."""
        budget = [f"--virtual-time-budget={budget_ms}"] if budget_ms else []
        profile = f"--user-data-dir={self.home()}"
        return self.finish([program("chromium"), *CHROMIUM, profile, *budget, *args, url], seconds, env=env)

    # -- helpers

    def finish(self, argv: Sequence[str | Path], seconds: float, home: Path | None = None,
               env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a client to its end in a session of its own; the whole session is killed when the time is up."""
        out = subprocess.PIPE
        command = [str(part) for part in argv]
        running = subprocess.Popen(
            command, cwd=home, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            stdout, stderr = running.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(running.pid, 9)
            running.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise AssertionError(f"{Path(command[0]).name} did not end within {seconds:g} s") from None
            raise
        return subprocess.CompletedProcess(command, running.returncode, stdout, stderr)

    def home(self) -> Path:
        """A new folder that goes when the test ends."""
        path = processes.folder()
        self._stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def write(self, file: Path, text: str, home: Path, port: int) -> Path:
        """Write a configuration with its placeholders filled in."""
        if "@CERT@" in text or "@KEY@" in text or "@PEM@" in text:
            cert, key = certificate(home)
            text = text.replace("@CERT@", str(cert)).replace("@KEY@", str(key)).replace("@PEM@", str(home / "both.pem"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("@PORT@", str(port)).replace("@FOLDER@", str(home)))
        return file


def certificate(home: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed P-256 certificate for localhost, 127.0.0.1 and `names`; also both in ``both.pem``."""
    cert, key = home / "cert.pem", home / "key.pem"
    if not cert.exists():
        alternatives = ",".join(["DNS:localhost", "IP:127.0.0.1", *(f"DNS:{name}" for name in names)])
        subprocess.run(
            [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "30", "-subj", "/CN=localhost", "-addext", f"subjectAltName={alternatives}",
             "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True,
        )  # fmt: skip
        (home / "both.pem").write_text(cert.read_text() + key.read_text())
    return cert, key


def surroundings(home: Path) -> dict[str, str]:
    """The environment of our own processes: this very Fairlead, state in `home`."""
    package = Path(fairlead.__file__).resolve().parent.parent
    state = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
    path = os.pathsep.join(map(str, (package, home, APPS)))
    return {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "XDG_RUNTIME_DIR": str(home), **state}


def headers_of(file: Path) -> list[tuple[str, str]]:
    """The last header block that curl wrote."""
    if not file.exists():
        return []
    blocks = file.read_bytes().decode("latin-1").strip().split("\r\n\r\n")
    lines = blocks[-1].split("\r\n")[1:]
    return [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def count(pattern: str, text: str) -> int:
    """The number a report gives, 0 when it does not mention it."""
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0
