"""The C leaves and their plain twins promise the same."""

import mmap
import os
import select
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.wire import _plain

try:
    from fairlead.wire import _fast
except ImportError:
    _fast = None

TWINS = [_plain] if _fast is None else [_plain, _fast]


@pytest.fixture(params=TWINS, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def leaf(request):
    return request.param


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, 35, 1)
    client = socket.create_connection(listener.getsockname())
    yield listener, client
    client.close()
    listener.close()


def test_every_public_name_has_a_twin():
    if _fast is None:
        pytest.skip("not compiled")
    names = {n for n in dir(_fast) if not n.startswith("_") and n not in ("os", "__pyx_capi__")}
    assert names <= set(dir(_plain)) | {"address", "fail"}


def test_a_fenced_write_is_whole_and_only_for_who_holds_the_fence(leaf, tmp_path):
    lock = os.open(tmp_path / "fence", os.O_CREAT | os.O_RDWR)
    fd = os.open(tmp_path / "data", os.O_CREAT | os.O_RDWR)
    try:
        os.write(lock, (7).to_bytes(8, "little") + b"more")
        assert leaf.write_fenced(lock, 7, fd, 3, [b"", b"abc", b"", b"defg"]) == 7
        many = [bytes([n % 251]) * (n % 5) for n in range(2000)]
        assert leaf.write_fenced(lock, 7, fd, 10, many) == sum(map(len, many))
        assert leaf.write_fenced(lock, 7, fd, 0, []) == leaf.write_fenced(lock, 7, fd, 0, [b""]) == 0
        assert leaf.write_fenced(lock, 8, fd, 0, [b"x"]) == -1
        assert os.pread(fd, 1 << 20, 0) == b"\0\0\0abcdefg" + b"".join(many)
        os.ftruncate(lock, 5)
        assert leaf.write_fenced(lock, 7, fd, 0, [b"x"]) == -1
        os.pwrite(lock, (7).to_bytes(8, "little"), 0)
        with pytest.raises(OSError):
            leaf.write_fenced(lock, 7, 1_000_000, 0, [b"x"])
        with pytest.raises(OSError):
            leaf.write_fenced(1_000_000, 7, fd, 0, [b"x"])
    finally:
        os.close(lock)
        os.close(fd)


def test_a_fenced_write_that_meets_the_end_says_how_much_there_was_room_for(leaf, tmp_path):
    import resource
    import signal

    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    lock = os.open(tmp_path / "fence", os.O_CREAT | os.O_RDWR)
    fd = os.open(tmp_path / "data", os.O_CREAT | os.O_RDWR)
    os.write(lock, bytes(8))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        assert leaf.write_fenced(lock, 0, fd, 0, [b"x" * 60, b"y" * 60]) == 100
        with pytest.raises(OSError, match="large"):
            leaf.write_fenced(lock, 0, fd, 100, [b"y" * 20])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
        os.close(lock)
        os.close(fd)


def test_nothing_to_read_is_none_and_the_end_is_empty(leaf, pair):
    left, right = pair
    assert leaf.recv(left.fileno(), 100) is None
    right.send(b"hello")
    assert leaf.recv(left.fileno(), 3) == b"hel"
    assert leaf.recv(left.fileno(), 200_000) == b"lo"
    right.close()
    assert leaf.recv(left.fileno(), 3) == b""


def test_a_read_from_a_reset_connection_raises(leaf, tcp):
    listener, client = tcp
    fd, _ = leaf.accept(listener.fileno())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionResetError):
        leaf.recv(fd, 10)
    leaf.close(fd)


def test_sending_says_how_much_went_and_minus_one_when_full(leaf, pair):
    left, right = pair
    assert leaf.send(left.fileno(), b"abcdef", 2) == 4
    assert right.recv(10) == b"cdef"
    assert leaf.send_many(left.fileno(), [b"abc", b"", b"def"], 1) == 5
    assert right.recv(10) == b"bcdef"
    block = b"x" * 1_000_000
    while leaf.send(left.fileno(), block, 0) >= 0:
        pass
    assert leaf.send_many(left.fileno(), [block, block], 0) == -1


