"""The cases: what is served, what is asked, who takes part, and the ceilings of the project's performance budget."""

from dataclasses import dataclass, field

ASGI = ("fairlead", "uvicorn", "granian", "hypercorn")
PROXIES = ("fairlead", "nginx", "haproxy")
RESPOND = ("fairlead", "nginx", "haproxy")
WSGI = ("fairlead", "granian", "gunicorn")


@dataclass(frozen=True)
class Case:
    """One comparison.

    `measure`: cpu (per request) | connect (per connection) | idle (bytes per connection) | body (large bodies) |
    instructions. `tls`: the variants to take in turn. `upload` and `length` are bytes up and down; `ceilings` are
    Fairlead's figure over a peer's, at most.
    """

    name: str
    title: str
    kind: str
    peers: tuple[str, ...]
    target: str = ""
    path: str = "/"
    upload: int = 0
    length: int | None = None
    tls: tuple[bool, ...] = (False,)
    measure: str = "cpu"
    ceilings: dict[str, float] = field(default_factory=dict)


CASES = (
    Case(
        "asgi-plain",
        "ASGI, 12-byte answer, keep-alive",
        "asgi",
        ASGI,
        "plain:app",
        length=12,
        ceilings={"granian": 0.5, "uvicorn": 0.5},
    ),
    Case("asgi-100b", "ASGI, 100-byte answer", "asgi", ASGI, "plain:app", "/100b", length=100),
    Case("asgi-100k", "ASGI, 100 KB answer", "asgi", ASGI, "plain:app", "/100k", length=102_400),
    Case("asgi-upload", "ASGI, 100 KB upload (POST)", "asgi", ASGI, "plain:app", "/count", upload=102_400),
    Case(
        "fastapi",
        "FastAPI, one JSON answer",
        "asgi",
        ASGI,
        "json_fastapi:app",
        ceilings={"granian": 0.94, "uvicorn": 1.0},
    ),
    Case(
        "starlette",
        "Starlette, one JSON answer",
        "asgi",
        ASGI,
        "json_starlette:app",
        ceilings={"granian": 1.0, "uvicorn": 1.0},
    ),
    Case(
        "django-asgi",
        "Django over ASGI, one async view",
        "asgi",
        ASGI,
        "view_django:asgi",
        ceilings={"granian": 1.0, "uvicorn": 1.0},
    ),
    Case(
        "django-wsgi",
        "Django over WSGI, one plain view",
        "wsgi",
        WSGI,
        "view_django:wsgi",
        "/plain",
        ceilings={"granian": 1.0, "gunicorn": 1.0},
    ),
    Case(
        "asgi-tls",
        "ASGI, 12-byte answer, plain and TLS 1.3, keep-alive",
        "asgi",
        ASGI,
        "plain:app",
        length=12,
        tls=(False, True),
    ),
    Case(
        "wsgi-plain",
        "WSGI, bare callable",
        "wsgi",
        WSGI,
        "plain:wsgi",
        length=12,
        ceilings={"granian": 1.3, "gunicorn": 0.4},
    ),
    Case(
        "wsgi-flask",
        "Flask, one JSON answer",
        "wsgi",
        WSGI,
        "json_flask:app",
        ceilings={"granian": 1.0, "gunicorn": 0.4},
    ),
    Case(
        "respond",
        "A fixed 12-byte answer, plain and TLS 1.3, keep-alive",
        "respond",
        RESPOND,
        length=12,
        tls=(False, True),
    ),
    Case(
        "files-100k",
        "A static file of 100 KB",
        "files",
        ("fairlead", "nginx"),
        path="/100k",
        length=102_400,
        tls=(False, True),
        ceilings={"nginx": 1.3},
    ),
    Case(
        "proxy-12b",
        "Proxy h1 to h1, 12-byte answer",
        "proxy",
        PROXIES,
        length=12,
        ceilings={"nginx": 0.95, "haproxy": 0.95},
    ),
    Case(
        "proxy-100k",
        "Proxy h1 to h1, 100 KB answer",
        "proxy",
        PROXIES,
        path="/100k",
        length=102_400,
        ceilings={"nginx": 0.95, "haproxy": 0.95},
    ),
    Case(
        "connect-asgi",
        "One ASGI request per connection, plain and with a full TLS handshake",
        "asgi",
        ASGI,
        "plain:app",
        length=12,
        tls=(False, True),
        measure="connect",
    ),
    Case(
        "connect-respond",
        "One fixed answer per connection, plain and with a full TLS handshake",
        "respond",
        RESPOND,
        length=12,
        tls=(False, True),
        measure="connect",
    ),
    Case(
        "idle-asgi",
        "Memory of an idle keep-alive connection after one ASGI request",
        "asgi",
        ASGI,
        "plain:app",
        length=12,
        tls=(False, True),
        measure="idle",
    ),
    Case(
        "idle-respond",
        "Memory of an idle keep-alive connection after one fixed answer",
        "respond",
        RESPOND,
        length=12,
        tls=(False, True),
        measure="idle",
    ),
    Case("body-asgi", "A large body up and down through ASGI", "asgi", ASGI, "plain:app", measure="body"),
    Case("body-proxy", "A large body up and down through a proxy", "proxy", PROXIES, measure="body"),
    Case(
        "journey",
        "Instructions of a plain request, with and without the journey",
        "asgi",
        ("fairlead", "fairlead-without-journey", "uvicorn"),
        "plain:app",
        length=12,
        measure="instructions",
    ),
)

IDLE_CEILINGS = {"plain": 6 * 1024, "tls": 20 * 1024}  # bytes of ours per idle connection
JOURNEY_CEILING = 0.5  # microseconds of a plain request
BODY_GROWTH = 16 * 1024 * 1024  # bytes a server may grow while a body passes; its buffers are counted in KiB
