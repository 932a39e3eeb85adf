"""The TLS engines against programs that we did not write: openssl s_client and s_server, curl, Python's ssl.

A small blocking server moves bytes between a socket and an engine; nothing of `net.tcp` is in the way.
"""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from fairlead.net import certs, tls, tlschoice

pytestmark = pytest.mark.real
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return certs.dev_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=["ssl", "openssl"])
def kind(request, monkeypatch):
    if request.param == "openssl" and tlschoice.unusable():
        pytest.skip(tlschoice.unusable())
    monkeypatch.setenv("FAIRLEAD_TLS_ENGINE", request.param)
    tlschoice.forget_engine_kind()
    yield request.param
    tlschoice.forget_engine_kind()


class Server:
    """Echoes; a line that starts with GET gets an HTTP answer and close_notify. `seen` has a line of facts a
    connection.
    """

    def __init__(self, server_tls):
        self.tls = server_tls
        self.seen = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listening.accept()[0]
                connection.settimeout(20)
                thread = threading.Thread(target=self.serve, args=(connection,), daemon=True)
                self.threads.append(thread)
                thread.start()

    def serve(self, connection):
        engine = self.tls.engine()
        with connection, contextlib.suppress(OSError):
            try:
                self.talk(connection, engine)
            except tls.TlsError as error:
                self.seen.append(error)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" if error.plain_http else engine.take())
            finally:
                engine.free()

    def talk(self, connection, engine):
        told = False
        while data := connection.recv(65536):
            plain = engine.feed(data)
            if engine.done and not told:
                self.seen.append((engine.version, engine.resumed, engine.server_name, engine.peer_cert))
                told = True
            if plain.startswith(b"GET"):
                engine.write(ANSWER)
                engine.close()
            elif plain:
                engine.write(plain)
            elif engine.closed_by_peer:
                engine.close()
            out = engine.take()
            if out:
                connection.sendall(out)
            if engine.closed_by_peer:
                return

    def stop(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def serve(ca, kind):
    running = []

    def start(**more):
        extra = {key: more.pop(key) for key in ("alpn", "ticket_keys") if key in more}
        certificate, key = ca.leaf()
        running.append(Server(tls.ServerTls(tls.ServerSettings(certificate=certificate, key=key, **more), **extra)))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def s_client(server, ca, *words, say=b"GET\n"):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", ca.ca_path, "-x509_strict"]
    command += ["-verify_return_error", "-ign_eof", *words]
    done = subprocess.run(command, input=say, capture_output=True, timeout=30)
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


@needs_openssl
@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_openssl_s_client_speaks_each_version(serve, ca, version):
    server = serve(alpn=("http/1.1",))
    said = s_client(server, ca, f"-tls{version}", "-servername", "localhost", "-alpn", "h2,http/1.1")
    assert "Verify return code: 0 (ok)" in said and "hello" in said and "ALPN protocol: http/1.1" in said
    assert server.seen == [(f"TLSv1.{version[-1]}", False, "localhost", None)]


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client_resumes_its_session(serve, ca, version, tmp_path):
    server = serve(ticket_keys=[tls.new_ticket_key()])
    assert "New, TLSv1" in s_client(server, ca, version, "-sess_out", str(tmp_path / "session"))
    assert "Reused, TLSv1" in s_client(server, ca, version, "-sess_in", str(tmp_path / "session"))
    assert [facts[1] for facts in server.seen] == [False, True]


@needs_openssl
def test_openssl_s_client_reconnects_five_times(serve, ca):
    server = serve()
    said = s_client(server, ca, "-tls1_2", "-reconnect")
    assert said.count("Reused, TLSv1.2") == 5


@needs_openssl
def test_openssl_s_client_updates_its_keys(serve, ca):
    """Its command K asks for new keys in both directions (RFC 8446 4.6.3); what follows must still be understood."""
    server = serve()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", ca.ca_path, "-tls1_3"]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert peer.stdin and peer.stdout
    try:
        for line, reply in ((b"before", b"before"), (b"K", b"KEYUPDATE"), (b"after", b"after"), (b"GET", b"hello")):
            peer.stdin.write(line + b"\n")
            peer.stdin.flush()
            while reply not in (said := peer.stdout.readline()):
                assert said, f"s_client ended before {reply!r}"
    finally:
        peer.stdin.close()
        peer.stdout.close()
        peer.terminate()
        peer.wait(20)
    assert server.seen[0][0] == "TLSv1.3"


@needs_openssl
def test_renegotiation_is_refused(serve, ca):
    server = serve()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", ca.ca_path, "-tls1_2"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=30)
    assert b"RENEGOTIATING" in done.stdout + done.stderr and b"no renegotiation" in done.stdout + done.stderr


@needs_openssl
def test_openssl_s_client_shows_its_certificate(serve, ca, tmp_path):
    certificate, key = ca.issue(["alice.test"], tmp_path, client=True)
    server = serve(client_ca=ca.ca_path)
    said = s_client(server, ca, "-cert", certificate, "-key", key)
    assert "hello" in said
    assert ssl.DER_cert_to_PEM_cert(server.seen[0][3]) == Path(certificate).read_text()
    said = s_client(server, ca)
    assert "certificate required" in said
    assert server.seen[1].reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


@needs_openssl
def test_clients_are_told_which_cas_are_accepted(serve, ca, kind):
    if kind != "openssl":
        pytest.skip("the ssl module cannot send the names")
    said = s_client(serve(client_ca=ca.ca_path, client_auth="optional"), ca)
    assert "Acceptable client certificate CA names" in said and "Fairlead development CA" in said


@needs_openssl
@pytest.mark.parametrize("words", [("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_2", "-cipher", "AES128-SHA")])
def test_openssl_s_client_with_weak_settings_is_told_why_not(serve, ca, words):
    server = serve()
    said = s_client(server, ca, *words)
    assert "alert" in said
    assert server.seen[0].reason in ("UNSUPPORTED_PROTOCOL", "NO_SHARED_CIPHER")


def test_pythons_ssl_talks_and_closes_in_good_order(serve, ca):
    server = serve()
    context = ssl.create_default_context(cafile=ca.ca_path)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    body = bytes(range(256)) * 256
    plain = socket.create_connection(("127.0.0.1", server.port), 20)
    with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        for _ in range(5):
            client.sendall(body)
            got = b""
            while len(got) < len(body):
                got += client.recv(65536)
            assert got == body
        client.unwrap().close()  # raises when close_notify is not answered


def test_our_client_talks_to_pythons_ssl(kind, ca, tmp_path):
    """And resumes there, with the fast engine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.leaf())
    listening = socket.create_server(("127.0.0.1", 0))

    def accept():
        for _ in range(2):
            connection = listening.accept()[0]
            with context.wrap_socket(connection, server_side=True) as peer:
                peer.sendall(b"welcome " + peer.recv(100))
                with contextlib.suppress(OSError):
                    peer.unwrap()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    ours, resumed = tls.ClientTls(tls.ClientSettings(ca=ca.ca_path)), []
    for _ in range(2):
        engine, got = ours.engine("localhost"), b""
        engine.write(b"friend")
        with socket.create_connection(listening.getsockname(), 20) as plain:
            while not engine.closed_by_peer:
                plain.sendall(engine.take())
                got += engine.feed(plain.recv(65536))
            resumed.append(engine.resumed)
            engine.close()
            plain.sendall(engine.take())
        engine.free()
        assert got == b"welcome friend"
    thread.join(20)
    listening.close()
    assert resumed == [False, kind == "openssl"]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_trusts_the_development_ca(serve, ca):
    server = serve()
    command = ["curl", "-sS", "--noproxy", "*", "--cacert", ca.ca_path, f"https://localhost:{server.port}/"]
    assert subprocess.run(command, capture_output=True, check=True, timeout=30).stdout == b"hello\n"
    command[-1] = f"http://127.0.0.1:{server.port}/"
    done = subprocess.run([*command, "-o", "/dev/null", "-w", "%{http_code}"], capture_output=True, timeout=30)
    assert done.stdout == b"400" and server.seen[-1].plain_http
    del command[4:6]
    command[-1] = f"https://localhost:{server.port}/"
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert done.returncode == 60 and re.search(rb"certificate", done.stderr)
