"""`fairlead topic publish | read | follow`: topics of a running server, by its URL, with the client that programs use too.

Rules
1. URL is the topic's own, such as https://shop.example/events/orders.
2. What is printed is the events and nothing else: the data, one event a line (`--json`: with offset, type, key and time; `--raw`:
   the bytes as they are, nothing between). Everything said about them goes to standard error.
3. A publish is repeated while the server is away (`--patience`), and appended once. `follow` comes back for ever, from where it
   was, and with `--resume FILE` also when it is started again.
4. Exit codes: 0 done (`follow`: the topic has ended, or `--limit` events came), 1 it could not be done, or events were missing and
   `--strict` was given, 2 the command is wrong, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from fairlead.client import Client, Event, Gap, Producer, Topic
from fairlead.client.topics import WAYS
from fairlead.client.words import JSON
from fairlead.core.errors import ConfigError, FairleadError

EXAMPLES = """examples:
  fairlead topic publish http://127.0.0.1:8000/events/orders '{"id": 1}' --type paid
  fairlead topic read http://127.0.0.1:8000/events/orders --json
  fairlead topic follow http://127.0.0.1:8000/events/orders --after -1
"""
PUBLISH = """examples:
  fairlead topic publish URL '{"id": 1}' --type paid --key 1
  fairlead topic publish URL --text 'it is done'          a text as a JSON string
  tail -f app.log | fairlead topic publish URL --lines --content-type text/plain
  fairlead topic publish URL --lines --producer import --epoch 7 < rows.ndjson    the same run again appends nothing twice
"""
READ = """examples:
  fairlead topic read URL                       all that is kept
  fairlead topic read URL --after OFFSET --limit 10 --json
"""
FOLLOW = """examples:
  fairlead topic follow URL                     what comes
  fairlead topic follow URL --after -1 --json   all there is, and what comes
  fairlead topic follow URL --resume place.txt  go on where the last run stopped
  fairlead topic follow URL --group mail        share the events with others of the group; printed is acknowledged
