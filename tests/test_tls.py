"""TLS engines, without sockets: two engines joined by hand, and bytes that no peer should send. Every test runs on each
engine that this build has."""

import os
import random
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.core.errors import ConfigError
from fairlead.net import certs, tls, tlschoice

KINDS = ["ssl", "openssl"]


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return certs.dev_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    if request.param == "openssl" and tlschoice.unusable():
        pytest.skip(tlschoice.unusable())
    monkeypatch.setenv("FAIRLEAD_TLS_ENGINE", request.param)
    tlschoice.forget_engine_kind()
    yield request.param
    tlschoice.forget_engine_kind()


@pytest.fixture
def fast(kind):
    if kind != "openssl":
        pytest.skip("needs libssl")


def server_of(ca, names=(), **more):
    extra = {key: more.pop(key) for key in ("alpn", "ticket_keys") if key in more}
    certificate, key = ca.leaf(names)
    return tls.ServerTls(tls.ServerSettings(certificate=certificate, key=key, **more), **extra)


def client_of(ca, **more):
    extra = {"alpn": more.pop("alpn")} if "alpn" in more else {}
    return tls.ClientTls(tls.ClientSettings(ca=ca.ca_path, **more), **extra)


def pump(client, server, step=0):
    """Carry ciphertext both ways until nobody has more; what each of them read. With `step`, so many bytes at a
    time.
    """
    heard = {client: b"", server: b""}
    while True:
        moved = False
        for one, other in ((client, server), (server, client)):
            flight = one.take()
            moved = moved or bool(flight)
            size = step or len(flight) or 1
            for at in range(0, len(flight), size):
                heard[other] += other.feed(flight[at : at + size])
        if not moved:
            return heard[client], heard[server]


def joined(ca, server=None, client=None, name="localhost", step=0):
    one, two = (client or client_of(ca)).engine(name), (server or server_of(ca)).engine()
    pump(one, two, step)
    assert one.done and two.done
    return one, two


# ---- the promises ----------------------------------------------------------------------------------------------------


def test_a_handshake_tells_version_cipher_alpn_and_name(kind, ca):
    client, server = joined(ca, server_of(ca, alpn=("h2", "http/1.1")), client_of(ca, alpn=("http/1.1",)))
    for engine in (client, server):
        assert (engine.version, engine.alpn, engine.resumed) == ("TLSv1.3", "http/1.1", False)
        assert engine.cipher.startswith("TLS_")
    assert server.server_name == "localhost"
    assert server.peer_cert is None
    assert ssl.DER_cert_to_PEM_cert(client.peer_cert) == Path(ca.leaf()[0]).read_text()


def test_the_server_chooses_the_protocol_in_its_order(kind, ca):
    client, server = joined(ca, server_of(ca, alpn=("h2", "http/1.1")), client_of(ca, alpn=("http/1.1", "h2")))
    assert client.alpn == server.alpn == "h2"


def test_a_client_without_alpn_is_served(kind, ca):
    client, server = joined(ca, server_of(ca), client_of(ca, alpn=()))
    assert client.alpn is None and server.alpn is None


def test_a_client_that_wants_other_protocols_only_is_refused_with_an_alert(fast, ca):
    client, server = client_of(ca, alpn=("foo",)).engine("localhost"), server_of(ca).engine()
    with pytest.raises(tls.TlsError) as error:
        server.feed(client.take())
    assert error.value.reason == "NO_APPLICATION_PROTOCOL"
    assert server.take() == b"\x15\x03\x03\x00\x02\x02\x78"  # fatal, 120 (RFC 7301 3.2)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("step", [0, 1, 7])
def test_data_arrives_whole_however_it_is_cut(kind, ca, version, step):
    client, server = joined(ca, server_of(ca, min=version, max=version), step=step)
    assert client.version == server.version == f"TLSv{version}"
    request, answer = b"q" * 100, bytes(range(256)) * 200
    client.write(request)
    assert pump(client, server, step) == (b"", request)
    server.write(answer)
    server.write(b"")
    server.write(b"more")
    assert pump(client, server, step) == (answer + b"more", b"")


