"""Messages of any shape that an HTTP version must carry: header fields, bodies, trailers, and cuts of the wire, for hypothesis."""

from hypothesis import strategies as st

NAMES = (
    st.text("abcdefxyz-", min_size=1, max_size=10)
    .filter(lambda name: name not in ("te", "via"))
    .map(lambda name: b"x-" + name.encode())
)
VALUES = st.text("abc XYZ09=;/", max_size=60).map(lambda text: text.strip().encode())
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
BODY = st.lists(st.binary(max_size=40000), max_size=3)
CUTS = st.lists(st.integers(1, 5000), max_size=5)
MESSAGE = st.tuples(FIELDS, BODY, st.one_of(st.none(), st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=2)))
