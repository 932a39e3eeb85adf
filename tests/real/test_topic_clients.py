"""Our clients of topics, in Python, on the command line and in Chromium, on a real server that is killed and started again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from browser import Browser
from peers import Real
from processes import Process, accepts, eventually

from fairlead.client import Client, Gap, ServerError

PAGE = """<!doctype html><title>topics</title><script type="module">
import { Topics, TopicError } from "/t/$client.js";
window.Topics = Topics; window.TopicError = TopicError; window.heard = {}; window.states = []; window.gaps = []; window.ended = [];
window.join = (topics, name, after) => topics.follow(name, {
  after,
  event: (e) => (heard[name] ??= []).push(e.data),
  gap: (g) => gaps.push(g), end: (why) => ended.push([name, why]), state: (s) => states.push([name, s]),
  error: (e) => ended.push([name, e.status]),
});
window.ready = true;
</script>"""
FILE = f"""
[server]
workers = 2
grace = "1s"
pattern = "shared"
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "sqlite:///@FOLDER@/store.db"
[[route]]
path = "/t/{{topic}}"
topic = {{}}
[[route]]
path = "/few/{{topic}}"
topic = {{ max = 3 }}
[[route]]
path = "/put/{{topic}}"
topic = {{ create = "put" }}
[[route]]
path = "/own/*"
topic = {{ name = "own-name" }}
[[route]]
path = "/page"
[route.respond]
content_type = "text/html"
body = '''{PAGE}'''
"""

WAYS = ("websocket", "sse", "long-poll")


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """One server for all tests of this file; some of them kill it, and start it again on the same port and store."""
    with Real() as peers:
        started = peers.fairlead(config=FILE)
        started.says("Ctrl-C")
        yield started
        started.kill()  # at once: who follows would be waited for


@pytest.fixture(scope="module")
def page(server: Process) -> Iterator[Browser]:
    """One page for all tests of this file."""
    with Browser() as browser:
        browser.goto(f"{server.url}/page")
        browser.wait("window.ready")
        yield browser


def kill(server: Process) -> None:
    """All of it at once, by SIGKILL."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not accepts(server.port), what="the last worker is gone")


def again(server: Process) -> None:
    """Another one in its place. From the main thread: the kernel ends it with the thread that started it."""
    server.start()
    server.ready(60)