def test_a_megabyte_passes_in_one_piece(kind, ca):
    client, server = joined(ca)
    body = random.Random(1).randbytes(1 << 20)
    server.write(body)
    assert pump(client, server) == (body, b"")


def test_what_is_written_before_the_handshake_is_sent_after_it(kind, ca):
    client, server = client_of(ca).engine("localhost"), server_of(ca).engine()
    client.write(b"early ")
    client.write(b"bird")
    assert pump(client, server) == (b"", b"early bird")


def test_a_request_that_rides_with_the_end_of_the_handshake_is_read(kind, ca):
    client, server = client_of(ca).engine("localhost"), server_of(ca).engine()
    server.feed(client.take())
    client.feed(server.take())
    client.write(b"GET")
    assert server.feed(client.take()) == b"GET"


def test_a_small_answer_is_one_record(kind, ca):
    _client, server = joined(ca)
    server.write(b"x" * 500)
    record = server.take()
    assert record[:3] == b"\x17\x03\x03" and int.from_bytes(record[3:5], "big") == len(record) - 5


def test_bytes_of_the_caller_are_not_kept(kind, ca):
    client, server = joined(ca)
    client.write(b"one")
    assert server.feed(bytes(bytearray(client.take()))) == b"one"
    assert server.feed(b"") == b""


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_tls_13_may_finish_its_answer_after_the_peers_close_notify(kind, ca):
    client, server = joined(ca)
    client.close()
    assert pump(client, server) == (b"", b"")
    assert server.closed_by_peer and not client.closed_by_peer
    server.write(b"the rest")
    server.close()
    assert pump(client, server) == (b"the rest", b"")
    assert client.closed_by_peer


def test_tls_12_answers_close_notify_at_once(kind, ca):
    client, server = joined(ca, server_of(ca, max="1.2"))
    client.close()
    server.feed(client.take())
    assert server.closed_by_peer
    client.feed(server.take())
    assert client.closed_by_peer
    server.write(b"dropped: the peer has gone")
    assert server.take() == b""


def test_close_twice_is_close_once(kind, ca):
    _client, server = joined(ca)
    server.close()
    first = server.take()
    server.close()
    assert first and server.take() == b""
    with pytest.raises(tls.TlsError):
        server.write(b"too late")


def test_a_freed_engine_is_quiet(kind, ca):
    _client, server = joined(ca)
    server.free()
    server.free()
    assert server.take() == b"" and server.version == "" and server.peer_cert is None
    assert server.feed(b"anything") == b""
    server.close()


def test_after_an_error_every_feed_raises_it_again(kind, ca):
    server = server_of(ca).engine()
    for _ in range(2):
        with pytest.raises(tls.TlsError):
            server.feed(b"\x16\x03\x01\x00\x05hello")
    server.close()
    server.free()


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE /a HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_plain_http_is_recognised_and_gets_no_alert(kind, ca, request_line):
    server = server_of(ca).engine()
    with pytest.raises(tls.TlsError) as error:
        server.feed(request_line)
    assert error.value.plain_http and error.value.status == 400 and "https" in error.value.hint
    assert server.take() == b""


def test_garbage_gives_a_reason_and_is_not_taken_for_http(kind, ca):
    server = server_of(ca).engine()
    with pytest.raises(tls.TlsError) as error:
        server.feed(b"\x00" * 64)
    assert not error.value.plain_http and error.value.reason and error.value.side == "peer"
    assert "handshake failed" in str(error.value)


