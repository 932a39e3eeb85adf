"""Standard Webhooks signatures: the specification's own example, both kinds of key, rotation, and what a check refuses."""

import base64
import json

import pytest

from fairlead.core.errors import ConfigError, Refused
from fairlead.wire import signed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
ID, STAMP = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
PRIVATE = signed.new_private(bytes(range(32)))


def given(keys, body=BODY, stamp=STAMP):
    return {name.decode(): value.decode() for name, value in signed.headers(keys, ID, stamp, body)}


def test_the_specifications_example():
    assert signed.signature(SECRET, ID, STAMP, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("key", [SECRET, PRIVATE])
def test_what_we_sign_we_accept_and_nothing_else(key):
    fields = given([key])
    signed.verify([key], fields, BODY, now=STAMP + 10)
    for changed in (
        fields | {"webhook-id": ID + "x"},
        fields | {"webhook-timestamp": str(STAMP + 1)},
        fields | {"webhook-signature": fields["webhook-signature"][:-4] + "AAA="},
        fields | {"webhook-signature": "v1,"},
        fields | {"webhook-signature": "v2,abc v1a,é"},
    ):
        with pytest.raises(Refused, match="no signature fits"):
            signed.verify([key], changed, BODY, now=STAMP)
    with pytest.raises(Refused, match="no signature fits"):
        signed.verify([key], fields, BODY + b" ", now=STAMP)


def test_a_receiver_with_the_public_key_is_enough():
    public = signed.public_of(PRIVATE)
    assert public.startswith("whpk_") and signed.public_of(SECRET) == ""
    signed.verify([public], given([PRIVATE]), BODY, now=STAMP)


def test_while_a_key_rotates_either_is_accepted():
    other = signed.new_secret(b"n" * 32)
    fields = given([other, SECRET, PRIVATE])
    for key in (other, SECRET, PRIVATE):
        signed.verify([key], fields, BODY, now=STAMP)


@pytest.mark.parametrize("away", [-301, 301, 1e9])
def test_an_old_or_future_timestamp_is_refused(away):
    with pytest.raises(Refused, match="300 s from now"):
        signed.verify([SECRET], given([SECRET]), BODY, now=STAMP + away)


@pytest.mark.parametrize("stamp", ["", "-1", "1.5", "٣", "9" * 400])
def test_a_timestamp_that_is_no_number(stamp):
    with pytest.raises(Refused):
        signed.verify([SECRET], given([SECRET]) | {"webhook-timestamp": stamp}, BODY, now=STAMP)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_field(missing):
    fields = given([SECRET])
    del fields[missing]
    with pytest.raises(Refused, match="not signed"):
        signed.verify([SECRET], fields, BODY, now=STAMP)


@pytest.mark.parametrize("key", ["", "secret", "whsec_", "whsec_AAAA", "whsec_!!!", "whpk_AAAA", "whsec_" + "A" * 200])
def test_what_is_no_key(key):
    with pytest.raises(ConfigError, match="not a webhook key"):
        signed.raw_key(key)


def test_a_public_key_signs_nothing_and_an_id_has_no_dot():
    with pytest.raises(ConfigError, match="signs nothing"):
        signed.signature(signed.public_of(PRIVATE), ID, STAMP, BODY)
    with pytest.raises(ValueError, match="no dot"):
        signed.headers([SECRET], "a.b", STAMP, BODY)


def test_the_published_library_accepts_what_we_sign(monkeypatch):
    standardwebhooks = pytest.importorskip("standardwebhooks")
    import time

    body = json.dumps({"a": 1}).encode()
    fields = given([SECRET], body, int(time.time()))
    assert standardwebhooks.Webhook(SECRET).verify(body, fields) == {"a": 1}
    theirs = standardwebhooks.Webhook(SECRET).sign(ID, __import__("datetime").datetime.fromtimestamp(STAMP), body.decode())
    signed.verify([SECRET], {"webhook-id": ID, "webhook-timestamp": str(STAMP), "webhook-signature": theirs}, body, STAMP)
    assert base64.b64decode(theirs[3:])
