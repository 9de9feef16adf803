"""BLAKE2b-256, the one hash of the Hypercore stack.

Source: hypercore-crypto 3.7.0 index.js; spec/02-crypto.
"""

from hashlib import blake2b as _blake2b
from typing import Final

from p2prss.crypto.keys import CoreKey, DiscoveryKey

Buffer = bytes | bytearray | memoryview

HASH_SIZE: Final = 32  # bytes


def blake2b(*parts: Buffer, key: Buffer = b"") -> bytes:
    """Hash the parts as if they were one; ``key`` (up to 64 bytes) selects the keyed form.

    Returns: 32 bytes.
    """
    state = _blake2b(digest_size=HASH_SIZE, key=key)
    for part in parts:
        state.update(part)
    return state.digest()


def discovery_key(key: CoreKey) -> DiscoveryKey:
    """What strangers may see of a core: a hash that finds it but does not let them read it.

    Source: hypercore-crypto ``discoveryKey``.
    """
    return DiscoveryKey(blake2b(b"hypercore", key=key))
