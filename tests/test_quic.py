"""QUIC below HTTP, in memory: heads of packets, tokens, what workers share, tickets, engines against each other, and batches of
datagrams over the loopback interface.
"""

from __future__ import annotations

import datetime
import random
import socket
from functools import partial
from types import SimpleNamespace

import pytest

from fairlead.core.slab import QUIC, Slab
from fairlead.net import quicaioquic, quicengine, quicshare, udp
from fairlead.net.quicconn import QuicConn
from fairlead.net.quicforward import Forwarder, Turn
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.quicshare import Share
from fairlead.net.quictickets import Lone, Tickets
from fairlead.net.quictoken import Tokens
from fairlead.wire import _plain
from fairlead.wire import quic as wire

try:
    from fairlead.wire import _fast
except ImportError:
    from fairlead.wire import _plain as _fast

pytest.importorskip("qh3")
PEER = ("192.0.2.7", 4433)


# ---- heads


def initial(destination: bytes = b"D" * 8, source: bytes = b"S" * 8, token: bytes = b"", version: int = 1) -> bytes:
    head = b"\xc0" + version.to_bytes(4, "big") + bytes((len(destination),)) + destination + bytes((len(source),)) + source
    return head + bytes((len(token),)) + token + b"\x44\x00" + bytes(1100)


def test_the_head_of_an_initial_packet_says_who_asks_and_with_which_token():
    head = wire.head(initial(token=b"tok"))
    assert (head.kind, head.version, head.destination, head.source, head.token) == (
        "initial", 1, b"D" * 8, b"S" * 8, b"tok",
    )  # fmt: skip


def test_a_short_packet_begins_with_an_id_of_ours():
    assert wire.head(b"\x41" + b"12345678" + b"rest").destination == b"12345678"


@pytest.mark.parametrize("size", range(30))
def test_a_head_that_is_cut_is_none_or_whole(size):
    head = wire.head(initial()[:size])
    assert head is None or head.kind == "initial"


def test_junk_has_no_head_that_raises():
    chance = random.Random(3)
    for _ in range(2000):
        wire.head(chance.randbytes(chance.randrange(60)))
    assert wire.head(b"\xc0\0\0\0\1\x15" + bytes(21) + b"\x08" + bytes(40)) is None  # an id of 21 bytes


def test_version_negotiation_swaps_the_ids_and_names_version_1():
    asked = wire.head(initial(version=0x0A1A2A3A))
    assert asked.kind == "other"
    assert wire.version_negotiation(asked, (1,), 5) == b"\x85" + bytes(4) + b"\x08" + b"S" * 8 + b"\x08" + b"D" * 8 + b"\0\0\0\1"


@pytest.mark.parametrize("size", [21, 22, 30, 43, 1200])
def test_a_reset_is_smaller_than_what_it_answers_and_ends_with_the_token(size):
    packet = wire.stateless_reset(b"T" * 16, size, bytes(range(48)))
    if size <= wire.RESET_LEAST:
        assert packet is None
        return
    assert wire.RESET_LEAST <= len(packet) < size and packet.endswith(b"T" * 16) and packet[0] & 0xC0 == 0x40


# ---- tokens


def test_a_retry_token_holds_for_its_address_for_a_while_and_for_nobody_else():
    ours, sibling, stranger = Tokens(b"k" * 32), Tokens(b"k" * 32), Tokens(b"j" * 32)
    token = ours.retry(PEER, b"original", b"source12", 1000.0)
    assert sibling.check(token, PEER, 1005.0) == (b"original", b"source12")
    assert sibling.check(token, PEER, 1020.0) is None
    assert sibling.check(token, ("192.0.2.7", 4434), 1005.0) is None
    assert sibling.check(token, ("192.0.2.8", 4433), 1005.0) is None
    assert stranger.check(token, PEER, 1005.0) is None
    for place in range(len(token)):
        changed = token[:place] + bytes((token[place] ^ 1,)) + token[place + 1 :]
        assert sibling.check(changed, PEER, 1005.0) is None
        assert sibling.check(token[:place], PEER, 1005.0) is None


