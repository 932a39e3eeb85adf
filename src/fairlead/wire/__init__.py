"""Bytes <-> nouns: one file per protocol, each a `core.codec.Codec` or a leaf of one. No socket, no await, no clock."""
