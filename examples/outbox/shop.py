"""Orders in SQLite, and the mail and the event that go out with each: in the same transaction, or not at all.

    fairlead run examples/outbox/fairlead.toml
    curl -X POST http://127.0.0.1:8000/orders/7          the order, its event and its mail
    curl -X POST http://127.0.0.1:8000/orders/8?fail=1   none of them
"""

import sqlite3

import fairlead

DATABASE = "shop.db"


@fairlead.job
async def send_mail(order: int) -> str:
    """What a real shop would hand to its mail server."""
    return f"mail for order {order}"


def connect() -> sqlite3.Connection:
    """The shop's own database."""
    db = sqlite3.connect(DATABASE, isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")
    return db


async def order(number: int, fail: bool) -> str:
    """One transaction: the order, the event for whoever follows, and the mail to be sent."""
    db = connect()
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("INSERT INTO orders VALUES (?)", (number,))
        await fairlead.topic("orders").publish({"id": number}, conn=db)
        mail = await send_mail.submit(number, conn=db)
        if fail:
            raise ValueError("the card was declined")
        db.execute("COMMIT")
        return mail.id
    except BaseException:
        db.execute("ROLLBACK")
        raise
    finally:
        db.close()


async def app(scope, receive, send):
    """POST /orders/N"""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    number = int(scope["path"].rpartition("/")[2])
    try:
        status, text = 201, await order(number, b"fail" in scope["query_string"])
    except ValueError as error:
        status, text = 402, str(error)
    body = text.encode() + b"\n"
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
