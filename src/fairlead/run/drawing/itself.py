"""The picture of Fairlead itself, for docs/design.md: which parts a request goes through, drawn as configurations are."""

from __future__ import annotations

from fairlead.run.drawing.picture import Picture

SUBTITLE = "run makes all of it from a configuration: load, plan, master, workers; and watches over it"
COLUMNS = ["peers", "net: sockets", "wire: bytes and words", "core: the nouns", "serve: answers", "behind"]
ANSWERS = "serve/table: the first match, its filters"
PARTS: list[tuple[int, str, str, tuple[str, ...]]] = [  # column, name, colour, what it does
    (0, "client", "client", ("browser, program,", "another server")),
    (1, "tcp", "listener", ("listen, accept, read, send", "net/listen · net/tcp · net/poll")),
    (1, "tls", "listener", ("the OpenSSL of the process", "net/tls")),
    (1, "quic", "listener", ("datagrams, QUIC engines", "net/udp · net/quic")),
    (2, "h1", "proxy", ("HTTP/1.1",)),
    (2, "h2", "proxy", ("HTTP/2, HPACK",)),
    (2, "h3", "proxy", ("HTTP/3, QPACK",)),
    (3, "Connection", "kept", ("admission, limits, deadlines",)),
    (3, "Exchange", "kept", ("one request and its answer", "Journey: ARRIVED, READ, PARSED,", "ROUTED, STARTED, …, SENT, DONE")),
    (4, "app", "app", ("ASGI, WSGI, WebSocket", "serve/app · serve/wsgi · serve/websocket")),
    (4, "grpc", "grpc", ("calls and streams", "serve/grpc")),
    (4, "proxy", "upstream", ("pick, pool, legs", "serve/proxy · serve/pick")),
    (4, "files", "files", ("ranges, validators", "serve/files")),
    (4, "topics", "topic", ("feed, sockets, groups", "serve/feed · serve/topics")),
    (4, "jobs", "job", ("queues, keys, what is answered later", "serve/jobs · serve/idempotent")),
    (4, "uploads", "upload", ("resumed at any byte", "serve/uploads")),
    (5, "your code", "app", ("in the worker, in a thread, or", "behind a front (serve/hop)")),
    (5, "upstream", "upstream", ("servers behind us, by the", "same codecs as a client")),
    (5, "store", "store", ("SQLite with a keeper,", "PostgreSQL, Redis")),
]
LINES = [
    ("client", "tcp", "h1, h2"), ("client", "quic", "h3"), ("tcp", "h1", ""), ("tcp", "h2", ""), ("tls", "h1", ""),
    ("tls", "h2", ""), ("quic", "h3", ""), ("tcp", "tls", ""), ("h1", "Connection", ""), ("h2", "Connection", ""),
    ("h3", "Connection", ""), ("Connection", "Exchange", ""), ("Exchange", "answers", ""), ("app", "your code", ""),
    ("grpc", "your code", ""), ("proxy", "upstream", "h1 h2 h3"),
]  # fmt: skip


def itself() -> Picture:
    """The parts and the lines between them; the folder `run`, which makes them all, is the subtitle."""
    picture = Picture("Fairlead", SUBTITLE, COLUMNS)
    for column, name, kind, notes in PARTS:
        group = picture.group(column, "answers", ANSWERS) if column == 4 else None
        picture.box(column, name, kind, name, group=group)[0].note(*notes)
    for source, target, label in LINES:
        picture.edge(source, target, label)
    for source in ("topics", "jobs", "uploads"):
        picture.edge(source, "store", soft=True)
    return picture
