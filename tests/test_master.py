"""What the master is made of: the control channel, the book of sockets, the sockets themselves, changed files."""

import asyncio
import os
import socket
import sys

import pytest

from fairlead.core.errors import NetError
from fairlead.run import config as c
from fairlead.run import plan as plans
from fairlead.run import sockets
from fairlead.run.channel import Channel
from fairlead.run.fresh import Files
from fairlead.run.holder import Holder
from fairlead.run.load import loads
from fairlead.run.role import Role
from fairlead.run.tickets import Tickets
from fairlead.run.units import Address

OPTIONS = c.Socket()


def plan(*binds: str, workers: int = 2, name: str = "web") -> plans.Plan:
    shown = ", ".join(f'"{bind}"' for bind in binds)
    server = f'[server]\npattern = "reuseport"\nworkers = {workers}\n'
    text = f'{server}[[listener]]\nname = "{name}"\nbind = [{shown}]\n[[route]]\nrespond = 404\n'
    return plans.make(loads(text, "fairlead.toml"))


@pytest.fixture
def holder():
    book = Holder()
    yield book
    book.close()


def ends() -> tuple[Channel, Channel]:
    ours, theirs = Channel.pair()
    return ours, Channel(theirs)


# ---- the channel


def test_messages_arrive_whole_and_in_order():
    ours, theirs = ends()
    for number in range(50):
        ours.say("count", number=number, text="x" * number * 10)
    assert [theirs.read()[1]["number"] for _ in range(50)] == list(range(50))


def test_descriptors_arrive_with_their_own_message():
    ours, theirs = ends()
    first, second = socket.socketpair()
    ours.say("none")
    ours.say("one", [first.fileno()])
    ours.say("two", [first.fileno(), second.fileno()])
    assert [len(theirs.read()[2]) for _ in range(3)] == [0, 1, 2]


def test_a_message_larger_than_the_socket_takes_arrives_once_the_other_end_reads():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends()
        heard = loop.create_future()
        ours.watch(loop, lambda *message: None, lambda: None)
        ours.say("large", data=b"x" * 5_000_000)
        assert ours.waiting
        theirs.watch(loop, lambda word, values, fds: heard.set_result(len(values["data"])), lambda: None)
        assert await asyncio.wait_for(heard, 20) == 5_000_000

    asyncio.run(main())


def test_the_end_of_the_other_side_is_heard_after_its_last_message():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends()
        said, over = [], loop.create_future()
        theirs.say("last")
        theirs.close()
        ours.watch(loop, lambda word, values, fds: said.append(word), lambda: over.set_result(list(said)))
        assert await asyncio.wait_for(over, 20) == ["last"]

    asyncio.run(main())


def test_speaking_to_nobody_raises_nothing():
    ours, theirs = ends()
    theirs.close()
    ours.say("anybody")
    with pytest.raises(EOFError):
        ours.read()


# ---- questions to a role


async def asked(*questions: str, timeout: float = 30.0):
    """A role, its process's end of the channel, and its questions, which have been said."""
    role = Role(0, 0, 1)
    role.channel, theirs = ends()
    role.channel.watch(asyncio.get_running_loop(), role.heard, role.cut)
    tasks = [asyncio.create_task(role.ask(word, timeout=timeout, of=n)) for n, word in enumerate(questions)]
    await asyncio.sleep(0)
    return role, theirs, tasks


def test_questions_of_one_word_are_answered_each_in_whatever_order():
    async def main():
        role, theirs, tasks = await asked("jobs", "topics", "jobs", "jobs")
        heard = [theirs.read() for _ in tasks]
        for word, values, _ in reversed(heard):
            theirs.say(word, question=values["question"], of=values["of"])
        assert [answer["of"] for answer in await asyncio.gather(*tasks)] == [0, 1, 2, 3] and not role.asked

    asyncio.run(main())


def test_an_answer_that_comes_too_late_is_taken_for_no_other():
    async def main():
        role, theirs, [late] = await asked("jobs", timeout=0)
        with pytest.raises(TimeoutError):
            await late
        second = asyncio.create_task(role.ask("jobs", of=1))
        await asyncio.sleep(0)
        for word, values, _ in (theirs.read(), theirs.read()):
            theirs.say(word, question=values["question"], of=values["of"])
        assert (await second)["of"] == 1

    asyncio.run(main())