"""
LINES = 500  # of one request
Run = Callable[[argparse.Namespace], int]


def register(subparsers: Any) -> None:
    """Add `topic` to the command line."""
    topic = subparsers.add_parser(
        "topic", help="publish to, read or follow a topic of a server", description="Topics of a running server.", epilog=EXAMPLES
    )
    verbs = topic.add_subparsers(metavar="VERB", required=True, parser_class=mixed(type(topic)))
    publish = verb(verbs, "publish", "append events", publish_, PUBLISH)
    publish.add_argument("data", nargs="?", help="the event; - or nothing: standard input")
    publish.add_argument("--lines", action="store_true", help="each line of standard input (or of DATA) is an event")
    publish.add_argument("--text", action="store_true", help="what is given is a text, sent as a JSON string")
    publish.add_argument("--content-type", default=JSON, metavar="TYPE", help=f"of the topic (default: {JSON})")
    publish.add_argument("--type", default="", help="the events' type")
    publish.add_argument("--key", default="", help="what the events are about (compaction keeps the last of each key)")
    publish.add_argument("--dedupe", metavar="TEXT", help="count once under this text, also when it is sent again later")
    publish.add_argument("--producer", metavar="ID", help="number what is sent, so that the same run again appends nothing twice")
    publish.add_argument("--epoch", type=whole, help="of the producer (default: the time, which shuts earlier runs out)")
    publish.add_argument("--batch", type=whole, default=LINES, metavar="N", help=f"lines of one request (default: {LINES})")
    publish.add_argument("--close", action="store_true", help="these are the topic's last events")
    read = verb(verbs, "read", "print what is there", read_, READ)
    read.add_argument("--after", default="-1", metavar="OFFSET", help="from where (default: -1, the start)")
    shown(read)
    follow = verb(verbs, "follow", "print what comes", follow_, FOLLOW)
    follow.add_argument("--after", metavar="OFFSET", help="from where: an offset, -1 for all, now (default)")
    follow.add_argument("--by", choices=WAYS, default="auto", help="how (default: auto, a WebSocket or else long polls)")
    follow.add_argument("--resume", metavar="FILE", help="keep the place there, and begin there")
    follow.add_argument("--group", metavar="NAME", help="share the events with the others of this group")
    follow.add_argument("--strict", action="store_true", help="stop with 1 when events are missing")
    shown(follow)


def mixed(parser: Any) -> Any:
    """A parser that takes options between URL and DATA too; argparse by itself gives an optional word up at the first option."""

    class Mixed(parser):  # type: ignore[misc]
        within = False

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            if self.within:
                return super().parse_known_args(args, namespace)
            self.within = True
            try:
                return self.parse_known_intermixed_args(args, namespace)
            finally:
                self.within = False

    return Mixed


def verb(verbs: Any, name: str, text: str, run: Run, examples: str) -> Any:
    """One verb with the options that all of them have."""
    parser = verbs.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("url", metavar="URL", help="the topic's URL, such as http://127.0.0.1:8000/events/orders")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="say this too")
    parser.add_argument("--bearer", metavar="FILE", help="a file with a token for Authorization (default: FAIRLEAD_BEARER has it)")
    parser.add_argument("--ca", metavar="FILE", help="trust this certificate authority (PEM) instead of the system's")
    parser.add_argument("--patience", type=seconds, default=30.0, metavar="SECONDS", help="how long to try (default: 30)")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)
    return parser


def shown(parser: Any) -> None:
    """How events are printed."""
    parser.add_argument("--limit", type=whole, metavar="N", help="stop after so many events")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="each with its offset, type, key and time, as a line of JSON")
    how.add_argument("--raw", action="store_true", help="the bytes as they are, nothing between")


def whole(text: str) -> int:
    """A whole number from 1 on (an epoch may be 0)."""
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return value


# ---- the verbs


def publish_(args: argparse.Namespace) -> int:
    """`fairlead topic publish`."""
    if args.dedupe and (args.lines or args.producer):
        raise ConfigError("--dedupe is for one event", hint="lines are sent once by --producer and --epoch")
    return work(args, publishing)


def read_(args: argparse.Namespace) -> int:
    """`fairlead topic read`."""
    return work(args, reading)


def follow_(args: argparse.Namespace) -> int:
    """`fairlead topic follow`."""
    if args.group and (args.resume or args.by != "auto"):
        raise ConfigError("--group keeps its place at the server", hint="leave --resume and --by out")
    return work(args, grouping if args.group else following)


def work(args: argparse.Namespace, act: Callable[[argparse.Namespace, Topic], Awaitable[int]]) -> int:
    """Run one of them with a client."""

    async def story() -> int:
        tls = None
        if args.ca:
            try:
                tls = ssl.create_default_context(cafile=args.ca)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{args.ca}: {error}", hint="give a PEM file") from None
        client = Client(args.url, headers=headers(args), tls=tls, patience=args.patience)
        async with client:
            return await act(args, client.topic("", getattr(args, "content_type", JSON)))

    return asyncio.run(story())


def headers(args: argparse.Namespace) -> dict[str, str]:
    """What each request says. ConfigError."""
    found = {}
    for line in args.header:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"not a header: {line!r}", hint="write -H 'Name: value'")
        found[name.strip()] = value.strip()
    token = os.environ.get("FAIRLEAD_BEARER", "")
    if args.bearer:
        try:
            token = Path(args.bearer).read_text().strip()
        except OSError as error:
            raise ConfigError(f"{args.bearer}: {error.strerror}") from None
    return {"authorization": f"Bearer {token}", **found} if token else found


# ---- publishing


def value_of(args: argparse.Namespace, topic: Topic, data: bytes, line: int = 0) -> Any:
    """Bytes from outside as what is published. ConfigError says which line is no JSON."""
    if not topic.is_json:
        return data
    try:
        return data.decode() if args.text else json.loads(data)
    except (ValueError, RecursionError) as error:
        where = f"line {line}" if line else "the event"
        hint = "--text sends it as a JSON string, --content-type text/plain to a topic of texts"
        raise ConfigError(f"{where} is not JSON: {error}", hint=hint) from None


def lines_of(args: argparse.Namespace) -> Iterator[bytes]:
    """The lines that are there, each as soon as it is; empty ones are none."""
    if args.data not in (None, "-"):
        yield from (line for line in args.data.encode().splitlines() if line)
        return
    while line := sys.stdin.buffer.readline():
        if line := line.rstrip(b"\r\n"):
            yield line


def whole_input(args: argparse.Namespace) -> bytes:
    """The one event."""
    if args.data not in (None, "-"):
        return str(args.data).encode()
    data = sys.stdin.buffer.read()
    return data.rstrip(b"\r\n") if data.count(b"\n") == 1 else data


async def publishing(args: argparse.Namespace, topic: Topic) -> int:
    """The events, and where they are."""
    producer = None
    if args.producer:
        producer = topic.producer(args.producer, int(time.time()) if args.epoch is None else args.epoch)
    if args.lines:
        offset = await by_lines(args, topic, producer)
    else:
        data = await asyncio.to_thread(whole_input, args)
        if not data and args.close:
            print(await topic.close())
            return 0
        value = value_of(args, topic, data)
        if producer is not None:
            offset = await producer.publish(value, type=args.type, key=args.key)
        else:
            offset = await topic.publish(value, type=args.type, key=args.key, dedupe=args.dedupe, close=args.close)
    if args.close and (args.lines or producer is not None):
        offset = await topic.close()
    print(offset)
    return 0


async def by_lines(args: argparse.Namespace, topic: Topic, producer: Producer | None) -> str:
    """Lines as events: as many at once as are there, never waiting for more. The last offset."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(4 * LINES)
    loop = asyncio.get_running_loop()

    def pump() -> None:
        for line in lines_of(args):
            asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()
        asyncio.run_coroutine_threadsafe(queue.put(None), loop).result()

    reader = loop.run_in_executor(None, pump)
    sender = producer or topic
    offset, count, most = "", 0, max(args.batch, 1)
    ended = False
    while not ended:
        batch = [await queue.get()]
        while batch[-1] is not None and len(batch) < most and (producer is not None or not queue.empty()):
            batch.append(await queue.get())  # a producer's batches are the same in each run
        ended = batch[-1] is None
        values = [value_of(args, topic, line, count + at) for at, line in enumerate(batch, 1) if line is not None]
        if values:
            offset = await sender.publish_many(values, type=args.type, key=args.key)
            count += len(values)
    await reader
    print(f"{count} events", file=sys.stderr)
    return offset


