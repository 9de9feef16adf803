"""Block encryption of private logs: blocks are encrypted before they are hashed.

Stored block: 8 bytes blinded fork | ciphertext. Nothing is authenticated here: the log's tree is. Tree,
sizes and signatures see what is stored, so each block counts ``PADDING`` bytes more.
Non-goal: hiding how many blocks there are, or their sizes.
Source: hypercore lib/block-encryption.js, hypercore-block-encryption; spec/02-crypto.
"""

from struct import Struct
from typing import Final

from p2prss.crypto.hashes import Buffer, blake2b
from p2prss.crypto.keys import CoreKey
from p2prss.crypto.namespaces import DEFAULT_ENCRYPTION
from p2prss.crypto.xsalsa20 import xor
from p2prss.errors import DecodeError

PADDING: Final = 8  # bytes in front of each stored block

_pack_u64 = Struct("<Q").pack


class BlockCipher:
    """Encrypts and decrypts the blocks of one log under its 32-byte block key."""

    __slots__ = ("_blinding_key", "_block_key")

    def __init__(self, block_key: bytes) -> None:
        self._block_key = block_key
        self._blinding_key = blake2b(block_key)

    @classmethod
    def for_core(cls, key: CoreKey, encryption_key: bytes, *, compat: bool = False) -> "BlockCipher":
        """The cipher of a core, from the encryption key that is shared for it."""
        if compat:
            return cls(blake2b(encryption_key, key=key))
        return cls(blake2b(DEFAULT_ENCRYPTION, key, encryption_key))

    def encrypt(self, index: int, fork: int, block: Buffer) -> bytes:
        """What to store for block ``index``, appended while the log is at ``fork``.

        The same index and fork must never be used for two different blocks: that would show their difference.
        """
        blinding_nonce = _pack_u64(index) + bytes(16)
        prefix = xor(_pack_u64(fork), blinding_nonce, self._blinding_key)
        return prefix + xor(block, self._nonce(index, prefix), self._block_key)

    def decrypt(self, index: int, stored: Buffer) -> bytes:
        """The block that was encrypted; DecodeError when ``stored`` is too short to be one."""
        if len(stored) < PADDING:
            raise DecodeError(f"an encrypted block has at least {PADDING} bytes, not {len(stored)}")
        return xor(stored[PADDING:], self._nonce(index, bytes(stored[:PADDING])), self._block_key)

    @staticmethod
    def _nonce(index: int, prefix: bytes) -> bytes:
        return _pack_u64(index) + prefix + bytes(8)