def test_all_who_wait_for_an_answer_hear_that_the_role_is_gone():
    async def main():
        role, theirs, tasks = await asked("jobs", "jobs")
        theirs.close()
        assert all(isinstance(end, EOFError) for end in await asyncio.gather(*tasks, return_exceptions=True))
        with pytest.raises(EOFError):
            await role.ask("jobs")

    asyncio.run(main())


# ---- the book of sockets


def test_reuseport_opens_one_socket_per_worker_on_the_same_port(holder):
    holder.open(plan("127.0.0.1:0", workers=3))
    (held,) = holder.held.values()
    assert len({sock.getsockname() for sock in held.socks}) == 1 and len(held.socks) == 3


def test_more_workers_add_sockets_and_fewer_close_none(holder):
    holder.open(plan("127.0.0.1:0", workers=1))
    (held,) = holder.held.values()
    first = held.socks[0].fileno()
    for workers, sockets_open in ((3, 3), (2, 3)):
        new = plan("127.0.0.1:0", workers=workers)
        holder.prepare(new)
        holder.settle(new)
        assert len(held.socks) == sockets_open and held.socks[0].fileno() == first
    _, all_of = zip(*(holder.share(new, index) for index in range(2)))
    assert sum(len(fds) for fds in all_of) == 3


def test_what_was_opened_for_a_plan_that_is_not_served_is_closed_again(holder, tmp_path):
    holder.open(plan("127.0.0.1:0"))
    path = tmp_path / "new.sock"
    added = holder.prepare(plan("127.0.0.1:0", f"unix:{path}"))
    assert path.exists()
    holder.forget(added)
    assert not path.exists() and len(holder.held) == 1


def test_an_address_that_cannot_be_bound_leaves_the_others_as_they_were(holder, tmp_path):
    holder.open(plan("127.0.0.1:0"))
    with pytest.raises(NetError):
        holder.prepare(plan("127.0.0.1:0", f"unix:{tmp_path}/a.sock", f"unix:{tmp_path}/none/b.sock"))
    assert len(holder.held) == 1 and not (tmp_path / "a.sock").exists()


def test_an_address_that_is_no_longer_served_is_closed(holder, tmp_path):
    holder.open(plan("127.0.0.1:0", f"unix:{tmp_path}/a.sock"))
    holder.settle(plan("127.0.0.1:0"))
    assert not (tmp_path / "a.sock").exists() and len(holder.bound()) == 1


# ---- the sockets


def test_a_taken_port_is_refused_and_its_holder_named_even_with_reuseport():
    (first,) = sockets.open_all(Address("127.0.0.1", 0), 1, 8, OPTIONS)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    with first, pytest.raises(NetError, match=rf"taken by .*\(pid {os.getpid()}\)"):
        sockets.open_all(Address("127.0.0.1", first.getsockname()[1]), 2, 8, OPTIONS)


def test_an_address_of_another_machine_says_so():
    with pytest.raises(NetError, match="does not have the address"):
        sockets.open_all(Address("192.0.2.1", 0), 1, 8, OPTIONS)


def test_a_name_that_does_not_resolve_says_so():
    with pytest.raises(NetError, match=r"cannot bind no\.such\.name\.invalid"):
        sockets.open_all(Address("no.such.name.invalid", 1), 1, 8, OPTIONS)


def test_accepted_connections_inherit_the_options():
    options = c.Socket(nodelay=True, keepalive=7.0, rcvbuf=65536)
    (sock,) = sockets.open_all(Address("127.0.0.1", 0), 1, 8, options)
    sock.setblocking(True)
    with sock, socket.create_connection(sock.getsockname()):
        taken, _ = sock.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 65536


def test_an_unknown_congestion_control_is_named():
    with pytest.raises(NetError, match="congestion control none-such"):
        sockets.open_all(Address("127.0.0.1", 0), 1, 8, c.Socket(congestion="none-such"))


def test_ipv4_and_ipv6_can_have_the_same_port():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    (four,) = sockets.open_all(Address("0.0.0.0", 0), 1, 8, OPTIONS)
    with four:
        (six,) = sockets.open_all(Address("::", four.getsockname()[1]), 1, 8, OPTIONS)
        with six:
            assert six.getsockname()[1] == four.getsockname()[1]


def test_the_accept_queue_is_seen():
    (sock,) = sockets.open_all(Address("127.0.0.1", 0), 1, 8, OPTIONS)
    with sock, socket.create_connection(sock.getsockname()), socket.create_connection(sock.getsockname()):
        assert sockets.queue_depth(sock) == (2, 8)


