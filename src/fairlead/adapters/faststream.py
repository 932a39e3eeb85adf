"""FastStream on a Fairlead server: a broker whose subjects are topics.

    broker = TopicBroker("http://127.0.0.1:8000/events")
    app = FastStream(broker)

    @broker.subscriber("orders", group="mail")        each event to one process of the group, until it is acknowledged
    @broker.publisher("mails")
    async def confirm(order: Order) -> Mail: ...

    @broker.subscriber("prices")                      every process hears every event, from its start on

Rules
1. An event of a JSON topic is a message with that body: what others publish is heard, and others hear what is published here. Only
   what has headers, a `reply_to` or bytes for a body needs an envelope: `{"faststream": {headers, correlation_id, …}, "body": …}`.
2. A subscriber with a group has at least once: the message is held while its handler works, acknowledged after it, given back when
   it raised (later each time), and a dead letter after 20 attempts. `ack_policy` says otherwise. One without a group has nothing to
   acknowledge; it misses nothing while it runs, whatever is restarted meanwhile.
3. `max_workers` messages of a subscriber are worked on at once.
4. `request` waits for the answer on a topic of its own.

FastStream's classes for brokers are not public, so this goes with one minor version of it: see pyproject.toml. Its parts are in
`faststreamparts`. There is no in-memory test broker yet: tests start a server (`fairlead run` needs nothing else).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fairlead.adapters import missing
from fairlead.client import Client
from fairlead.core.errors import FairleadError

try:
    from fast_depends import dependency_provider
    from faststream._internal.broker import BrokerUsecase
    from faststream._internal.broker.registrator import Registrator
    from faststream._internal.constants import EMPTY
    from faststream._internal.context.repository import ContextRepo
    from faststream._internal.di import FastDependsConfig
    from faststream._internal.endpoint.subscriber.call_item import CallsCollection
    from faststream._internal.logger import make_logger_state
    from faststream.message import gen_cor_id
    from faststream.middlewares import AckPolicy
    from faststream.response.publish_type import PublishType
    from faststream.specification.schema import BrokerSpec
except ModuleNotFoundError:
    missing("faststream")

from fairlead.adapters.faststreamparts import (
    Command,
    Config,
    Log,
    Producer,
    Publisher,
    PublisherConfig,
    PublisherSpecConfig,
    PublisherText,
    Raw,
    Subscriber,
    SubscriberConfig,
    SubscriberSpecConfig,
    SubscriberText,
    TopicMessage,
    Workers,
)

__all__ = ["TopicBroker", "TopicMessage"]


class Topics(Registrator[Raw, Config]):
    """What a broker registers."""

    def subscriber(  # type: ignore[override]
        self,
        topic: str,
        *,
        group: str = "",
        after: str = "now",
        ttl: float = 30.0,
        max_workers: int = 1,
        ack_policy: Any = EMPTY,
        no_reply: bool = False,
        dependencies: Sequence[Any] = (),
        parser: Any = None,
        decoder: Any = None,
        codec: Any = None,
        persistent: bool = True,
        title: str | None = None,
        description: str | None = None,
        include_in_schema: bool = True,
    ) -> Subscriber:
        """Hear a topic. `group`: share it with others; `after`: where to begin ("-1": with all there is), a group once in its life;
        `ttl`: seconds until what a killed process had goes to another one. The rest is FastStream's."""
        config: Any = self.config
        settings = SubscriberConfig(
            topic=topic, group=group, after=after, ttl=ttl, most=max_workers, no_reply=no_reply, _outer_config=config,
            _ack_policy=ack_policy,
        )  # fmt: skip
        calls = CallsCollection[Any]()
        said = SubscriberSpecConfig(topic=topic, title_=title, description_=description, include_in_schema=include_in_schema)
        text = SubscriberText(config, said, calls)
        made: Subscriber = (
            Workers(settings, text, calls, max_workers=max_workers) if max_workers > 1 else Subscriber(settings, text, calls)
        )
        super().subscriber(made, persistent=persistent)
        return made.add_call(
            parser_=parser or self._parser, decoder_=decoder or self._decoder, codec_=codec, dependencies_=dependencies
        )

    def publisher(  # type: ignore[override]
        self,
        topic: str,
        *,
        type: str = "",
        key: str = "",
        headers: dict[str, str] | None = None,
        persistent: bool = True,
        title: str | None = None,
        description: str | None = None,
        schema: Any = None,
        include_in_schema: bool = True,
    ) -> Publisher:
        """What a handler returns goes to this topic, under `type` and `key`."""
        config: Any = self.config
        said = PublisherSpecConfig(
            topic=topic, schema_=schema, title_=title, description_=description, include_in_schema=include_in_schema
        )
        settings = PublisherConfig(topic=topic, type=type, key=key, headers=headers, _outer_config=config)
        made = Publisher(settings, PublisherText(_outer_config=config, specification_config=said))
        super().publisher(made, persistent=persistent)
        return made


