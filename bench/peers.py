"""The servers that are compared, each with one worker, and how each is started.

A peer is a function from a `Setup` (what to serve, with or without TLS and access log) and a folder of its own to a
command line. Fairness rules:

* one worker process; one event loop or thread where the peer has that choice; uvloop and httptools where it takes them;
* an access log goes to a file on disk. nginx writes it through a 64 KiB buffer (its own recommended setting), HAProxy
  to standard output, which is a file; the Python servers as they do by themselves;
* proxies keep upstream connections, add `X-Forwarded-For`, and stream bodies both ways instead of spooling them;
* keep-alive limits are raised so that no connection ends inside a run;
* all use one P-256 certificate, TLS 1.3 and their own ciphers, but Fairlead's app runs, which use `--tls dev`.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import install
import measure

APPS = Path(__file__).resolve().parent / "apps"
READY_WITHIN = 60.0
HELLO = "hello world"  # with its newline 12 bytes, the answer of every `respond` server and of the origin


class CannotStart(Exception):
    """This peer cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Setup:
    """What a server is to do. `kind`: asgi | wsgi | respond | proxy | files; `origin` is a port; `lib` a built Fairlead."""

    kind: str
    target: str = ""
    tls: bool = False
    log: bool = True
    origin: int = 0
    lib: Path | None = None
    wrapper: tuple[str, ...] = ()
    core: int = measure.SERVER_CORE
    words: tuple[str, ...] = ("--workers", "1")  # further flags of Fairlead's, for an application


@dataclass(frozen=True)
class Started:
    """The command of a peer; `log` is its access log when that is not its standard output."""

    argv: list[str]
    log: Path | None = None
    env: dict[str, str] | None = None


class Server:
    """A running peer in a folder of its own; `stop` ends its whole tree and removes the folder."""

    def __init__(self, name: str, setup: Setup) -> None:
        self.name, self.setup, self.port = name, setup, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        self.output = self.folder / "output.log"
        try:
            started = COMMANDS[name](setup, self.folder, self.port)
            self.log = started.log or self.output
            self.process = self.spawn(started)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        try:
            self.await_port()
        except BaseException:
            self.stop()
            raise

    def spawn(self, started: Started) -> subprocess.Popen[bytes]:
        """Start it on its core, in its own session, with everything it says in one file."""
        env = {**os.environ, "PYTHONPATH": str(APPS), "PYTHONDONTWRITEBYTECODE": "1", **(started.env or {})}
        argv = measure.pinned(self.setup.core, [*self.setup.wrapper, *started.argv])
        with self.output.open("ab") as output:
            try:
                return subprocess.Popen(
                    argv, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise CannotStart(str(error)) from error

    def await_port(self) -> None:
        """Return once it accepts connections; else raise with what it said."""
        ready = measure.wait_until(lambda: self.process.poll() is not None or accepts(self.port), READY_WITHIN)
        if ready and self.process.poll() is None:
            return
        raise CannotStart(f"did not open its port; it said: {self.said()}")

    def said(self) -> str:
        """The end of its output, on one line."""
        text = self.output.read_text(errors="replace")
        for folder in (install.ROOT, self.folder):
            text = text.replace(f"{folder}/", "")
        return " | ".join(text.strip().splitlines()[-3:])[-300:]

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        return self.process.pid

    def logged(self) -> int:
        """Lines in its access log so far."""
        with self.log.open("rb") as lines:
            return sum(1 for _ in lines)

    def stop(self, keep: bool = False) -> None:
        """Ask, wait, then kill all of the tree; the folder goes too unless `keep`."""
        pids = measure.tree(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10 if not self.setup.wrapper else 60)
        except subprocess.TimeoutExpired:
            pass
        for pid in pids:
            try:
                if os.getpgid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def certificate() -> tuple[Path, Path]:
    """One throw-away P-256 certificate for the whole run; answers certificate and key."""
    folder = install.CACHE / "bench-tls"
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "3650", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "both.pem").write_text(cert.read_text() + key.read_text())
    return cert, key


def python(module: str, *arguments: str) -> list[str]:
    """A Python peer in the bench's environment."""
    return [str(install.PYTHON), "-m", module, *arguments]