def test_a_unix_socket_that_answers_is_not_taken_away(tmp_path):
    address = Address("", 0, str(tmp_path / "a.sock"))
    with sockets.open_unix(address, 8), pytest.raises(NetError, match="another process listens"):
        sockets.open_unix(address, 8)
    again = sockets.open_unix(address, 8, 0o600)
    with again:
        assert os.stat(address.path).st_mode & 0o777 == 0o600
        made = sockets.identity(again)
    os.rename(address.path, tmp_path / "moved.sock")
    (tmp_path / "a.sock").write_text("")
    sockets.unlink(address.path, made)
    assert (tmp_path / "a.sock").exists(), "only what we made is removed"


def test_a_file_in_the_way_of_a_unix_socket_is_left_alone(tmp_path):
    (tmp_path / "a.sock").write_text("precious")
    with pytest.raises(NetError, match="a file is in the way"):
        sockets.open_unix(Address("", 0, str(tmp_path / "a.sock")), 8)
    assert (tmp_path / "a.sock").read_text() == "precious"


# ---- changed files


def test_a_changed_a_new_and_a_removed_file_are_seen_once(tmp_path):
    (tmp_path / "a.py").write_text("1")
    files = Files([str(tmp_path)])
    assert files.changed() == ""
    os.utime(tmp_path / "a.py", (1, 1))
    assert files.changed().endswith("a.py") and files.changed() == ""
    (tmp_path / "b.py").write_text("")
    assert files.changed().endswith("b.py")
    (tmp_path / "b.py").unlink()
    (tmp_path / "notes.txt").write_text("")
    assert files.changed().endswith("b.py") and files.changed() == ""


@pytest.mark.parametrize("watcher", ["watchfiles", "the files' times"])
def test_a_change_is_told_while_one_waits_for_it(tmp_path, monkeypatch, watcher):
    if watcher == "watchfiles":
        pytest.importorskip("watchfiles")
    else:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    source = tmp_path / "src" / "a.py"
    source.parent.mkdir()
    source.write_text("1")
    files = Files([str(tmp_path)])

    async def first():
        changes = files.changes()
        told = asyncio.ensure_future(anext(changes))
        number = 1
        while not told.done():  # again and again: when a watcher begins to watch is its own business
            number += 1
            os.utime(source, (number, number))
            await asyncio.wait([told], timeout=0.05)
        await changes.aclose()
        return told.result()

    assert asyncio.run(asyncio.wait_for(first(), 30)).endswith("a.py")


def test_hidden_and_built_files_are_not_minded(tmp_path):
    files = Files([str(tmp_path)])
    for name in ("a.py", "shop/b.pyi", ".env", "shop/prod.env"):
        assert files.minded(None, str(tmp_path / name)), name
    for name in ("a.txt", ".git/a.py", "shop/.cache/a.py", "node_modules/x/a.py", "shop/__pycache__/a.py"):
        assert not files.minded(None, str(tmp_path / name)), name


# ---- the keys of session tickets


class FakeLoop:
    """call_later by hand."""

    def __init__(self):
        self.calls = []

    def call_later(self, delay, callback, *args):
        handle = asyncio.Handle(callback, args, self)
        self.calls.append((delay, handle))
        return handle

    def get_debug(self):
        return False

    def pass_time(self):
        due, self.calls = [one for one in self.calls if not one[1].cancelled()], []
        for _, handle in due:
            handle._run()
        return [delay for delay, _ in due]


def test_a_ticket_key_seals_for_one_period_and_opens_for_two():
    told, loop = [], FakeLoop()
    tickets = Tickets(told.append)
    first = tickets.keys[0]
    tickets.turn(loop, 60.0)
    assert loop.pass_time() == [60.0]
    second = tickets.keys[0]
    assert told == [[second, first]] and second != first and len(second) == 80
    assert loop.pass_time() == [60.0]
    assert told[1] == [tickets.keys[0], second] and first not in told[1]


def test_a_reload_with_the_same_period_leaves_the_clock_running_and_zero_stops_it():
    told, loop = [], FakeLoop()
    tickets = Tickets(told.append)
    tickets.turn(loop, 60.0)
    tickets.turn(loop, 60.0)
    assert len(loop.calls) == 1
    tickets.turn(loop, 5.0)
    assert loop.pass_time() == [5.0]
    tickets.turn(loop, 0.0)
    assert loop.pass_time() == [] and len(told) == 1