class TopicBroker(Topics, BrokerUsecase[Raw, Client, Config]):
    """The broker. `url`: the topic route; `options` as of `fairlead.client.Client` (headers, tls, timeout, patience)."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000/events",
        *,
        options: dict[str, Any] | None = None,
        graceful_timeout: float | None = 15.0,
        decoder: Any = None,
        parser: Any = None,
        codec: Any = None,
        dependencies: Sequence[Any] = (),
        middlewares: Sequence[Any] = (),
        routers: Sequence[Any] = (),
        ack_policy: AckPolicy = EMPTY,
        id_generator: Any = gen_cor_id,
        logger: Any = EMPTY,
        log_level: int = logging.INFO,
        apply_types: bool = True,
        serializer: Any = EMPTY,
        provider: Any = None,
        context: Any = None,
        description: str | None = None,
        tags: Sequence[Any] = (),
    ) -> None:
        self.url, self.options = url, options or {}
        config = Config(
            producer=Producer(parser, decoder),
            broker_middlewares=middlewares,
            broker_parser=parser,
            broker_decoder=decoder,
            broker_codec=codec,
            logger=make_logger_state(logger=logger, log_level=log_level, default_storage_cls=Log),
            fd_config=FastDependsConfig(
                use_fastdepends=apply_types,
                serializer=serializer,
                provider=provider or dependency_provider,
                context=context or ContextRepo(),
            ),
            broker_dependencies=dependencies,
            graceful_timeout=graceful_timeout,
            ack_policy=ack_policy,
            id_generator=id_generator,
            extra_context={"broker": self},
        )
        said = BrokerSpec(
            description=description, url=[url], protocol=url.partition(":")[0], protocol_version="1.1", tags=tags, security=None
        )
        super().__init__(config=config, specification=said, routers=routers)

    async def _connect(self) -> Client:
        client = Client(self.url, **self.options)
        self.config.connect(client)
        return client

    async def start(self) -> None:
        """Connect, and begin to hear."""
        await self.connect()
        await super().start()

    async def stop(self, exc_type: Any = None, exc_val: Any = None, exc_tb: Any = None) -> None:
        """Finish what is being worked on, and let go."""
        await super().stop(exc_type, exc_val, exc_tb)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.config.disconnect()

    async def ping(self, timeout: float | None = None) -> bool:
        """Whether the server answers."""
        if self._connection is None:
            return False
        try:
            await self._connection.server.ask("OPTIONS", self._connection.base + b"/ping", timeout=timeout or 5.0)
        except FairleadError as error:
            return bool(error.status and error.status < 500)
        return True

    async def publish(  # type: ignore[override]
        self,
        message: Any = None,
        topic: str = "",
        *,
        type: str = "",
        key: str = "",
        headers: dict[str, str] | None = None,
        correlation_id: str | None = None,
        reply_to: str = "",
    ) -> Any:
        """Append a message to a topic, once; its offset. ServerError, NetError."""
        command = Command(
            message, topic=topic, type=type, key=key, headers=headers, reply_to=reply_to,
            correlation_id=correlation_id or self.config.id_generator(), _publish_type=PublishType.PUBLISH,
        )  # fmt: skip
        return await self._basic_publish(command, producer=self.config.producer)

    async def request(  # type: ignore[override]
        self,
        message: Any = None,
        topic: str = "",
        *,
        headers: dict[str, str] | None = None,
        correlation_id: str | None = None,
        timeout: float = 30.0,
    ) -> TopicMessage:
        """Append a message and wait for what its handler returns. TimeoutError."""
        command = Command(
            message, topic=topic, headers=headers, timeout=timeout,
            correlation_id=correlation_id or self.config.id_generator(), _publish_type=PublishType.REQUEST,
        )  # fmt: skip
        answer: TopicMessage = await self._basic_request(command, producer=self.config.producer)
        return answer
