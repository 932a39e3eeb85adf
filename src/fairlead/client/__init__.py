"""`fairlead.client`: topics of a Fairlead server, from any Python program. Async, and the same blocking.

    from fairlead.client import Client                        from fairlead.client import SyncClient

    async with Client("https://shop.example/events") as client:
        orders = client.topic("orders")
        await orders.publish({"id": 1}, type="paid")
        page = await orders.read("-1")                        # events, next, up_to_date, closed
        async for event in orders.follow(after=page.next):
            print(event.offset, event.type, event.data)
        async with client.socket() as socket:                 # many topics on one connection
            await socket.follow("orders")
            await socket.follow("stock", after="-1")
            async for event in socket: ...

Rules
1. A publish is repeated until it is answered or `patience` seconds are over, and carries a dedupe key (or a producer's number), so
   that it is appended once however often it is sent.
2. Whoever follows comes back by itself, after a random pause that doubles up to 30 s, from its last offset: nothing is lost and
   nothing comes twice over restarts of the server. `event.offset` goes on in another program, by any way of reading.
3. Events that the server no longer keeps are a `Gap`: raised, unless `on_gap` is given; then it is told, and what is there follows.
4. Trouble that may pass (no connection, 408, 425, 429, 5xx) is tried again, with Retry-After; any other answer is a `ServerError`.

It needs nothing but Fairlead itself; the connections are those of `net.ask`, the codecs those of the server.
"""

from __future__ import annotations

from fairlead.client.group import Group, Item
from fairlead.client.sockets import Socket
from fairlead.client.sync import SyncClient, SyncGroup, SyncProducer, SyncTopic
from fairlead.client.topics import Client, Producer, Topic
from fairlead.client.words import Event, Gap, Page, ServerError

__all__ = [
    "Client",
    "Event",
    "Gap",
    "Group",
    "Item",
    "Page",
    "Producer",
    "ServerError",
    "Socket",
    "SyncClient",
    "SyncGroup",
    "SyncProducer",
    "SyncTopic",
    "Topic",
]
