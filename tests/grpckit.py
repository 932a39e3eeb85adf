"""A gRPC client by hand, over the `h2` library: what real clients would never send. One connection per talk, blocking."""

from __future__ import annotations

import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from fairlead.wire.grpc import message

ITEM = b"\x12\x05paint"  # todo.v1.Item { text = "paint" }
ONE = message(ITEM, False)


class Answer:
    """What came back on one stream. `status`: the gRPC status, from the head or the trailers, None when there is none."""

    def __init__(self):
        self.head: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.body = b""
        self.reset: int | None = None
        self.over = False

    @property
    def status(self):
        found = self.trailers.get("grpc-status", self.head.get("grpc-status"))
        return None if found is None else int(found)

    @property
    def message(self):
        return self.trailers.get("grpc-message", self.head.get("grpc-message", ""))


class Client:
    """One connection."""

    def __init__(self, port, window=65535):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.conn.initiate_connection()
        self.credits = window > 0
        if not self.credits:
            self.conn.update_settings({4: 0})  # SETTINGS_INITIAL_WINDOW_SIZE: nothing may be sent to us
        self.answers: dict[int, Answer] = {}
        self.flush()

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def open(self, path="/todo.v1.Todo/CreateTodo", *more, method="POST", without=()):
        """A request's head; `more` are further fields. The stream."""
        stream = self.conn.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path),
                  ("content-type", "application/grpc"), ("te", "trailers")]  # fmt: skip
        given = {name for name, _ in more}
        fields = [pair for pair in fields if pair[0] not in without and pair[0] not in given]
        self.conn.send_headers(stream, fields + list(more))
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream, data, end=False):
        """Body bytes, as the server's window lets them go."""
        while True:
            room = min(self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            self.conn.send_data(stream, piece, end_stream=end and not data)
            self.flush()
            if not data:
                return
            while self.conn.local_flow_control_window(stream) <= 0:
                self.read()

    def read(self):
        """One read of the socket; False at its end."""
        data = self.sock.recv(65536)
        for event in self.conn.receive_data(data) if data else ():
            self.heard(event)
        self.flush()
        return bool(data)

    def heard(self, event):
        answer = self.answers.get(getattr(event, "stream_id", 0))
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.head = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.credits and event.flow_controlled_length:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
            answer.over = True
        elif isinstance(event, h2.events.StreamEnded):
            answer.over = True

    def answer(self, stream):
        """The whole answer."""
        found = self.answers[stream]
        while not found.over and self.read():
            pass
        return found

    def ask(self, body=ONE, *fields, path="/todo.v1.Todo/CreateTodo", **options):
        """One call."""
        stream = self.open(path, *fields, **options)
        if self.answers[stream].over:
            return self.answers[stream]
        self.send(stream, body, True)
        return self.answer(stream)


class Origin:
    """A server by hand: `answer(origin, number)` is called for each whole request and says what it wants with `conn`."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.socks = []
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in [self.listener, *self.socks]:
            sock.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        conn.initiate_connection()
        heads, bodies = {}, {}
        try:
            while True:
                sock.sendall(conn.data_to_send())
                data = sock.recv(65536)
                if not data:
                    return
                for event in conn.receive_data(data):
                    stream = getattr(event, "stream_id", 0)
                    if isinstance(event, h2.events.RequestReceived):
                        heads[stream], bodies[stream] = dict(event.headers), b""
                    elif isinstance(event, h2.events.DataReceived):
                        bodies[stream] += event.data
                        conn.acknowledge_received_data(event.flow_controlled_length, stream)
                    elif isinstance(event, h2.events.StreamEnded):
                        self.requests.append((heads[stream], bodies[stream]))
                        self.answer(conn, stream, len(self.requests))
                    elif isinstance(event, h2.events.StreamReset):
                        self.requests.append("reset")
        except (OSError, h2.exceptions.ProtocolError):
            pass