def test_a_client_that_is_too_old_gets_a_protocol_version_alert(kind, ca):
    client = client_of(ca)
    client.context.maximum_version = ssl.TLSVersion.TLSv1_2
    one, two = client.engine("localhost"), server_of(ca, min="1.3").engine()
    with pytest.raises(tls.TlsError) as error:
        two.feed(one.take())
    assert error.value.reason == "UNSUPPORTED_PROTOCOL"
    alert = two.take()
    assert alert[0] == 0x15 and alert[-1] == 70
    with pytest.raises(tls.TlsError) as error:
        one.feed(alert)
    assert error.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_a_damaged_record_ends_the_connection_with_bad_record_mac(kind, ca):
    client, server = joined(ca)
    client.write(b"x" * 50)
    record = bytearray(client.take())
    record[-1] ^= 1
    with pytest.raises(tls.TlsError) as error:
        server.feed(bytes(record))
    assert "connection failed" in str(error.value)
    with pytest.raises(tls.TlsError) as error:
        client.feed(server.take())
    assert "MAC" in error.value.reason


def test_what_came_before_a_truncated_record_is_read(kind, ca):
    client, server = joined(ca)
    client.write(b"whole")
    whole = client.take()
    client.write(b"half")
    half = client.take()
    assert server.feed(whole + half[:9]) == b"whole"
    assert server.feed(half[9:]) == b"half"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_name_that_is_not_ascii_is_refused_in_words(kind, ca):
    client, server = client_of(ca).engine("localhost"), server_of(ca).engine()
    with pytest.raises(tls.TlsError, match="no host name"):
        server.feed(client.take().replace(b"localhost", b"\xff" * 9))
    assert server.take()[:1] == b"\x15"


def test_garbage_truncation_and_mutation_never_crash(kind, ca):
    dice = random.Random(7)
    server_tls, client_tls = server_of(ca), client_of(ca)
    raised = 0
    for _ in range(300):
        client, server = client_tls.engine("localhost"), server_tls.engine()
        victim = dice.randrange(6)
        try:
            if victim == 0:
                server.feed(dice.randbytes(dice.randrange(1, 400)))
                server.feed(b"\x16\x03\x01" + dice.randbytes(dice.randrange(1, 400)))
            for turn in range(1, 5):
                for one, other in ((client, server), (server, client)):
                    flight = bytearray(one.take())
                    if flight and turn == victim:
                        for _ in range(dice.randrange(1, 4)):
                            flight[dice.randrange(len(flight))] = dice.randrange(256)
                        del flight[dice.randrange(len(flight)) + 1 :]
                    other.feed(bytes(flight))
                if turn == 3:
                    client.write(dice.randbytes(40000))
        except tls.TlsError as error:
            raised += 1
            assert error.reason and str(error)
            client.take(), server.take()
        if dice.random() < 0.5:
            client.free(), server.free()
    assert raised > 10


# ---- certificates and trust ------------------------------------------------------------------------------------------


def test_the_name_asked_for_chooses_the_certificate(kind, ca, tmp_path):
    pairs = [ca.issue(names, tmp_path) for names in (["first.test"], ["second.test", "*.wild.test"])]
    files = tuple(tls.CertificateFiles(certificate=c, key=k) for c, k in pairs)
    server = tls.ServerTls(tls.ServerSettings(certificates=files))
    for name, which in (("first.test", 0), ("SECOND.test", 1), ("a.wild.test", 1)):
        client, two = joined(ca, server, name=name)
        assert ssl.DER_cert_to_PEM_cert(client.peer_cert) == Path(pairs[which][0]).read_text()
        assert two.server_name.lower() == name.lower()
    for name in ("other.test", "a.b.wild.test"):  # the first certificate is the default; a wildcard is one label
        client = tls.ClientTls(tls.ClientSettings(verify=False)).engine(name)
        pump(client, server.engine())
        assert ssl.DER_cert_to_PEM_cert(client.peer_cert) == Path(pairs[0][0]).read_text()


def test_a_wrong_name_and_an_unknown_ca_are_refused_in_words(kind, ca, tmp_path):
    other = certs.dev_ca(tmp_path)
    for client, name in (
        (client_of(ca), "wrong.test"),
        (client_of(other), "localhost"),
    ):
        one, two = client.engine(name), server_of(ca).engine()
        two.feed(one.take())
        with pytest.raises(tls.TlsError) as error:
            one.feed(two.take())
        assert error.value.reason == "CERTIFICATE_VERIFY_FAILED"
        with pytest.raises(tls.TlsError) as error:
            two.feed(one.take())
        assert "ALERT" in error.value.reason


