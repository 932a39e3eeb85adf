"""`[route.websocket]`: what is written becomes the caps that the codec reads."""

from dataclasses import fields

from fairlead.core.limits import WebSocketLimits
from fairlead.run.load import examine_text, loads

HEAD = '[[listener]]\nbind = "127.0.0.1:8000"\n[[route]]\napp = "shop:app"\n'


def test_the_defaults_of_the_file_are_those_of_the_codec():
    made = loads(HEAD).routes[0].websocket.core()
    for field in fields(WebSocketLimits):
        assert getattr(made, field.name) == getattr(WebSocketLimits(), field.name), field.name


def test_what_is_written_is_what_is_read():
    text = HEAD + '[route.websocket]\norigins = ["self"]\nmessage = "none"\nping = "none"\nidle = "1m"\nfragments = 7\n'
    given = loads(text).routes[0].websocket
    assert given.origins == ("self",)
    made = given.core()
    assert (made.message, made.ping, made.idle, made.fragments) == (0, 0, 60_000_000_000, 7)


def test_an_unknown_key_names_the_nearest():
    [problem] = examine_text(HEAD + "[route.websocket]\norigin = []\n", "t.toml", env={})[1]
    assert "origins" in problem.hint
