"""Key pairs from one primary key, by the Corestore rule: one backup restores every core, in JavaScript too.

Source: corestore 7.12.5 index.js ``createKeyPair``; spec/02-crypto.
"""

from typing import Final

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair, Namespace
from p2prss.crypto.namespaces import CORESTORE

PRIMARY_KEY_SIZE: Final = 32  # bytes
ROOT_NAMESPACE: Final = Namespace(bytes(32))


def child_namespace(parent: Namespace, name: str | bytes) -> Namespace:
    """The namespace ``name`` inside ``parent``; names may nest to any depth."""
    return Namespace(blake2b(parent, _name_bytes(name)))


def derive_key_pair(primary_key: bytes, namespace: Namespace, name: str | bytes) -> KeyPair:
    """The key pair called ``name`` in a namespace; the same three give the same pair.

    Raises: ValueError when the primary key has not 32 bytes.
    """
    if len(primary_key) != PRIMARY_KEY_SIZE:
        raise ValueError(f"a primary key has {PRIMARY_KEY_SIZE} bytes, not {len(primary_key)}")
    return KeyPair.from_seed(blake2b(CORESTORE, namespace, _name_bytes(name), key=primary_key))


def _name_bytes(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name
