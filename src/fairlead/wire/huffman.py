"""The static Huffman code of HPACK and QPACK (RFC 7541 section 5.2 and appendix B): strings read and written.

The code is canonical: within one length, codes grow with the symbol. So the lengths alone say all of it, and the tables
are made from them once, at import. Reading goes four bits at a time through a machine of 256 states (the inner nodes of
the tree); each step gives the next state, at most one symbol, and whether the string may end here.

Rules
1. Padding is the beginning of EOS, so all ones, and shorter than a byte; anything else is an error.
2. EOS itself in a string is an error.
"""

from __future__ import annotations

# bits of each symbol's code, 0 to 255 and EOS
LENGTHS = bytes((
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
))  # fmt: skip
EOS = 256
_EMITS, _ENDS, _FAILS = 1, 2, 4


def _codes() -> list[int]:
    """Each symbol's code, the canonical way."""
    codes = [0] * 257
    code = 0
    before = 0
    for symbol in sorted(range(257), key=lambda one: (LENGTHS[one], one)):
        code <<= LENGTHS[symbol] - before
        before = LENGTHS[symbol]
        codes[symbol] = code
        code += 1
    return codes


def _machine(codes: list[int]) -> tuple[bytes, bytes, bytes]:
    """For each (state, four bits): the next state, the flags of the step, the symbol that it gives."""
    nodes: list[list[int]] = [[0, 0]]  # children: a state, or -1 - symbol
    for symbol, code in enumerate(codes):
        node = 0
        for bit in range(LENGTHS[symbol] - 1, -1, -1):
            way = code >> bit & 1
            if bit == 0:
                nodes[node][way] = -1 - symbol
            elif not nodes[node][way]:
                nodes.append([0, 0])
                nodes[node][way] = len(nodes) - 1
                node = len(nodes) - 1
            else:
                node = nodes[node][way]
    ends = {0}
    node = 0
    for _ in range(7):
        node = nodes[node][1]
        ends.add(node)
    following, flags, symbols = bytearray(4096), bytearray(4096), bytearray(4096)
    for state in range(256):
        for nibble in range(16):
            node = state
            at = state * 16 + nibble
            for bit in (3, 2, 1, 0):
                node = nodes[node][nibble >> bit & 1]
                if node == -1 - EOS:
                    flags[at] = _FAILS
                    break
                if node < 0:
                    flags[at] = _EMITS
                    symbols[at] = -1 - node
                    node = 0
            if not flags[at] & _FAILS:
                following[at] = node
                if node in ends:
                    flags[at] |= _ENDS
    return bytes(following), bytes(flags), bytes(symbols)


CODES = _codes()
_LENGTHS = LENGTHS
_NEXT, _FLAGS, _SYMBOLS = _machine(CODES)


def decoded(data, at, end, scratch):
    """The string whose code is `data[at:end]`, or None when it is no valid code. `scratch`: a bytearray to write in."""
    needed = (end - at) * 8 // 5 + 1
    if needed > len(scratch):
        scratch = bytearray(needed)
    count = _decode(data, at, end, scratch)
    if count < 0:
        return None
    return bytes(scratch[:count])


def _decode(v, at, end, o):
    following = _NEXT
    flags = _FLAGS
    symbols = _SYMBOLS
    state = 0
    flag = 2
    count = 0
    while at < end:
        byte = v[at]
        at += 1
        step = state * 16 + (byte >> 4)
        flag = flags[step]
        if flag & 4:
            return -1
        if flag & 1:
            o[count] = symbols[step]
            count += 1
        step = following[step] * 16 + (byte & 15)
        flag = flags[step]
        if flag & 4:
            return -1
        if flag & 1:
            o[count] = symbols[step]
            count += 1
        state = following[step]
    if not flag & 2:
        return -1
    return count


def size_of(data):
    """How many bytes the code of a string has."""
    return _size(data, len(data))


def _size(v, size):
    lengths = _LENGTHS
    bits = 0
    i = 0
    while i < size:
        bits += lengths[v[i]]
        i += 1
    return (bits + 7) >> 3


def encode(out, data):
    """Put the code of a string into the bytearray `out`."""
    _encode(out, data, len(data))


def _encode(out, v, size):
    lengths = _LENGTHS
    held = 0
    bits = 0
    i = 0
    while i < size:
        symbol = v[i]
        i += 1
        code = CODES[symbol]
        held = held << lengths[symbol] | code
        bits += lengths[symbol]
        while bits >= 8:
            bits -= 8
            out.append((held >> bits) & 255)
            held &= (1 << bits) - 1
    if bits:
        out.append((held << (8 - bits) | 255 >> bits) & 255)
