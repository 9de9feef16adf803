"""Keys: distinct types for what looks alike, and Ed25519 key pairs.

``CoreKey`` names a log and lets its holder read it; ``DiscoveryKey`` is the hash that strangers may
see; a ``PublicKey`` only checks signatures. Swapping two of them is a type error.
"""

from dataclasses import dataclass, field
from typing import Final, NewType

from nacl.bindings import crypto_sign_seed_keypair

CoreKey = NewType("CoreKey", bytes)  # 32 bytes
DiscoveryKey = NewType("DiscoveryKey", bytes)  # 32 bytes
PublicKey = NewType("PublicKey", bytes)  # 32 bytes, Ed25519
SecretKey = NewType("SecretKey", bytes)  # 64 bytes: seed, then public key
Namespace = NewType("Namespace", bytes)  # 32 bytes

KEY_SIZE: Final = 32  # bytes


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key pair; the secret half never shows in a repr."""

    public_key: PublicKey
    secret_key: SecretKey = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "KeyPair":
        """Derive the pair from 32 secret bytes (libsodium ``crypto_sign_seed_keypair``)."""
        public_key, secret_key = crypto_sign_seed_keypair(seed)
        return cls(PublicKey(public_key), SecretKey(secret_key))
