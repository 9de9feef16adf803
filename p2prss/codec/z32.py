"""z-base-32: bytes as text that people can read out, 5 bits per character, highest bits first.

Source: z32 index.js; spec/01-encoding.
"""

from typing import Final

from p2prss.errors import DecodeError

ALPHABET: Final = "ybndrfg8ejkmcpqxot1uwisza345h769"

_VALUES: Final = {character: value for value, character in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """Text of ``ceil(8 * len(data) / 5)`` characters; the unused low bits of the last one are zero."""
    length = -(-8 * len(data) // 5)
    number = int.from_bytes(data, "big") << (5 * length - 8 * len(data))
    return "".join(ALPHABET[number >> shift & 31] for shift in range(5 * (length - 1), -1, -5))


def decode(text: str) -> bytes:
    """The bytes of ``text``.

    Raises: DecodeError for a foreign character, a length no bytes have, or unused bits that are set.
    """
    number = 0
    for offset, character in enumerate(text):
        value = _VALUES.get(character)
        if value is None:
            raise DecodeError(f"{character!r} is not a z-base-32 character", offset=offset)
        number = number << 5 | value
    size, unused = divmod(5 * len(text), 8)
    if unused >= 5 or number & ((1 << unused) - 1):
        raise DecodeError("the text does not end where bytes end", offset=len(text))
    return (number >> unused).to_bytes(size, "big")
