"""The keys of Initial packets, by the example of RFC 9001 appendix A.1: we make them for clients that use no connection id."""

from fairlead.net.quicseal import initial_keys

CID = bytes.fromhex("8394c8f03e515708")


def test_the_keys_are_the_rfcs():
    secret, key, iv, hp = initial_keys(CID, "client in")
    assert secret.hex() == "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"
    assert key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert hp.hex() == "9f50449e04a0e810283a1e9933adedd2"
    secret, key, iv, hp = initial_keys(CID, "server in")
    assert key.hex() == "cf3a5331653c364c88f0f379b6067e37"
    assert iv.hex() == "0ac1493ca1905853b0bba03e"
    assert hp.hex() == "c206b8d9b9f0f37644430b490eeaa314"