def command(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "fairlead", "topic", *words]
    return subprocess.run(argv, capture_output=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


# ---- Python


def test_whoever_follows_has_everything_once_when_the_whole_server_is_killed(server: Process, page: Browser) -> None:
    """Python by each way, many topics on one socket, the command line, and the page by EventSource and by WebSocket: one kill."""
    place = server.home / "place.txt"
    argv = [sys.executable, "-m", "fairlead", "topic", "follow", f"{server.url}/t/one", "--resume", str(place), "--limit"]
    follower = subprocess.Popen([*argv, "40"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    join(page)
    try:
        eventually(place.exists, what="the follower knows where it is")
        heard = asyncio.run(asyncio.wait_for(killed(server, page), 120))
        printed = follower.communicate(timeout=120)[0]
    finally:
        follower.kill()
        follower.wait()
    numbers = list(range(40))
    assert heard == {way: numbers for way in (*WAYS, "socket")}
    assert [int(line) for line in printed.split()] == numbers and follower.returncode == 0
    page.wait("heard.one.length >= 40 && heard.a.length >= 2 && heard.b.length >= 1", seconds=90)
    assert page.run("heard") == {"one": numbers, "a": [1, 2], "b": [3]} and page.run("gaps.length") == 0
    assert command("publish", f"{server.url}/t/one", "5").returncode == 0
    assert subprocess.run([*argv, "1"], capture_output=True, timeout=60).stdout == b"5\n"  # started again, it goes on there


async def killed(server: Process, page: Browser) -> dict[str, list[int]]:
    """Publish, kill, publish, start, publish; what each way of following heard."""
    heard: dict[str, list[int]] = {way: [] for way in (*WAYS, "socket")}
    losses: list[Exception] = []
    async with Client(f"{server.url}/t", patience=90) as client, client.socket() as socket:
        topic = client.topic("one")
        start = await topic.now()

        async def follow(way: str) -> None:
            async for event in topic.follow(start, by=way, on_loss=losses.append):
                heard[way].append(event.data)
                if len(heard[way]) == 40:
                    return

        async def follow_socket() -> None:
            await socket.follow("another")
            await socket.follow("one", start)
            async for event in socket:
                heard["socket"] += [event.data] if event.topic == "one" else []
                if len(heard["socket"]) == 40:
                    return

        async with asyncio.TaskGroup() as tasks:
            for way in WAYS:
                tasks.create_task(follow(way))
            tasks.create_task(follow_socket())
            for n in range(10):
                await topic.publish(n)
            while min(map(len, heard.values())) < 5:
                await asyncio.sleep(0.01)
            page.run('one.publish("one", 10)')
            page.run('many.publish("a", 1)')
            kill(server)
            page.run('window.late = Promise.all([many.publish("a", 2), many.publish("b", 3)]); 1')
            late = tasks.create_task(topic.publish(11))
            also = tasks.create_task(socket.publish("another", 1))
            await asyncio.sleep(0)
            again(server)
            await late
            await also
            await topic.producer("p").publish_many(range(12, 40))
            page.run("late")
    assert losses
    return heard


def test_claims_on_a_socket(server: Process) -> None:
    async def story() -> None:
        async with Client(f"{server.url}/t") as client, client.socket() as socket:
            await socket.publish("left", b"\0", content_type="application/octet-stream", key="k")
            claimed = await socket.ask({"claim": {"topic": "left", "group": "g", "after": "-1"}})
            assert claimed["items"][0]["base64"] == "AA=="
            await socket.follow("left", "-1")
            event = await anext(aiter(socket))
            assert event.data == b"\0" and event.key == "k"
            await socket.unfollow("left")
            with pytest.raises(ServerError, match="exactly one of"):
                await socket.ask({"dance": {}})

    asyncio.run(asyncio.wait_for(story(), 60))


def test_what_python_is_told_of_gaps_ends_and_refusals(server: Process) -> None:
    async def story() -> None:
        async with Client(f"{server.url}/few") as client:
            topic = client.topic("short")
            first = await topic.publish(0)
            await topic.publish_many(range(1, 6))
            while (await topic.read()).events[0].data < 3:  # the store trims when it comes to it
                await asyncio.sleep(0.05)
            for by in ("websocket", "sse", "long-poll"):
                gaps: list[Gap] = []
                with pytest.raises(Gap):
                    async for _ in topic.follow(first, by=by):
                        raise AssertionError("nothing is there before the gap")
                found = []
                async for event in topic.follow(first, by=by, on_gap=gaps.append):
                    found.append(event.data)
                    if event.data == 5:
                        break
                assert found == [3, 4, 5] and len(gaps) == 1
            await topic.close()
            for by in ("websocket", "sse", "long-poll"):
                assert [event.data async for event in topic.follow("-1", by=by, on_gap=gaps.append)] == [3, 4, 5]
            with pytest.raises(ServerError, match="409"):
                await topic.publish(6)
        async with Client(f"{server.url}/put") as client:
            with pytest.raises(ServerError, match="404"):
                await client.topic("absent").publish(1)
            with pytest.raises(ServerError, match="404"):
                async for _ in client.topic("absent").follow("-1"):
                    pass
            async with client.socket() as socket:
                with pytest.raises(ServerError, match="404"):
                    await socket.follow("absent")
        async with Client(f"{server.url}/own") as client:
            topic = client.topic()
            await topic.publish({"own": "url"})
            async for event in topic.follow("-1"):
                assert event.data == {"own": "url"} and event.topic == "own-name"
                break

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_group_shares_and_gives_back_what_is_not_settled(server: Process) -> None:
    async def story() -> None:
        async with Client(f"{server.url}/t") as client:
            topic = client.topic("work")
            await topic.publish_many(range(4))
            async for item in topic.group("g", after="-1").items(2):
                assert item.attempt == 1
                await (item.ack() if item.data == 0 else item.nack(reason="later"))
                if item.data == 1:
                    break
            done = []
            async for item in topic.group("g").items(2):
                await item.ack()
                done.append(item.data)
                with pytest.raises(ServerError, match="409"):
                    await item.ack()
                if len(done) == 3:
                    break
            assert sorted(done) == [1, 2, 3]

    asyncio.run(asyncio.wait_for(story(), 60))


# ---- the command line


def test_publish_read_and_follow_on_the_command_line(server: Process) -> None:
    url = f"{server.url}/t/cli"
    one = command("publish", url, '{"id": 1}', "--type", "paid", "--key", "k")
    assert one.returncode == 0 and not one.stderr
    lines = b"".join(b"%d\n" % n for n in range(2, 7))
    for _ in range(2):  # the same run again appends nothing
        done = command("publish", url, "--lines", "--producer", "p", "--epoch", "1", "--batch", "2", input=lines)
        assert done.returncode == 0 and done.stderr == b"5 events\n", done.stderr
    read = command("read", url, "--json")
    events = [json.loads(line) for line in read.stdout.splitlines()]
    assert [event["data"] for event in events] == [{"id": 1}, 2, 3, 4, 5, 6]
    assert events[0]["offset"] == one.stdout.decode().strip() and (events[0]["type"], events[0]["key"]) == ("paid", "k")
    some = command("read", url, "--after", events[1]["offset"], "--limit", "2")
    assert some.stdout == b"3\n4\n" and events[3]["offset"].encode() in some.stderr
    grouped = command("follow", url, "--group", "g", "--after", "-1", "--limit", "2")
    assert grouped.stdout == b'{"id":1}\n2\n' and grouped.returncode == 0
    text = f"{server.url}/t/cli-text"
    assert command("publish", text, "--content-type", "text/plain", "--close", input=b"a\nb\n").returncode == 0
    ended = command("follow", text, "--after", "-1", "--raw", "--by", "sse")
    assert (ended.returncode, ended.stdout) == (0, b"a\nb\n") and b"the topic has ended" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["publish", "URL/t/bad", "{"], 2, b"the event is not JSON"),
        (["publish", "nowhere", "1"], 2, b"not an absolute http or https URL"),
        (["publish", "URL/put/absent", "1"], 1, b"the server answered 404: there is no such topic"),
        (["read", "URL/t/bad", "--after", "x"], 1, b"not an offset"),
        (["read", "URL/t/bad", "-H", "x"], 2, b"not a header"),
        (["follow", "URL/t/bad", "--by", "pigeon"], 2, b'there is no --by "pigeon"'),
        (["read", "http://127.0.0.1:1/t", "--patience", "0"], 1, b"Connection refused"),
        (["publish", "URL/t/bad", "--lines", "1\n{\n"], 2, b"line 2 is not JSON"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(server: Process, words: list[str], code: int, says: bytes) -> None:
    done = command(*[word.replace("URL", server.url) for word in words])
    assert done.returncode == code and says in done.stderr, done.stderr
    assert done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


# ---- Chromium


def join(page: Browser) -> None:
    """One topic by EventSource, two by WebSocket."""
    page.run('window.one = new Topics("/t", { timeout: 90000 }); window.first = join(one, "one", "now"); 1')
    page.run('window.many = new Topics("/t", { timeout: 90000 }); join(many, "a", "-1"); join(many, "b", "-1"); 1')
    page.wait('states.filter(([, s]) => s === "open").length >= 3')
    assert page.run("first.via") == "eventsource" and page.run('many.followed.get("a").via') == "websocket"


def test_from_the_second_topic_on_a_page_has_one_socket_and_goes_on_where_it_was(server: Process, page: Browser) -> None:
    page.run('window.two = new Topics("/t"); window.first = join(two, "js-one", "now"); 1')
    page.wait('first.state === "open"')
    said = page.run('two.publish("js-one", [0], { type: "typed", key: "k" })')
    page.wait('heard["js-one"]?.length === 1')
    assert page.run("first.via") == "eventsource" and page.run("first.offset") == said["offset"]
    page.run('join(two, "js-two", "-1"); 1')
    page.wait('first.via === "websocket"')
    page.run('Promise.all([two.publish("js-one", 1), two.publish("js-two", 2)])')
    page.wait('heard["js-one"].length === 2 && heard["js-two"]?.length === 1')
    assert page.run('[heard["js-one"], heard["js-two"]]') == [[[0], 1], [2]]
    page.run("first.stop(); two.close()")


def test_a_page_is_told_of_gaps_ends_and_refusals(server: Process, page: Browser) -> None:
    first = httpx.post(f"{server.url}/few/js", json=[0], timeout=60).headers["stream-next-offset"]
    httpx.post(f"{server.url}/few/js", json=[1, 2, 3, 4], timeout=60)
    kept = f"{server.url}/few/js?offset=-1"
    eventually(lambda: httpx.get(kept, timeout=60).json() == [2, 3, 4], what="the store trims the topic")
    for via in ("eventsource", "websocket"):
        page.run(f'heard = {{}}; gaps = []; window.few = new Topics("/few", {{ via: "{via}" }}); join(few, "js", "{first}"); 1')
        page.wait("heard.js?.length === 3 && gaps.length === 1")
        assert page.run("heard.js") == [2, 3, 4] and page.run("gaps[0].earliest") > first
        page.run("few.close()")
    httpx.post(f"{server.url}/few/js", headers={"stream-closed": "true"}, timeout=60)
    page.run('ended = []; window.few = new Topics("/few"); join(few, "js", "-1"); 1')
    page.run('window.put = new Topics("/put", { via: "websocket" }); join(put, "absent", "-1"); 1')
    page.run('window.lone = new Topics("/put"); join(lone, "absent-too", "-1"); 1')
    page.wait("ended.length === 3")
    assert sorted(page.run("ended")) == [["absent", 404], ["absent-too", 404], ["js", "closed"]]
    refused = page.run('put.publish("absent", 1).catch((e) => [e.name, e.status])')
    assert refused == ["TopicError", 404]
    assert page.run('lone.read("absent-too").catch((e) => e.status)') == 404
