"""XSalsa20, the bare stream cipher: no authentication, for what something else authenticates.

PyNaCl has it only inside ``secretbox``, whose keystream spends its first 32 bytes on the authenticator. So
the first block is computed here, and the rest of the work is left to libsodium.
Source: "Extending the Salsa20 nonce" (Bernstein); libsodium ``crypto_stream_xsalsa20_xor``; spec/02-crypto.
"""

from struct import Struct
from typing import Final

from nacl.bindings import crypto_secretbox

from p2prss.crypto.hashes import Buffer

NONCE_SIZE: Final = 24  # bytes
KEY_SIZE: Final = 32  # bytes

_HEAD: Final = 32  # bytes of keystream that secretbox keeps for itself
_TAG: Final = 16  # bytes of authenticator in front of secretbox's output
_MASK: Final = 0xFFFFFFFF
_WORDS: Final = Struct("<16I")
_CONSTANTS: Final = Struct("<4I").unpack(b"expand 32-byte k")

# One double round: quarter rounds on the columns, then on the rows
_QUARTERS: Final = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip


def xor(data: Buffer, nonce: bytes, key: bytes) -> bytes:
    """Encrypt or, being the same, decrypt; ValueError when nonce or key have a wrong size."""
    if len(nonce) != NONCE_SIZE or len(key) != KEY_SIZE:
        raise ValueError(f"XSalsa20 takes a nonce of {NONCE_SIZE} and a key of {KEY_SIZE} bytes")
    head = bytes(data[:_HEAD])
    stream = _first_keystream(nonce, key)[: len(head)]
    mixed = (int.from_bytes(head, "little") ^ int.from_bytes(stream, "little")).to_bytes(len(head), "little")
    if len(data) <= _HEAD:
        return mixed
    return mixed + crypto_secretbox(bytes(data[_HEAD:]), nonce, key)[_TAG:]


def _first_keystream(nonce: bytes, key: bytes) -> bytes:
    """The first 64 bytes of the keystream."""
    mixed = _rounds(_state(key, nonce[:16]))
    words = [mixed[place] for place in (0, 5, 10, 15, 6, 7, 8, 9)]  # HSalsa20: no addition of the input
    subkey = Struct("<8I").pack(*words)
    state = _state(subkey, nonce[16:] + bytes(8))
    return _WORDS.pack(*((a + b) & _MASK for a, b in zip(state, _rounds(state), strict=True)))


def _state(key: bytes, input_block: bytes) -> list[int]:
    """Constants on the diagonal, the key around them, 16 bytes of nonce and counter in the middle."""
    k, n = Struct("<8I").unpack(key), Struct("<4I").unpack(input_block)
    c = _CONSTANTS
    return [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]


def _rounds(state: list[int]) -> list[int]:
    """The 20 rounds of Salsa20."""
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            t = x[a] + x[d] & _MASK
            x[b] ^= t << 7 & _MASK | t >> 25
            t = x[b] + x[a] & _MASK
            x[c] ^= t << 9 & _MASK | t >> 23
            t = x[c] + x[b] & _MASK
            x[d] ^= t << 13 & _MASK | t >> 19
            t = x[d] + x[c] & _MASK
            x[a] ^= t << 18 & _MASK | t >> 14
    return x