def need(program: str) -> str:
    """The program, or a reason to skip."""
    if not (found := shutil.which(program)):
        raise CannotStart(f"{program} is not installed")
    return found


def only(setup: Setup, *kinds: str) -> None:
    """Refuse what this peer cannot do."""
    if setup.kind not in kinds:
        raise CannotStart(f"has no {setup.kind}")


def uvicorn(setup: Setup, folder: Path, port: int) -> Started:
    """uvloop and httptools; its log lines go to standard output."""
    only(setup, "asgi")
    cert, key = certificate()
    argv = python("uvicorn", setup.target, "--host", "127.0.0.1", "--port", str(port))
    argv += ["--loop", "uvloop", "--http", "httptools"]
    argv += ["--backlog", "4096", "--timeout-keep-alive", "600", "--access-log" if setup.log else "--no-access-log"]
    argv += ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key)] if setup.tls else []
    return Started(argv)


def granian(setup: Setup, folder: Path, port: int) -> Started:
    """uvloop, one runtime thread; its log lines go to standard output. It wants its key as PKCS#8, which ours is."""
    only(setup, "asgi", "wsgi")
    cert, key = certificate()
    argv = python("granian", "--interface", setup.kind, "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    argv += ["--http", "1", "--backlog", "4096", "--runtime-threads", "1", "--no-ws", "--no-reload"]
    argv += ["--loop", "uvloop"] if setup.kind == "asgi" else []
    argv += ["--access-log" if setup.log else "--no-access-log"]
    argv += ["--ssl-certificate", str(cert), "--ssl-keyfile", str(key)] if setup.tls else []
    return Started([*argv, setup.target])


def hypercorn(setup: Setup, folder: Path, port: int) -> Started:
    """uvloop; its log goes to a file."""
    only(setup, "asgi")
    cert, key = certificate()
    log = folder / "access.log"
    argv = python("hypercorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--worker-class", "uvloop")
    argv += ["--backlog", "4096", "--keep-alive", "600"] + (["--access-logfile", str(log)] if setup.log else [])
    argv += ["--certfile", str(cert), "--keyfile", str(key)] if setup.tls else []
    return Started([*argv, setup.target], log)


def gunicorn(setup: Setup, folder: Path, port: int) -> Started:
    """Its threaded worker, because its plain one has no keep-alive."""
    only(setup, "wsgi")
    log = folder / "access.log"
    argv = python("gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--worker-class", "gthread")
    argv += ["--threads", "40"]
    argv += ["--keep-alive", "600", "--backlog", "4096", "--worker-tmp-dir", str(folder)]
    return Started([*argv, *(["--access-logfile", str(log)] if setup.log else []), setup.target], log)


NGINX = """
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log {log}; default_type text/plain; sendfile on; tcp_nodelay on; client_max_body_size 0;
  keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  {upstream}
  server {{
    listen 127.0.0.1:{port}{tls} backlog=4096;
    ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    root {folder};
    {locations}
  }}
}}
"""
NGINX_RESPOND = 'location = / {{ return 200 "{hello}\\n"; }} location / {{ }}'
NGINX_PROXY = """location / {
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffers 16 8k;
    }"""


def nginx(setup: Setup, folder: Path, port: int) -> Started:
    """`return 200`, static files, or a proxy with a keep-alive upstream."""
    only(setup, "respond", "proxy", "files")
    cert, key = certificate()
    log = folder / "access.log"
    (folder / "100b").write_bytes(b"x" * 100)
    (folder / "100k").write_bytes(b"x" * 102_400)
    upstream = f"upstream origin {{ server 127.0.0.1:{setup.origin}; keepalive 64; keepalive_requests 1000000000; }}"
    text = NGINX.format(
        folder=folder, port=port, cert=cert, key=key, tls=" ssl" if setup.tls else "",
        log=f"{log} combined buffer=64k flush=1s" if setup.log else "off",
        upstream=upstream if setup.kind == "proxy" else "",
        locations=NGINX_PROXY if setup.kind == "proxy" else NGINX_RESPOND.format(hello=HELLO),
    )  # fmt: skip
    (folder / "nginx.conf").write_text(text)
    os.chmod(folder, 0o755)
    return Started([need("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], log)


HAPROXY = """
global
  nbthread 1
  maxconn 8192
  {log}
defaults
  mode http
  log global
  {httplog}
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  option forwardfor
  http-reuse always
frontend front
  bind 127.0.0.1:{port}{tls} backlog 4096
  {answer}
{backend}
"""


def haproxy(setup: Setup, folder: Path, port: int) -> Started:
    """One thread, HTTP mode, upstream connections always reused; its log goes raw to standard output."""
    only(setup, "respond", "proxy")
    certificate()
    proxied = setup.kind == "proxy"
    fixed = f'http-request return status 200 content-type text/plain lf-string "{HELLO}\\n"'
    text = HAPROXY.format(
        port=port, tls=f" ssl crt {install.CACHE / 'bench-tls' / 'both.pem'}" if setup.tls else "",
        log="log stdout format raw local0" if setup.log else "", httplog="option httplog" if setup.log else "",
        answer="default_backend back" if proxied else fixed,
        backend=f"backend back\n  server origin 127.0.0.1:{setup.origin}\n" if proxied else "",
    )  # fmt: skip
    (folder / "haproxy.cfg").write_text(text)
    return Started([need("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")])


FAIRLEAD_FILE = """
[server]
pattern = "single"

[[listener]]
name = "web"
bind = "127.0.0.1:{port}"
{tls}

[[route]]
path = "/*"
{answer}
"""
FAIRLEAD_PROXY = """proxy = {{ upstream = "origin" }}

[[upstream]]
name = "origin"
servers = ["127.0.0.1:{origin}"]
"""


def fairlead(setup: Setup, folder: Path, port: int) -> Started:
    """Ours, compiled: an app by the command line, a proxy or a fixed answer by a file; state in the folder."""
    only(setup, "asgi", "wsgi", "respond", "proxy", "files")
    try:
        lib = setup.lib or install.fairlead()
    except install.DoesNotBuild as error:
        raise CannotStart(str(error)) from error
    log = folder / "access.log"
    argv = python("fairlead", "run", *fairlead_target(setup, folder, port))
    argv += ["--access-log", str(log) if setup.log else "off", "--server-timing", "off"]
    state = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
    env = {"PYTHONPATH": f"{lib}{os.pathsep}{APPS}", "XDG_RUNTIME_DIR": str(folder), **state}
    return Started(argv, log, env)


def fairlead_target(setup: Setup, folder: Path, port: int) -> list[str]:
    """The application and its flags, or the configuration file."""
    if setup.kind in ("asgi", "wsgi"):
        tls = ["--tls", "dev"] if setup.tls else []
        return [setup.target, "--bind", f"127.0.0.1:{port}", *setup.words, *tls]
    cert, key = certificate()
    tls_line = f'tls = {{ certificate = "{cert}", key = "{key}" }}' if setup.tls else ""
    answer = f'respond = {{ status = 200, body = "{HELLO}\\n" }}'
    if setup.kind == "proxy":
        answer = FAIRLEAD_PROXY.format(origin=setup.origin)
    if setup.kind == "files":
        (folder / "100k").write_bytes(b"x" * 102_400)
        answer = f'files = "{folder}"'
    file = folder / "fairlead.toml"
    file.write_text(FAIRLEAD_FILE.format(port=port, tls=tls_line, answer=answer))
    return [str(file)]


def fairlead_without_journey(setup: Setup, folder: Path, port: int) -> Started:
    """A build that marks no times; exists only to count what marking them costs."""
    try:
        return fairlead(replace(setup, lib=install.fairlead(without_journey=True)), folder, port)
    except install.DoesNotBuild as error:
        raise CannotStart(str(error)) from error


COMMANDS: dict[str, Callable[[Setup, Path, int], Started]] = {
    "fairlead": fairlead,
    "fairlead-without-journey": fairlead_without_journey,
    "uvicorn": uvicorn,
    "granian": granian,
    "hypercorn": hypercorn,
    "gunicorn": gunicorn,
    "nginx": nginx,
    "haproxy": haproxy,
}


def origin(kind: str = "respond") -> Server:
    """What the proxies stand in front of, on the load generator's core, without a log: nginx, or an app for bodies."""
    name = "nginx" if kind == "respond" else "uvicorn"
    return Server(name, Setup(kind, "plain:app", log=False, core=measure.LOAD_CORE))
