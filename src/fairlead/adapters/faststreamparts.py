"""The parts that a FastStream broker consists of: what hears, what publishes, what a message is, and how it is described.

Each class is the smallest that FastStream 0.7 asks for; what they mean is said in `adapters.faststream`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import anyio
from faststream._internal.configs import (
    BrokerConfig,
    PublisherSpecificationConfig,
    PublisherUsecaseConfig,
    SubscriberSpecificationConfig,
    SubscriberUsecaseConfig,
)
from faststream._internal.constants import EMPTY
from faststream._internal.endpoint.publisher import PublisherSpecification, PublisherUsecase
from faststream._internal.endpoint.publisher.fake import FakePublisher
from faststream._internal.endpoint.subscriber import SubscriberSpecification, SubscriberUsecase
from faststream._internal.endpoint.subscriber.mixins import ConcurrentMixin, TasksMixin
from faststream._internal.endpoint.utils import ParserComposition, process_msg
from faststream._internal.logger import DefaultLoggerStorage
from faststream._internal.logger.logging import get_broker_logger
from faststream._internal.parser import DefaultCodec
from faststream._internal.producer import ProducerProto
from faststream.exceptions import FeatureNotSupportedException, IncorrectState
from faststream.message import StreamMessage, decode_message
from faststream.middlewares import AckPolicy
from faststream.response.publish_type import PublishType
from faststream.response.response import PublishCommand
from faststream.specification.asyncapi.utils import resolve_payloads
from faststream.specification.schema import Message, Operation, PublisherSpec, SubscriberSpec

from fairlead.client import Client, Event, Gap
from fairlead.client.group import Item

ENVELOPE = "faststream"
LONGEST = 60.0  # seconds that a message which failed is put off at most
log = logging.getLogger("fairlead")


@dataclass
class Raw:
    """An event as it was heard; `item` when it has to be acknowledged."""

    data: Any
    offset: str
    topic: str
    type: str = ""
    key: str = ""
    item: Item | None = None


class TopicMessage(StreamMessage[Raw]):
    """A message; `raw_message` is the event."""

    async def ack(self) -> None:
        """It is done. ServerError 409: it took so long that it is somebody else's."""
        if self.committed is None and self.raw_message.item is not None:
            await self.raw_message.item.ack()
        await super().ack()

    async def nack(self, delay: float | None = None) -> None:
        """Once more, after `delay` seconds: by default half a second, doubled each time, at most a minute."""
        item = self.raw_message.item
        if self.committed is None and item is not None:
            await item.nack(min(LONGEST, 0.25 * 2**item.attempt) if delay is None else delay, "the handler failed")
        await super().nack()

    async def reject(self) -> None:
        """Never again: a dead letter."""
        if self.committed is None and self.raw_message.item is not None:
            await self.raw_message.item.term("rejected")
        await super().reject()


async def parse(raw: Raw) -> TopicMessage:
    """An event as a message."""
    data, said = raw.data, {}
    if isinstance(data, dict) and isinstance(data.get(ENVELOPE), dict) and set(data) <= {ENVELOPE, "body", "base64"}:
        said = data[ENVELOPE]
        data = base64.b64decode(data["base64"]) if "base64" in data else data.get("body")
    json_ = not isinstance(data, bytes)
    return TopicMessage(
        raw,
        json.dumps(data, ensure_ascii=False).encode() if json_ else data,
        headers={**said.get("headers", {}), **{name: text for name, text in (("type", raw.type), ("key", raw.key)) if text}},
        reply_to=said.get("reply_to", ""),
        content_type="application/json" if json_ else said.get("content_type"),
        correlation_id=said.get("correlation_id"),
        message_id=raw.offset,
    )


async def decode(message: StreamMessage[Any]) -> Any:
    """A message's body as FastStream has it."""
    return decode_message(message)