def test_a_token_for_later_proves_its_host_once_for_a_day_and_nothing_else():
    ours, sibling, heir = Tokens(b"k" * 32), Tokens(b"k" * 32), Tokens(b"n" * 32, b"k" * 32)
    token = ours.later(PEER, 1000.0, b"number 1")
    assert len(token) == 29 and (1000).to_bytes(5, "big") not in token
    assert not sibling.known(token, ("192.0.2.8", 4433), 1005.0) and not Tokens(b"j" * 32).known(token, PEER, 1005.0)
    assert not sibling.known(token, PEER, 1000.0 + 86_500) and not sibling.known(token, PEER, 900.0)
    for place in range(len(token)):
        assert not sibling.known(token[:place] + bytes((token[place] ^ 1,)) + token[place + 1 :], PEER, 1005.0)
    assert sibling.check(token, PEER, 1005.0) is None and not ours.known(ours.retry(PEER, b"o" * 8, b"s" * 8, 1000.0), PEER, 1000.0)
    assert sibling.known(token, ("192.0.2.7", 9), 80_000.0) and not sibling.known(token, PEER, 80_001.0)
    assert heir.known(token, PEER, 1005.0), "of the server before"
    assert heir.known(heir.later(("2001:db8::1", 1), 5.0, b"number 2"), ("2001:db8::1", 2), 6.0)


def test_a_lone_process_forgets_old_tokens_before_it_runs_out_of_memory():
    ours = Tokens(b"k" * 32)
    assert all(ours.first(number.to_bytes(8, "big"), None) for number in range(10_050)) and len(ours.spent) == 10_000


def test_every_worker_makes_the_same_reset_token_of_an_id_and_an_older_server_has_names_of_its_own():
    old, new = Tokens(b"k" * 32, lasting=b"l" * 32), Tokens(b"n" * 32, b"k" * 32, b"l" * 32)
    assert old.reset(b"12345678") == Tokens(b"k" * 32).reset(b"12345678") != old.reset(b"12345679")
    assert new.older == old.name != new.name and new.lasting == old.lasting and old.older == ""


# ---- what workers share


@pytest.fixture
def share():
    slab = Slab.create(2)
    yield Share(slab.quic(), slab.fd)
    slab.close()


def test_the_part_of_the_slab_is_as_large_as_what_is_shared(share):
    assert quicshare.WORDS == QUIC and len(share.key) == 32 and share.key != share.lasting and not any(share.previous)


def test_a_successor_knows_the_key_before_and_goes_on_with_the_lasting_one(share):
    slab = Slab.create(1)
    heir = Share(slab.quic(), slab.fd)
    heir.succeed(bytes(share.memory[:96]))
    assert heir.previous == share.key and heir.lasting == share.lasting and heir.key != share.key
    slab.close()


def test_ids_are_found_by_siblings_until_they_are_given_up(share):
    chance = random.Random(1)
    ids = {chance.randbytes(8): n % 7 for n in range(3000)}
    for cid, region in ids.items():
        share.own(cid, region)
    assert all(share.owner(cid) == region for cid, region in ids.items())
    for cid in list(ids)[:1500]:
        share.disown(cid)
    assert [share.owner(cid) for cid in ids] == [-1] * 1500 + list(ids.values())[1500:]


def test_a_full_bucket_gives_up_one_id_and_not_the_new_one(share):
    first = b"12345678"
    place = share.places(first)[1]
    chance, same = random.Random(2), [first]
    while len(same) < 12:
        cid = chance.randbytes(8)
        if share.places(cid)[1] == place:
            same.append(cid)
    for cid in same:
        share.own(cid, 3)
        assert share.owner(cid) == 3
    assert sum(share.owner(cid) == 3 for cid in same) == quicshare.WAYS


def test_a_ticket_is_taken_once(share):
    assert share.keep(b"n" * 64, b"body") and share.take(b"m" * 64) is None
    assert share.take(b"n" * 64) == b"body" and share.take(b"n" * 64) is None
    assert not share.keep(b"n" * 64, bytes(600))


def test_the_number_of_a_token_is_spent_once(share):
    chance = random.Random(4)
    numbers = [chance.randbytes(8) for _ in range(200)]
    assert all(share.spend(one) for one in numbers) and share.spend(bytes(8)) and not share.spend(bytes(8))
    assert sum(not share.spend(one) for one in numbers) > 190  # a cell may be another's by then


# ---- tickets


def ticket(module, early=0xFFFFFFFF):
    now = module.utcnow()
    made = module.SessionTicket(
        age_add=77, cipher_suite=module.CipherSuite.AES_128_GCM_SHA256, not_valid_before=now, not_valid_after=now,
        resumption_secret=b"s" * 32, server_name="", ticket=b"t" * 64,
    )  # fmt: skip
    made.max_early_data_size = early
    return made