# ---- printing


def printed(args: argparse.Namespace, event: Event) -> None:
    """One event on standard output."""
    out = sys.stdout.buffer
    if args.raw:
        out.write(event.bytes)
    elif args.json:
        out.write(json.dumps(described(event), ensure_ascii=False).encode() + b"\n")
    elif isinstance(event.data, str | bytes):
        out.write(event.bytes + b"\n")
    else:
        out.write(json.dumps(event.data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    out.flush()


def described(event: Event) -> dict[str, Any]:
    """An event with all that is known of it."""
    import base64

    said: dict[str, Any] = {"offset": event.offset}
    said |= {name: value for name, value in (("type", event.type), ("key", event.key), ("at", event.at)) if value}
    if isinstance(event.data, bytes):
        return said | {"base64": base64.b64encode(event.data).decode()}
    return said | {"data": event.data}


def tell(text: str) -> None:
    """Something about the events, for people."""
    print(f"fairlead: {text}", file=sys.stderr, flush=True)


async def reading(args: argparse.Namespace, topic: Topic) -> int:
    """What is there."""
    count, after = 0, args.after
    while args.limit is None or count < args.limit:
        page = await topic.read(after)
        for event in page.events[: None if args.limit is None else args.limit - count]:
            printed(args, event)
            count += 1
            after = event.offset
        if page.up_to_date:
            break
        after = page.next
    tell(f"{count} events; go on with --after {after}")
    return 0


class Place:
    """Where `--resume` is kept: written whole, then renamed, so that it is never half."""

    def __init__(self, name: str | None) -> None:
        self.file = Path(name) if name else None

    def read(self) -> str:
        """The offset that is kept; "" for none. ConfigError."""
        try:
            return self.file.read_text().strip() if self.file is not None else ""
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.file}: {error}") from None

    def write(self, offset: str) -> None:
        """Keep it. FairleadError."""
        if self.file is None:
            return
        try:
            beside = self.file.with_name(self.file.name + ".new")
            beside.write_text(offset + "\n")
            beside.replace(self.file)
        except OSError as error:
            raise FairleadError(f"{self.file}: {error.strerror}", hint="--resume names a file that may be written") from None


async def following(args: argparse.Namespace, topic: Topic) -> int:
    """What comes."""
    place = Place(args.resume)
    after = args.after or place.read() or "now"
    missed: list[Gap] = []

    def gap(lost: Gap) -> None:
        if args.strict:
            raise lost
        missed.append(lost)
        tell(f"{lost}; going on with what is there")

    if after == "now":
        after = await topic.now()
        place.write(after)
    if args.limit == 0:
        return 0
    count = 0
    source = topic.follow(after, by=args.by, on_gap=gap, on_loss=lambda error: tell(f"{error}; coming back"))
    async for event in source:
        printed(args, event)
        place.write(event.offset)
        count += 1
        if count == args.limit:
            await source.aclose()  # type: ignore[attr-defined]
            return 0
    tell("the topic has ended")
    return 0


async def grouping(args: argparse.Namespace, topic: Topic) -> int:
    """What comes to us of a group."""
    count = 0
    items = topic.group(args.group, after=args.after or "now").items()
    async for item in items:
        printed(args, Event(item.data, item.offset, item.type, item.key))
        await item.ack()
        count += 1
        if count == args.limit:
            await items.aclose()  # type: ignore[attr-defined]
            break
    return 0