class Log(DefaultLoggerStorage):
    """How FastStream's own log lines look."""

    def __init__(self) -> None:
        super().__init__()
        self.level = logging.INFO

    def set_level(self, level: int) -> None:
        self.level = level

    def register_subscriber(self, params: dict[str, Any]) -> None:
        """Nothing to line up."""

    def get_logger(self, *, context: Any) -> Any:
        if (found := self._get_logger_ref()) is None:
            line = "%(asctime)s %(levelname)-8s - %(topic)s | %(message_id)-10s - %(message)s"
            found = get_broker_logger(
                name="fairlead", default_context={"topic": ""}, message_id_ln=10, fmt=line, context=context, log_level=self.level
            )
            self._logger_ref.add(found)
        return found


class Command(PublishCommand):
    """What is to be published."""

    def __init__(
        self, message: Any, *, topic: str = "", type: str = "", key: str = "", timeout: float = 30.0, _publish_type: PublishType,
        **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(message, destination=topic, _publish_type=_publish_type, **more)
        self.type, self.key, self.timeout = type, key, timeout

    @classmethod
    def from_cmd(cls, cmd: Any) -> Command:
        """Another broker's, or a handler's result, as one of these."""
        if isinstance(cmd, Command):
            return cmd
        return cls(
            cmd.body, topic=cmd.destination, correlation_id=cmd.correlation_id, headers=cmd.headers, reply_to=cmd.reply_to,
            _publish_type=cmd.publish_type,
        )  # fmt: skip


class Producer(ProducerProto[Command]):
    """Publishes."""

    def __init__(self, parser: Any, decoder: Any) -> None:
        self._parser: Any = ParserComposition(parser, parse)
        self._decoder: Any = ParserComposition(decoder, decode)
        self.serializer: Any = None
        self.codec: Any = DefaultCodec()
        self.client: Client | None = None

    def connect(self, client: Client, serializer: Any, codec: Any) -> None:
        """From now on."""
        self.client, self.serializer, self.codec = client, serializer, codec or DefaultCodec()

    @property
    def connected(self) -> Client:
        """The client. IncorrectState before `connect`."""
        if self.client is None:
            raise IncorrectState("the broker is not connected: call connect() first")
        return self.client

    async def publish(self, cmd: Command) -> str:
        value = await self.value(cmd)
        return await self.connected.topic(cmd.destination).publish(value, type=cmd.type, key=cmd.key)

    async def value(self, cmd: Command) -> Any:
        """The event of a command: the body itself, or an envelope."""
        body, content_type = await self.codec.encode(cmd.body, self.serializer)
        value: Any = None
        if content_type == "application/json":
            value = {"body": json.loads(body)}
        elif content_type and content_type.startswith("text/"):
            value = {"body": body.decode()}
        else:
            value = {"base64": base64.b64encode(body).decode()}
        if "body" in value and not cmd.headers and not cmd.reply_to and not looks_wrapped(value["body"]):
            return value["body"]
        said = {"headers": cmd.headers, "correlation_id": cmd.correlation_id, "reply_to": cmd.reply_to}
        said["content_type"] = content_type
        return {ENVELOPE: {name: one for name, one in said.items() if one}, **value}

    async def request(self, cmd: Command) -> Raw:
        place = self.connected.topic(f"faststream.reply.{uuid4().hex}")
        start = await place.now()
        cmd.reply_to = place.name
        async with asyncio.timeout(cmd.timeout):
            await self.publish(cmd)
            async for event in place.follow(start, by="long-poll"):
                return raw_of(event, place.name)
        raise IncorrectState("the topic for the answer ended")

    async def publish_batch(self, cmd: Command) -> Any:
        raise FeatureNotSupportedException("publish one message after the other: the client keeps its connections")


def looks_wrapped(body: Any) -> bool:
    """A body that would be taken for an envelope has to be in one."""
    return isinstance(body, dict) and ENVELOPE in body


def raw_of(event: Event, topic: str) -> Raw:
    """An event that was followed."""
    return Raw(event.data, event.offset, topic, event.type, event.key)


@dataclass(kw_only=True)
class Config(BrokerConfig):
    """What all parts of a broker share."""

    producer: Any
    client: Client | None = field(default=None, init=False, repr=False)

    def connect(self, client: Client) -> None:
        """From now on."""
        self.client = client
        self.producer.connect(client, self.fd_config._serializer, self.broker_codec)

    def disconnect(self) -> None:
        """No more."""
        self.client = None
        self.producer.client = None


@dataclass(kw_only=True)
class SubscriberSpecConfig(SubscriberSpecificationConfig):
    topic: str


@dataclass(kw_only=True)
class PublisherSpecConfig(PublisherSpecificationConfig):
    topic: str


class SubscriberText(SubscriberSpecification[Config, SubscriberSpecConfig]):
    """A subscriber in AsyncAPI."""

    @property
    def address(self) -> str:
        """The topic."""
        return f"{self._outer_config.prefix}{self.config.topic}"

    @property
    def channel_labels(self) -> list[str]:
        return [self.address]

    def get_schema(self) -> dict[str, SubscriberSpec]:
        message = Message(title=f"{self.name}:Message", payload=resolve_payloads(self.get_payloads()))
        operation = Operation(message=message, bindings=None)
        spec = SubscriberSpec(address=self.address, description=self.description, operation=operation, bindings=None)
        return {self.name: spec}


class PublisherText(PublisherSpecification[Config, PublisherSpecConfig]):
    """A publisher in AsyncAPI."""

    @property
    def address(self) -> str:
        """The topic."""
        return f"{self._outer_config.prefix}{self.config.topic}"

    @property
    def name(self) -> str:
        return self.config.title_ or f"{self.address}:Publisher"

    def get_schema(self) -> dict[str, PublisherSpec]:
        message = Message(title=f"{self.name}:Message", payload=resolve_payloads(self.get_payloads(), "Publisher"))
        operation = Operation(message=message, bindings=None)
        spec = PublisherSpec(address=self.address, description=self.config.description_, operation=operation, bindings=None)
        return {self.name: spec}


@dataclass(kw_only=True)
class PublisherConfig(PublisherUsecaseConfig):
    topic: str
    type: str
    key: str
    headers: dict[str, str] | None


class Publisher(PublisherUsecase):
    """Publishes to one topic."""

    def __init__(self, config: PublisherConfig, specification: Any) -> None:
        super().__init__(config, specification)
        self.own, self.type, self.key, self.headers = config.topic, config.type, config.key, config.headers or {}

    @property
    def topic(self) -> str:
        """Its name, with the router's prefix."""
        return f"{self._outer_config.prefix}{self.own}"

    def completed(self, cmd: Command) -> Command:
        """A command with what is this publisher's."""
        cmd.destination = cmd.destination or self.topic
        cmd.type, cmd.key = cmd.type or self.type, cmd.key or self.key
        cmd.add_headers(self.headers, override=False)
        return cmd

    async def publish(
        self, message: Any, topic: str = "", *, type: str = "", key: str = "", headers: dict[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> Any:  # fmt: skip
        """Append a message; its offset."""
        cmd = Command(
            message, topic=topic, type=type, key=key, headers=headers,
            correlation_id=correlation_id or self._outer_config.id_generator(), _publish_type=PublishType.PUBLISH,
        )  # fmt: skip
        return await self._basic_publish(self.completed(cmd), producer=self._outer_config.producer, _extra_middlewares=())

    async def _publish(self, cmd: Any, *, _extra_middlewares: Any) -> Any:
        """What a handler returned."""
        cmd = self.completed(Command.from_cmd(cmd))
        return await self._basic_publish(cmd, producer=self._outer_config.producer, _extra_middlewares=_extra_middlewares)

    async def request(self, message: Any, topic: str = "", *, timeout: float = 30.0, correlation_id: str | None = None) -> Any:
        """Append a message and wait for the answer."""
        cmd = Command(
            message, topic=topic, timeout=timeout, correlation_id=correlation_id or self._outer_config.id_generator(),
            _publish_type=PublishType.REQUEST,
        )  # fmt: skip
        return await self._basic_request(self.completed(cmd), producer=self._outer_config.producer)


class Reply(FakePublisher):
    """Publishes what a handler returned to where the message wanted it."""

    def __init__(self, producer: Any, topic: str) -> None:
        super().__init__(producer=producer)
        self.topic = topic

    def patch_command(self, cmd: Any) -> Command:
        cmd = Command.from_cmd(super().patch_command(cmd))
        cmd.destination = self.topic
        return cmd


@dataclass(kw_only=True)
class SubscriberConfig(SubscriberUsecaseConfig):
    topic: str
    group: str
    after: str
    ttl: float
    most: int

    @property
    def ack_policy(self) -> AckPolicy:
        if self._ack_policy is not EMPTY:
            return self._ack_policy
        outer = self._outer_config.ack_policy
        return outer if outer is not EMPTY else AckPolicy.NACK_ON_ERROR


class Subscriber(TasksMixin, SubscriberUsecase[Raw]):
    """Hears one topic, message after message."""

    def __init__(self, config: SubscriberConfig, specification: Any, calls: Any) -> None:
        config.parser, config.decoder = parse, decode
        super().__init__(config, specification, calls)
        self.own, self.group, self.after, self.ttl, self.most = config.topic, config.group, config.after, config.ttl, config.most
        self.source: AsyncIterator[Raw] | None = None

    @property
    def topic(self) -> str:
        """Its name, with the router's prefix."""
        return f"{self._outer_config.prefix}{self.own}"

    async def start(self) -> None:
        """From here on nothing is missed."""
        await super().start()
        outer: Any = self._outer_config
        topic = outer.client.topic(self.topic)
        now = await topic.now()
        if self.group:
            await topic.group(self.group, after=now if self.after == "now" else self.after).make()
        self.source = self.shared(topic) if self.group else self.followed(topic, now if self.after == "now" else self.after)
        if self.calls:
            self.add_task(self.consume_all, restart_on_failure=False)
        self._post_start()

    async def shared(self, topic: Any) -> AsyncIterator[Raw]:
        """What this process gets of a group."""
        async for item in topic.group(self.group, ttl=self.ttl, owner="faststream").several(self.most):
            yield Raw(item.data, item.offset, topic.name, item.type, item.key, item)

    async def followed(self, topic: Any, after: str) -> AsyncIterator[Raw]:
        """Everything."""

        def lost(gap: Gap) -> None:
            log.warning("%s", gap)

        async for event in topic.follow(after, on_gap=lost):
            yield raw_of(event, topic.name)

    async def consume_all(self) -> None:
        """Message after message."""
        assert self.source is not None
        async for raw in self.source:
            await self.take(raw)

    async def take(self, raw: Raw) -> None:
        """One of them."""
        await self.consume(raw)

    async def stop(self) -> None:
        """No more; what is being worked on is finished first."""
        await super().stop()

    def _make_response_publisher(self, message: Any) -> Sequence[Any]:
        return (Reply(self._outer_config.producer, message.reply_to),)

    def get_log_context(self, message: Any) -> dict[str, str]:
        return {"topic": self.topic, "message_id": getattr(message, "message_id", "")}

    async def get_one(self, *, timeout: float = 5.0) -> Any:
        """The next message; None when there is none in time. Only without handlers."""
        assert not self.calls, "a subscriber with handlers gives its messages to them"
        raw = None
        with anyio.move_on_after(timeout):
            raw = await anext(self.source) if self.source is not None else None
        return await self.processed(raw)

    async def processed(self, raw: Raw | None) -> Any:
        """Through middlewares, parser and decoder."""
        parser, decoder = self._get_parser_and_decoder()
        context = self._outer_config.context
        around = (one(raw, context=context) for one in self._broker_middlewares)
        return await process_msg(msg=raw, middlewares=around, parser=parser, decoder=decoder)

    async def __aiter__(self) -> AsyncIterator[Any]:
        assert self.source is not None
        async for raw in self.source:
            yield await self.processed(raw)


class Workers(ConcurrentMixin[Raw], Subscriber):
    """The same, several messages at once."""

    async def start(self) -> None:
        await super().start()
        self.start_consume_task()

    async def take(self, raw: Raw) -> None:
        await self._put_msg(raw)