def test_parts_of_a_file_are_sent_as_they_are(leaf, pair, tmp_path):
    left, right = pair
    (tmp_path / "f").write_bytes(bytes(range(256)) * 1024)
    with open(tmp_path / "f", "rb") as file:
        assert leaf.send_more(left.fileno(), b"head:", 2) == 3
        assert leaf.sendfile(left.fileno(), file.fileno(), 10, 5) == 5
        assert right.recv(20) == b"ad:" + bytes(range(10, 15))
        assert leaf.sendfile(left.fileno(), file.fileno(), 262_140, 100) == 4
        assert leaf.sendfile(left.fileno(), file.fileno(), 262_144, 100) == 0
        while leaf.sendfile(left.fileno(), file.fileno(), 0, 262_144) >= 0:
            pass
        assert leaf.send_more(left.fileno(), b"x", 0) == -1
        right.close()
        with pytest.raises(BrokenPipeError):
            leaf.sendfile(left.fileno(), file.fileno(), 0, 10)
        with pytest.raises(BrokenPipeError):
            leaf.send_more(left.fileno(), b"x", 0)


def test_what_was_just_written_is_in_memory_and_what_is_beyond_the_end_is_not(leaf, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    with open(tmp_path / "f", "rb") as file:
        for at, count in [(0, 1), (0, 200_000), (65_536, 65_536), (199_999, 1), (7, 0)]:
            assert leaf.resident(file.fileno(), at, count)
        for at, count in [(0, 200_001), (200_000, 1), (150_000, 200_000)]:
            assert not leaf.resident(file.fileno(), at, count)


def test_sending_to_a_closed_peer_raises_and_no_signal_kills_us(leaf, pair):
    left, right = pair
    right.close()
    with pytest.raises(BrokenPipeError):
        leaf.send(left.fileno(), b"x", 0)


def test_more_than_sixty_four_chunks_go_in_several_calls(leaf, pair):
    left, _ = pair
    assert leaf.send_many(left.fileno(), [b"x"] * 100, 0) == 64


def test_accept_gives_a_nonblocking_descriptor_and_the_peer(leaf, tcp):
    listener, client = tcp
    listener.setblocking(False)
    fd, peer = leaf.accept(listener.fileno())
    assert peer == client.getsockname()
    assert leaf.local_address(fd) == listener.getsockname()
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    assert leaf.accept(listener.fileno()) is None
    assert 0 <= leaf.accept_wait(fd) < 5000
    leaf.close(fd)


def test_accept_of_a_unix_socket_has_no_name(leaf, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    fd, peer = leaf.accept(listener.fileno())
    assert peer == ""
    assert leaf.accept_wait(fd) == -1
    leaf.close(fd)
    client.close()
    listener.close()


def test_a_mapped_address_reads_as_ipv4(leaf):
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
    fd, peer = leaf.accept(listener.fileno())
    assert peer[0] == "127.0.0.1"
    assert leaf.local_address(fd)[0] == "127.0.0.1"
    leaf.close(fd)
    client.close()
    listener.close()


def test_the_kernel_stamps_what_arrives(leaf, tcp):
    listener, client = tcp
    fd, _ = leaf.accept(listener.fileno())
    before = leaf.realtime_ns()
    client.send(b"x")
    select.select([fd], [], [], 5)
    data, stamp = leaf.recv_stamped(fd, 10)
    assert data == b"x"
    assert stamp == 0 or before - 10_000_000 < stamp < leaf.realtime_ns() + 10_000_000
    assert leaf.recv_stamped(fd, 10) == (None, 0)
    leaf.close(fd)


def test_queue_lengths_are_told(leaf, tcp):
    listener, client = tcp
    fd, _ = leaf.accept(listener.fileno())
    client.send(b"12345")
    select.select([fd], [], [], 5)
    assert leaf.unread(fd) == 5
    assert leaf.unacked(fd) == 0
    assert leaf.unread(9999) == -1
    assert leaf.tcp_info(listener.fileno())[3] >= 1
    assert leaf.tcp_info(9999) is None
    leaf.close(fd)


def test_epoll_tells_what_is_ready(leaf, pair):
    left, right = pair
    poll = leaf.Epoll()
    poll.add(left.fileno(), 1)
    assert poll.wait(0) == 0
    right.send(b"x")
    assert poll.wait(1000) == 1
    poll.modify(left.fileno(), 4)
    assert poll.wait(1000) == 1
    poll.remove(left.fileno())
    assert poll.wait(0) == 0
    with pytest.raises(OSError):
        poll.add(9999, 1)


def test_find_is_an_offset_or_minus_one(leaf):
    assert leaf.find(b"abcabc", b"ca", 0) == 2
    assert leaf.find(b"abcabc", b"a", 1) == 3
    assert leaf.find(b"abc", b"x", 0) == -1
    assert leaf.find(b"abc", b"a", 9) == -1


def test_fields_become_one_block_and_bad_bytes_none_at_all(leaf):
    names = bytes(1 if 32 < c < 127 and c != 58 else 0 for c in range(256))
    values = bytes(1 if c == 9 or (c >= 32 and c != 127) else 0 for c in range(256))
    join = lambda fields: leaf.fields_joined(fields, names, values)  # noqa: E731
    assert join([]) == b""
    assert join([(b"a", b""), (b"bc", b"d\te \xff")]) == b"a: \r\nbc: d\te \xff\r\n"
    assert join([(b"", b"x")]) is None
    assert join([(b"a b", b"x")]) is None
    for size in range(1, 20):
        for at in range(size):
            for bad in (0, 10, 13, 31, 127):
                value = bytearray(b"x" * size)
                value[at] = bad
                assert join([(b"a", bytes(value))]) is None, (size, at, bad)
            for good in (9, 32, 126, 128, 255):
                value[at] = good
                assert join([(b"a", bytes(value))]) == b"a: " + value + b"\r\n"


def test_only_asks_a_table(leaf):
    table = bytes(1 if c in b"abc" else 0 for c in range(256))
    assert leaf.only(b"abcabc", table)
    assert leaf.only(b"", table)
    assert not leaf.only(b"abxc", table)


def test_clocks_go_forward(leaf):
    assert 0 < leaf.monotonic_ns() <= leaf.monotonic_ns()
    assert leaf.realtime_ns() > 1_700_000_000_000_000_000


def test_pieces_of_bytes_are_slices(leaf):
    data = b"Content-TYPE\xc9[@"
    for start in range(18):
        for end in range(18):
            assert leaf.piece(data, start, end) == data[start:end]
            assert leaf.lower(data, start, end) == data[start:end].lower()


def test_joined_is_join_and_takes_only_bytes(leaf):
    assert leaf.joined([]) == b""
    assert leaf.joined([b"a", b"", b"bc" * 500, b"\0"]) == b"a" + b"bc" * 500 + b"\0"
    for wrong in ("a", None, 1):
        with pytest.raises(TypeError):
            leaf.joined([b"a", wrong])


@pytest.mark.parametrize("number", [0, 1, 9, 10, 15, 16, 99, 255, 256, 4095, 10**9, 2**62, 2**63 - 1])
def test_numbers_are_written_in_digits(leaf, number):
    assert leaf.decimal(number) == b"%d" % number
    assert leaf.hexadecimal(number) == b"%x" % number


def test_a_negative_number_is_not_written(leaf):
    for write in (leaf.decimal, leaf.hexadecimal):
        with pytest.raises(ValueError):
            write(-1)


KEYS = [0, 1, 0x01020304, 0xFFFFFFFF, 0x80000000]


@pytest.mark.parametrize("key", KEYS)
def test_masking_is_xor_from_any_phase(leaf, key):
    four = key.to_bytes(4, "big")
    data = bytes(range(200))
    for start, end in [(0, 0), (0, 1), (3, 7), (5, 200), (1, 10), (0, 199)]:
        for phase in range(4):
            want = bytes(c ^ four[(i + phase) & 3] for i, c in enumerate(data[start:end]))
            assert leaf.masked(data, start, end, key, phase) == want


@pytest.mark.parametrize("where", [(-1, 3), (2, 1), (0, 11)])
def test_masking_stays_inside_the_data(leaf, where):
    with pytest.raises(ValueError):
        leaf.masked(b"0123456789", *where, 7, 0)
    with pytest.raises(ValueError):
        leaf.masked_text(b"0123456789", *where, 7)


@pytest.mark.parametrize("text", ["", "a", "κόσμε", "x" * 3000, "\U0010ffff" * 700])
def test_masked_text_is_decoded(leaf, text):
    data = b"head" + leaf.masked(text.encode(), 0, len(text.encode()), 0xA1B2C3D4, 0)
    assert leaf.masked_text(data, 4, len(data), 0xA1B2C3D4) == text
    broken = data[:4] + leaf.masked(b"\xc3", 0, 1, 0xA1B2C3D4, 0)
    assert leaf.masked_text(broken, 4, 5, 0xA1B2C3D4) is None


def test_utf8_is_checked_piece_by_piece_as_the_decoder_does_it(leaf):
    whole = "aé\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff".encode() * 3 + b"plain ascii for eight bytes"
    for cut in range(len(whole)):
        assert leaf.utf8(whole[cut:], leaf.utf8(whole[:cut], 0)) == 0
    samples = [bytes([a, b]) for a in range(256) for b in range(0, 256, 3)]
    samples += [bytes([a, b, c]) for a in range(0xE0, 0x100) for b in range(0x7E, 0xC2) for c in (0x41, 0x80, 0xBF, 0xC0)]
    samples += [bytes([a, b, 0x80, 0x80]) for a in range(0xF0, 0x100) for b in range(0x7E, 0xC2)]
    for sample in samples:
        try:
            sample.decode()
            want = 0
        except UnicodeDecodeError as error:
            want = 1 if error.reason == "unexpected end of data" else -1
        got = leaf.utf8(sample, 0)
        assert (got > 0) == (want == 1) and (got < 0) == (want == -1), sample


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_frame_has_the_shortest_length(leaf, size):
    payload = b"ab" * (size // 2) + b"c" * (size % 2)
    head = {0: 2, 1: 2, 125: 2, 126: 4, 65535: 4, 65536: 10}[size]
    plain = leaf.frame(0x82, payload, -1)
    assert plain[:1] == b"\x82" and plain[head:] == payload
    assert plain[1] == {2: size, 4: 126, 10: 127}[head]
    assert head == 2 or int.from_bytes(plain[2:head], "big") == size
    hidden = leaf.frame(0x81, payload, 0xFEDCBA98)
    assert hidden[1] == plain[1] | 0x80 and hidden[head : head + 4] == b"\xfe\xdc\xba\x98"
    assert leaf.masked(hidden, head + 4, len(hidden), 0xFEDCBA98, 0) == payload
    assert leaf.frame_text(0x81, payload.decode(), 0xFEDCBA98) == hidden


def test_text_frames_are_utf8_and_no_surrogate_leaves(leaf):
    assert leaf.frame_text(0x81, "é", -1) == b"\x81\x02\xc3\xa9"
    with pytest.raises(UnicodeEncodeError):
        leaf.frame_text(0x81, "\ud800", -1)


def test_a_value_ends_at_the_first_byte_that_may_not_be_in_one(leaf):
    for size in range(20):
        for bad in (0, 8, 10, 13, 31, 127):
            for at in range(size):
                data = b"x" * at + bytes([bad]) + b"\r\ny" * size
                assert leaf.value_stop(data, 0, at + size) == at, (size, bad, at)
        for good in (9, 32, 126, 128, 255):
            assert leaf.value_stop(bytes([good]) * size, 0, size) == size
        assert leaf.value_stop(b"\t\xff ~\t!" * size + b"\n", size, size * 6 + 1) == size * 6


def test_a_piece_of_bytes_is_compared_where_it_stands(leaf):
    assert leaf.stands(b"abcdef", 2, 4, b"cd")
    assert leaf.stands(b"abcdef", 2, 2, b"")
    assert not leaf.stands(b"abcdef", 2, 4, b"ce")
    assert not leaf.stands(b"abcdef", 2, 5, b"cd")


def test_two_pieces_of_bytes_are_compared_and_neither_is_left(leaf):
    assert leaf.alike(b"abcdef", 2, 6, b"xcdx", 1, 2) and leaf.alike(b"ab", 0, 2, b"ab", 0, 2)
    assert leaf.alike(b"", 0, 0, b"", 0, 0)
    assert not leaf.alike(b"abcdef", 2, 6, b"xcex", 1, 2)
    outside = [(2, 3, 1, 2), (5, 7, 1, 1), (-1, 3, 0, 1), (0, 3, -1, 1), (0, 3, 0, -1), (0, 3, 3, 2), (0, 3, 9, 0)]
    for at, end, start, size in outside:
        assert not leaf.alike(b"abcdef", at, end, b"abcd", start, size)


def test_a_head_is_written_from_the_positions_of_its_fields(leaf):
    data = b"junk\r\nX-A: 1\r\nLONGER-name:\tv \t\r\nGone: x\r\nempty:\r\n"
    marks = [6, 9, 11, 12, 65535, 14, 25, 27, 28, 5, 32, 36, 38, 39, 7, 41, 46, 47, 47, 65535]
    numbers = bytearray(1024)
    numbers[7] = 3

    def write(drop, tail=b"", length=-1, marks=marks, body=b""):
        pieces = [b"G ", b"/", b" V\r\n", b"b: 1\r\n", b"via: ", tail, b"m: 2\r\n", body]
        return leaf.head_of(data, marks, bytes(numbers), drop, pieces, length)

    assert write(0, b"t", 10) == (
        b"G / V\r\nb: 1\r\nx-a: 1\r\nlonger-name: v\r\ngone: x\r\nempty: \r\nvia: t\r\ncontent-length: 10\r\nm: 2\r\n\r\n"
    )
    assert b"gone" not in write(1 << 3) and b"content-length" not in write(1 << 3)
    assert b"longer-name" in write(1 << 3)
    assert write(0, b"a\r\nb: c") is None
    assert write(0, b"t", 0, []) == b"G / V\r\nb: 1\r\nvia: t\r\ncontent-length: 0\r\nm: 2\r\n\r\n"
    assert write(0, b"t", 3, [], b"abc") == b"G / V\r\nb: 1\r\nvia: t\r\ncontent-length: 3\r\nm: 2\r\n\r\nabc"
    assert b"content-length: 9223372036854775807\r\n" in write(0, b"t", (1 << 63) - 1)


def test_names_of_any_length_become_lower_case(leaf):
    for size in range(1, 40):
        name = (b"@AZ[`az{-09" * 4)[:size]
        data = name + b": v"
        said = leaf.head_of(data, [0, size, size + 2, size + 3, 65535], bytes(1024), 0, [b""] * 8, -1)
        assert said == name.lower() + b": v\r\n\r\n"


@pytest.mark.skipif(_fast is None, reason="not compiled")
@given(
    st.tuples(*(st.integers(0, most) for most in (255, 255, 65535, 2**32 - 1, 2**63 - 1))),
    st.none() | st.lists(st.binary(max_size=40), max_size=6),
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=6),
    st.binary(max_size=50),
)
def test_frames_are_the_same_and_are_read_as_they_were_written(head, parts, fields, body):
    fields = None if parts is None else fields
    made = _plain.hop_frame(*head, parts, fields, body)
    assert made == _fast.hop_frame(*head, parts, fields, body)
    if parts is not None:
        end = len(made) - len(body)
        assert _fast.hop_block(made, 24, end) == _plain.hop_block(made, 24, end) == (parts, fields)


@pytest.mark.skipif(_fast is None, reason="not compiled")
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8), st.integers(0, 64))
def test_numbers_are_the_same_bytes(eight, size):
    assert _fast.numbers(*eight, size) == _plain.numbers(*eight, size)