@pytest.mark.parametrize("library", ["qh3", "aioquic"])
@pytest.mark.parametrize(
    ("name", "age", "early", "allowed", "found"),
    [
        ("a.example", 77, True, True, True),
        ("a.example", 77 + 5000, True, True, True),
        ("a.example", 77 + 60_000, True, True, False),  # it claims to be older than it is
        ("a.example", 77 + 60_000, False, True, True),  # which does not matter without early data
        ("b.example", 77, False, True, False),
        ("a.example", 77, True, False, False),
    ],
)
def test_a_ticket_holds_for_its_name_and_early_data_for_its_age(library, name, age, early, allowed, found):
    module = pytest.importorskip(f"{library}.tls")
    tickets = Tickets(Lone())
    tickets.keep(ticket(module), "a.example", module)
    got = tickets.judge(module, name, age, early, allowed)(b"t" * 64)
    assert (got is not None) is found
    if found:
        assert got.resumption_secret == b"s" * 32 and got.is_valid
    assert tickets.judge(module, "a.example", 77, False, True)(b"t" * 64) is None


# ---- engines


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    pytest.importorskip("cryptography.x509")
    return made_certificate(tmp_path_factory.mktemp("quic"))


def made_certificate(home):
    """The files of one for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 5, begin, begin.replace(year=2125))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256())
    (home / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (home / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return str(home / "cert.pem"), str(home / "key.pem")


def nobody(module, settings):
    """A configuration of a client without an id."""
    made = QuicSettings.common(settings, module)
    made.connection_id_length = 0
    return made


def sized(module, settings, size):
    """A configuration of a client whose ids are of `size` bytes."""
    made = QuicSettings.common(settings, module)
    made.connection_id_length = size
    return made


class Pair:
    """A client's engine and a server's, with a wire between them."""

    def __init__(self, client: str, server: str, certificate, nameless=False, shown=None, proven=False, ids=8, **options):
        self.now = 100.0
        self.home = ("127.0.0.1", 1000)  # of the client
        ours = QuicSettings(server)
        for key, value in options.items():
            setattr(ours, key, value)
        ours.add(*certificate, None)
        theirs = QuicSettings(client, client=True)
        theirs.name, theirs.verify = "localhost", False
        if shown is not None:
            theirs.pair = shown
        self.settings = ours
        if ids != 8:
            theirs.common = lambda module: sized(module, theirs, ids)
        self.client = quicengine.client(theirs, ("127.0.0.1", 443), self.now)
        if nameless:  # aioquic lets us have it so
            theirs.common = lambda module: nobody(module, theirs)
            self.client = quicaioquic.AioquicEngine(theirs, None)
            self.client.conn._peer_cid.cid = self.client.conn._original_destination_connection_id = b"made up!"
            self.client.conn._replenish_connection_ids = lambda: None
            self.client.conn.connect(("127.0.0.1", 443), self.now)
        flight = self.client.take(self.now)
        original = wire.head(flight[0][0]).destination
        tokens = Tokens(b"k" * 32)
        made = iter(range(100, 200))

        def further():
            cid = b"further" + bytes((next(made),))
            return cid, tokens.reset(cid)

        cid = original if nameless and server == "qh3" else b"01234567"
        self.server = quicengine.server(ours, cid, tokens.reset(b"01234567"), original, None, further, proven)
        self.server.receive([data for data, _ in flight], self.home, self.now, self.carried(self.client.mark))
        self.heard = {self.client: [], self.server: []}

    def run(self, rounds=12):
        for _ in range(rounds):
            self.now += 0.01
            for one, other, peer in ((self.server, self.client, ("127.0.0.1", 443)), (self.client, self.server, self.home)):
                sent = [data for data, _ in one.take(self.now)]  # what it has to say to what it heard goes first
                at = one.timer()
                if at is not None and at <= self.now:
                    one.tick(self.now)
                    sent += [data for data, _ in one.take(self.now)]
                if sent:
                    other.receive(sent, peer, self.now, self.carried(one.mark))
                while one.events():
                    self.heard[one].append(one.events().popleft())
            while self.server.events():
                self.heard[self.server].append(self.server.events().popleft())

    def carried(self, mark):
        """The ECN bits of what was sent with these."""
        return mark

    def data(self, who, stream):
        return b"".join(event[2] for event in self.heard[who] if event[0] == "data" and event[1] == stream)


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
@pytest.mark.parametrize("client", ["qh3", "aioquic"])
def test_engines_of_both_kinds_understand_each_other(client, server, certificate):
    pair = Pair(client, server, certificate)
    pair.run()
    assert pair.client.done and pair.server.done and pair.server.protocol() == "h3"
    assert ("done",) in pair.heard[pair.server] and pair.server.cipher.startswith("TLS_") and pair.server.asked_name == "localhost"
    stream = pair.client.opener(False)
    pair.client.send(stream, b"ask" * 1000, True)
    pair.run(6)
    assert pair.data(pair.server, stream) == b"ask" * 1000
    pair.server.send(stream, b"answer" * 1000, True)
    assert pair.server.opener(True) == 3
    pair.server.datagram(b"gram")
    pair.run(6)
    assert pair.data(pair.client, stream) == b"answer" * 1000 and ("datagram", b"gram") in pair.heard[pair.client]
    assert pair.server.unsent() == 0 and pair.server.idle() and pair.server.facts()["rtt_us"] > 0
    pair.client.key_update()
    pair.client.reset(pair.client.opener(False), 0x10C)
    other = pair.client.opener(False)
    pair.client.send(other, b"x", False)
    pair.run(6)
    pair.server.stop(other, 0x100)
    pair.run(6)
    assert ("reset", 4, 0x10C) in pair.heard[pair.server] and ("stop", other, 0x100) in pair.heard[pair.client]
    pair.server.close(0x100, "bye")
    pair.run(60)
    assert ("closed", 0x100, "bye") in pair.heard[pair.client]


class Saying:
    """As much of a QuicConn as `say` needs."""

    limits = SimpleNamespace(connection_window=1 << 20)

    def __init__(self, engine):
        self.engine, self.blocked_streams, self.uncredited = engine, set(), 0

    def carry_out(self, orders):
        pass


def lossy(hear, chance, datagrams, *more):
    """A third of what is heard is lost."""
    hear([one for one in datagrams if chance.random() > 0.3], *more)


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_an_end_alone_comes_though_its_packet_is_lost(server, certificate):
    for seed in range(12):
        pair, chance = Pair("aioquic", server, certificate), random.Random(seed)
        pair.run(6)
        stream = pair.client.opener(False)
        pair.client.send(stream, b"x", True)
        pair.run(3)
        flight = []
        for chunk in ((stream, bytes(12_000), False), (stream, b"", True)):
            codec = SimpleNamespace(
                take=lambda chunk=chunk: [chunk], orders=list, credit=list, ready=[], outbox=(), allowance=1 << 20)
            QuicConn.say(Saying(pair.server), codec)
            flight += [data for data, _ in pair.server.take(pair.now)]
        hear = pair.client.receive
        pair.client.receive = partial(lossy, hear, chance)
        pair.client.receive(flight, ("127.0.0.1", 443), pair.now)
        pair.run(30)
        pair.client.receive = hear
        pair.run(150)
        assert pair.heard[pair.client][-1][:1] != ("closed",)
        assert any(event[0] == "data" and event[1] == stream and event[3] for event in pair.heard[pair.client]), seed


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("nameless", [False, True])
@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_a_token_is_given_and_given_again_when_it_is_lost(server, nameless, lost, certificate):
    pair = Pair("aioquic", server, certificate, nameless=nameless)
    tokens = []
    pair.client.conn._token_handler = tokens.append
    pair.run(6)
    assert pair.client.done
    pair.server.grant(b"come again!")
    for _ in range(lost):
        assert pair.server.take(pair.now)
        pair.now += 2.0
        at = pair.server.timer()
        if at is not None and at <= pair.now:
            pair.server.tick(pair.now)
    pair.run(20)
    assert tokens[:1] == [b"come again!"] and pair.server.failed is None and pair.client.failed is None
    count = len(tokens)
    pair.now += 5.0
    stream = pair.client.opener(False)
    pair.client.send(stream, b"ask" * 1000, True)
    pair.run(8)
    pair.server.send(stream, b"answer" * 1000, True)
    pair.run(8)
    assert pair.data(pair.client, stream) == b"answer" * 1000 and len(tokens) == count, "an acknowledged one is not given again"


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_who_is_proven_by_a_token_is_answered_in_full_at_once(server, certificate):
    sent = {}
    for proven in (False, True):
        pair = Pair("aioquic", server, certificate, proven=proven)
        sent[proven] = 0
        for _ in range(400):  # the client never says more
            pair.now += 0.05
            at = pair.server.timer()
            if at is not None and at <= pair.now:
                pair.server.tick(pair.now)
            sent[proven] += sum(len(data) for data, _ in pair.server.take(pair.now))
    assert sent[False] <= 3 * 1200 * 2 < sent[True]


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_a_client_whose_id_is_empty_is_answered_by_it(server, certificate):
    pair = Pair("aioquic", server, certificate, nameless=True)
    pair.run()
    assert pair.client.done and pair.server.done
    stream = pair.client.opener(False)
    pair.client.send(stream, b"ask" * 1000, True)
    pair.run(6)
    pair.server.send(stream, b"answer" * 1000, True)
    pair.run(6)
    assert pair.data(pair.server, stream) == b"ask" * 1000 and pair.data(pair.client, stream) == b"answer" * 1000


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_a_paused_engine_takes_no_more_than_its_windows_and_goes_on(server, certificate):
    pair = Pair("qh3", server, certificate, window=65536, stream_window=65536)
    pair.run()
    pair.server.paused = True
    stream = pair.client.opener(False)
    pair.client.send(stream, bytes(400_000), True)
    pair.run(60)
    assert pair.data(pair.server, stream) == b"" and pair.client.unsent(stream) >= 400_000 - 2 * 65536
    for _ in range(40):
        pair.server.resume()
        pair.run(8)
    assert len(pair.data(pair.server, stream)) == 400_000


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_no_datagram_makes_an_engine_raise_and_a_good_one_after_it_is_heard(server, certificate):
    pair, chance = Pair("aioquic", server, certificate), random.Random(5)
    pair.run()
    for _ in range(300):
        size = chance.choice((1, 8, 20, 40, 1200, 1472, 65000))
        data = bytearray(chance.randbytes(size))
        if chance.random() < 0.7:
            data[:9] = b"\x41" + b"01234567" if chance.random() < 0.5 else b"\xd0\0\0\0\1\x0801"
        pair.server.receive([bytes(data)], ("127.0.0.1", 1000), pair.now)
    assert pair.server.failed is None
    stream = pair.client.opener(False)
    pair.client.send(stream, b"still here", True)
    pair.run(8)
    assert pair.data(pair.server, stream) == b"still here"


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_an_engine_that_fails_closes_its_connection_and_nothing_else(server, certificate):
    pair = Pair("aioquic", server, certificate)
    pair.run()

    class Panic(BaseException):
        pass

    def broken(*_):
        raise Panic("of Rust code")

    pair.server.guarded(broken)
    assert pair.server.events()[-1][0] == "closed" and pair.server.over
    pair.client.receive([data for data, _ in pair.server.farewell(pair.now)], ("127.0.0.1", 443), pair.now)
    pair.run(60)
    assert any(event[:2] == ("closed", 1) for event in pair.heard[pair.client]) and pair.server.farewell(pair.now) == []
    pair.server.receive([b"x"], PEER, pair.now)
    assert pair.server.take(pair.now) == []


@pytest.mark.parametrize("server", ["qh3", "aioquic"])
def test_what_is_sent_to_an_address_that_is_not_proven_is_at_most_three_times_what_came(server, certificate):
    pair = Pair("aioquic", server, certificate)
    sent = 0
    for _ in range(400):  # the client never says more
        pair.now += 0.05
        at = pair.server.timer()
        if at is not None and at <= pair.now:
            pair.server.tick(pair.now)
        sent += sum(len(data) for data, _ in pair.server.take(pair.now))
    assert 0 < sent <= 3 * 1200 * 2  # two datagrams came


# ---- datagrams


@pytest.mark.parametrize("kind", [_fast.Datagrams, _plain.Datagrams])
def test_datagrams_leave_and_come_in_batches_with_their_stamp(kind):
    ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with ours, theirs:
        for sock in (ours, theirs):
            sock.bind(("127.0.0.1", 0))
            udp.set_up(sock)
        sender, receiver = kind(ours.fileno()), kind(theirs.fileno())
        assert receiver.receive() == []
        assert sender.send([b"one"], theirs.getsockname(), 0, b"")
        ((data, peer, local, stamp, segment, ecn),) = receiver.receive()
        assert (data, peer, local, segment, ecn) == (b"one", ours.getsockname(), b"", 0, 0) and stamp > 1e18
        assert sender.send([b"a" * 1000, b"b" * 1000, b"c" * 10], theirs.getsockname(), 1000, b"")
        got = receiver.receive()
        assert b"".join(one[0] for one in got) == b"a" * 1000 + b"b" * 1000 + b"c" * 10
        assert len(got) == 3 or got[0][4] == 1000
        with pytest.raises(ValueError, match="no address"):
            sender.send([b"x"], ("nowhere", 1), 0, b"")


@pytest.mark.parametrize("kind", [_fast.Datagrams, _plain.Datagrams])
@pytest.mark.parametrize(
    ("family", "bound", "to"),
    [("AF_INET", "127.0.0.1", "127.0.0.1"), ("AF_INET6", "::1", "::1"), ("AF_INET6", "::", "::ffff:127.0.0.1")],
)
def test_the_ecn_bits_of_a_datagram_are_those_it_was_sent_with(kind, family, bound, to):
    ours, theirs = (socket.socket(getattr(socket, family), socket.SOCK_DGRAM) for _ in range(2))
    with ours, theirs:
        for sock in (ours, theirs):
            if family == "AF_INET6":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                sock.bind((bound, 0))
            except OSError:
                pytest.skip(f"no {bound} here")
            udp.set_up(sock)
        for mark in (0, 1, 2, 3):
            assert kind(ours.fileno()).send([b"a" * 50, b"b" * 50], (to, theirs.getsockname()[1]), 50, b"", mark)
            got = kind(theirs.fileno()).receive()
            assert b"".join(one[0] for one in got) == b"a" * 50 + b"b" * 50 and {one[5] for one in got} == {mark}


def test_a_buffer_that_is_smaller_than_wanted_is_said_once(caplog):
    udp.SAID.clear()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        udp.say_buffer(small)
        udp.say_buffer(small)
    (said,) = caplog.messages
    assert "64 KiB may wait" in said and "net.core.rmem_max" in said
    udp.SAID.clear()


@pytest.mark.parametrize("kind", [_fast.Datagrams, _plain.Datagrams])
def test_an_answer_leaves_from_the_address_that_was_asked(kind):
    ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with ours, theirs:
        ours.bind(("0.0.0.0", 0))
        theirs.bind(("127.0.0.1", 0))
        udp.set_up(ours)
        served = kind(ours.fileno())
        theirs.sendto(b"to the second address", ("127.0.0.2", ours.getsockname()[1]))
        ((_, peer, local, *_),) = served.receive()
        assert local == bytes((127, 0, 0, 2))
        assert served.send([b"back"], peer, 0, local)
        assert theirs.recvfrom(100) == (b"back", ("127.0.0.2", ours.getsockname()[1]))


def test_a_run_of_packets_leaves_in_few_calls_and_in_order():
    ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with ours, theirs:
        theirs.bind(("127.0.0.1", 0))
        ours.bind(("127.0.0.1", 0))
        line = udp.Udp(ours)
        packets = [bytes((n,)) * size for n, size in enumerate([1200] * 30 + [700] + [1200] * 5 + [1300, 20])]
        assert line.send(packets, theirs.getsockname()) == len(packets)
        assert [theirs.recv(2000) for _ in packets] == packets
        assert line.calls < 6 or not line.segments


# ---- passing on


class Quiet:
    def watch(self, fd, watcher, events):
        self.watcher = watcher

    def unwatch(self, fd):
        pass


def test_a_packet_for_a_sibling_is_passed_on_with_its_addresses():
    heard, first, second = [], Quiet(), Quiet()
    one = Forwarder(first, "s" * 32, 1, 4433, lambda *given: heard.append(given))
    two = Forwarder(second, "s" * 32, 2, 4433, lambda *given: None)
    assert two.send(1, b"packet", ("2001:db8::1", 5), b"1234") and not two.send(3, b"packet", PEER, b"")
    one.ready(1)
    assert heard == [(b"packet", ("2001:db8::1", 5), b"1234")]
    one.close()
    assert not two.send(1, b"packet", PEER, b"")
    two.close()


def test_one_at_a_time_reads_a_socket():
    bound = ("127.0.0.1", random.randrange(1 << 30))
    first = Turn.take("secret", bound, 0)
    assert first is not None and Turn.take("secret", bound, 0) is None and Turn.take("secret", bound, 1) is not None
    first.close()
    assert Turn.take("secret", bound, 0) is not None


def test_a_certificate_is_chosen_by_its_name_then_by_a_wildcard_then_the_first():
    settings = QuicSettings("qh3")
    settings.first, settings.exact, settings.wildcard = "first", {"a.example": "a"}, {"b.example": "any b"}
    found = [settings.choose(name) for name in ("A.example.", "x.b.example", "x.y.b.example", "", "c.example")]
    assert found == ["a", "any b", "first", "first", "first"]