def test_an_address_is_checked_as_an_address(kind, ca):
    _client, server = joined(ca, name="127.0.0.1")
    assert server.server_name is None


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_mutual_tls_wants_a_certificate_of_the_right_ca(kind, ca, tmp_path, version):
    server = server_of(ca, client_ca=ca.ca_path, min=version, max=version)
    certificate, key = ca.issue(["alice.test"], tmp_path, client=True)
    _, two = joined(ca, server, client_of(ca, certificate=certificate, key=key))
    assert ssl.DER_cert_to_PEM_cert(two.peer_cert) == Path(certificate).read_text()
    one, two = client_of(ca).engine("localhost"), server.engine()
    with pytest.raises(tls.TlsError) as error:
        pump(one, two)
    assert error.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    with pytest.raises(tls.TlsError) as error:
        one.feed(two.take())
    assert "ALERT" in error.value.reason


def test_optional_client_certificates_are_optional(kind, ca, tmp_path):
    server = server_of(ca, client_ca=ca.ca_path, client_auth="optional")
    assert joined(ca, server)[1].peer_cert is None
    stranger, key = certs.dev_ca(tmp_path).issue(["mallory.test"], tmp_path, client=True)
    with pytest.raises(tls.TlsError):
        joined(ca, server, client_of(ca, certificate=stranger, key=key))


def test_a_new_object_serves_a_new_certificate_while_old_connections_go_on(kind, ca):
    old = server_of(ca)
    client, server = joined(ca, old)
    renewed = server_of(ca, ("renewed.test",))
    other, _ = joined(ca, renewed, name="renewed.test")
    assert other.peer_cert != client.peer_cert
    client.write(b"still here")
    assert pump(client, server) == (b"", b"still here")


# ---- tickets ---------------------------------------------------------------------------------------------------------


def resumes(ca, client, server):
    one, two = joined(ca, server, client)
    answer = one.resumed
    assert one.resumed == two.resumed
    one.close()
    one.free()
    return answer


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_ticket_of_one_worker_is_taken_by_another_and_outlives_one_change_of_keys(fast, ca, version):
    first, second, third = (tls.new_ticket_key() for _ in range(3))
    limits = {"min": version, "max": version}
    worker1, worker2 = (server_of(ca, ticket_keys=[first], **limits) for _ in range(2))
    client = client_of(ca)
    assert not resumes(ca, client, worker1)
    assert resumes(ca, client, worker2)
    worker2.set_ticket_keys([second, first])
    assert resumes(ca, client, worker2)  # sealed by the previous key; the new ticket by the current one
    assert resumes(ca, client, server_of(ca, ticket_keys=[second], **limits))
    assert not resumes(ca, client, server_of(ca, ticket_keys=[third], **limits))


def test_a_ticket_without_a_client_certificate_opens_nothing_where_one_is_needed(fast, ca):
    key = tls.new_ticket_key()
    client = client_of(ca)
    assert not resumes(ca, client, server_of(ca, ticket_keys=[key]))
    with pytest.raises(tls.TlsError) as error:
        joined(ca, server_of(ca, ticket_keys=[key], client_ca=ca.ca_path), client)
    assert error.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


def test_without_tickets_nothing_is_resumed(fast, ca):
    server, client = server_of(ca, tickets=False), client_of(ca)
    assert [resumes(ca, client, server) for _ in range(2)] == [False, False]


# ---- settings --------------------------------------------------------------------------------------------------------


def test_defaults_are_mozillas_intermediate_and_keep_middlebox_compatibility(kind, ca):
    context = server_of(ca).context
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert context.options & ssl.OP_NO_RENEGOTIATION and context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert context.options & ssl.OP_ENABLE_MIDDLEBOX_COMPAT
    old = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert old and all(name.startswith("ECDHE-") and c_aead(name) for name in old)