@pytest.mark.skipif(_fast is None, reason="not compiled")
@given(st.binary(max_size=60), st.integers(-2, 10), st.integers(-2, 70))
def test_blocks_that_are_none_are_refused_alike(data, start, end):
    assert _fast.hop_block(data, start, end) == _plain.hop_block(data, start, end)


def test_of_two_that_swap_a_word_one_succeeds(leaf, tmp_path):
    with open(tmp_path / "lock", "wb") as lock:
        memory = bytearray(24)
        words = leaf.Words(memory, lock.fileno())
        words.store(1, 5)
        assert words.count == 3 and (words.load(0), words.load(1)) == (0, 5)
        assert words.swap(1, 5, -6) and not words.swap(1, 5, 7)
        assert words.load(1) == -6 and memory[8:16] == (-6).to_bytes(8, "little", signed=True)
        for bad in (-1, 3):
            with pytest.raises(IndexError):
                words.load(bad)
            with pytest.raises(IndexError):
                words.store(bad, 1)
            with pytest.raises(IndexError):
                words.swap(bad, 0, 1)


def test_a_word_is_swapped_once_by_processes_that_race(leaf, tmp_path):
    path = tmp_path / "words"
    path.write_bytes(bytes(8 * 2000))
    children = []
    for mark in (1, 2):
        pid = os.fork()
        if pid == 0:
            won = 0
            with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                words = leaf.Words(memory, file.fileno())
                for i in range(2000):
                    won += words.swap(i, 0, mark)
                (tmp_path / f"won{mark}").write_text(str(won))
                os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert sum(int((tmp_path / f"won{mark}").read_text()) for mark in (1, 2)) == 2000


def test_a_known_name_is_told_in_any_case(leaf):
    names = b"".join([name.ljust(32, b"\0") for name in (b"x-a", b"content-length", b"a" * 32)])
    assert leaf.name_is(b"..X-a:", 2, 3, names, 0)
    assert leaf.name_is(b"cOntent-Length", 0, 14, names, 1)
    assert leaf.name_is(b"A" * 32, 0, 32, names, 2)
    for at in range(14):
        other = bytearray(b"content-length")
        other[at] ^= 1
        assert not leaf.name_is(bytes(other), 0, 14, names, 1)
    assert not leaf.name_is(b"content_length", 0, 14, names, 1)