def c_aead(name):
    return "GCM" in name or "POLY1305" in name


def test_no_certificate_and_unknown_ciphers_are_configuration_errors(kind, ca):
    with pytest.raises(ConfigError, match="without a certificate"):
        tls.ServerTls(tls.ServerSettings())
    with pytest.raises(ConfigError, match="ciphers"):
        server_of(ca, ciphers="NO-SUCH-CIPHER")
    with pytest.raises(ConfigError, match="no such file"):
        server_of(ca, client_ca="/nowhere/ca.pem")
    with pytest.raises(ConfigError, match="no name"):
        client_of(ca).engine()


def test_mode_dev_needs_no_files(kind, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    server = tls.ServerTls(tls.ServerSettings(mode="dev", names=("shop.test",)))
    joined(certs.dev_ca(), server, name="shop.test")


def test_the_engine_can_be_chosen_and_a_wrong_choice_says_so(monkeypatch):
    monkeypatch.setenv("FAIRLEAD_TLS_ENGINE", "gnutls")
    tlschoice.forget_engine_kind()
    with pytest.raises(ConfigError, match="gnutls"):
        tlschoice.engine_kind()
    monkeypatch.setenv("FAIRLEAD_TLS_ENGINE", "ssl")
    assert tlschoice.engine_kind() == "ssl" and tlschoice.why_not_openssl()
    tlschoice.forget_engine_kind()


def test_the_trial_runs_in_a_child_once_for_a_process_tree(fast, monkeypatch):
    monkeypatch.delenv("FAIRLEAD_TLS_TRIED", raising=False)
    assert tlschoice.tried_in_a_child() == ""
    mark = os.environ["FAIRLEAD_TLS_TRIED"]
    assert mark.startswith("good ")
    monkeypatch.setenv("FAIRLEAD_TLS_TRIED", mark.replace("good", "bad", 1))
    assert "failed" in tlschoice.tried_in_a_child()


def test_an_unknown_layout_falls_back(kind, monkeypatch):
    monkeypatch.setattr(tlschoice, "KNOWN_LAYOUTS", {})
    monkeypatch.delenv("FAIRLEAD_TLS_ENGINE")
    tlschoice.forget_engine_kind()
    assert tlschoice.engine_kind() == "ssl"


def test_pythons_own_callbacks_live_on_the_borrowed_connection(fast, ca, tmp_path):
    server, seen = server_of(ca), []
    server.context.keylog_filename = str(tmp_path / "keys")
    server.context._msg_callback = lambda *event: seen.append(event[1])
    joined(ca, server)
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in (tmp_path / "keys").read_text() and seen


def test_idle_connections_hold_little_and_give_everything_back(fast, ca):
    """Counted by the allocator in a process of its own, so that no other test's memory is in it."""
    code = """
import ctypes, sys
from fairlead.net import certs, tls
class Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in 'arena o s h hblkhd u f used fo k'.split()]
libc = ctypes.CDLL(None); libc.mallinfo2.restype = Info
def used(): i = libc.mallinfo2(); return i.used + i.hblkhd
ca = certs.dev_ca(sys.argv[1]); c, k = ca.leaf()
server = tls.ServerTls(tls.ServerSettings(certificate=c, key=k))
client = tls.ClientTls(tls.ClientSettings(ca=ca.ca_path))
def connection():
    one, two = client.engine('localhost'), server.engine()
    for _ in range(3):
        two.feed(one.take()); one.feed(two.take())
    one.write(b'q' * 100); two.feed(one.take()); two.write(b'a' * 100000); one.feed(two.take()); one.free()
    return two
for _ in range(30): connection()
start = used(); all = [connection() for _ in range(100)]; each = (used() - start) // 100
for engine in all: engine.free()
print(each, (used() - start) // 100)
"""
    if sys.platform != "linux":
        pytest.skip("counts with glibc")
    command = [sys.executable, "-c", code, str(ca.directory)]
    each, left = map(int, subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.split())
    assert each <= 20000 and left < 500
