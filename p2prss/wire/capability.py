"""Capabilities: each side of a channel proves that it knows the core's key.

A channel's open shows only the core's discovery key, which strangers may see. The capability beside it is
a hash over the core key that is good on this connection and in this direction only: it cannot be replayed.
A channel on which it was not checked must not carry a block.

Source: hypercore 11.37.1 lib/caps.js; spec/05-replication, "Capability".
"""

import hmac

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import CoreKey
from p2prss.crypto.namespaces import REPLICATE_INITIATOR, REPLICATE_RESPONDER


def capability(handshake_hash: bytes, *, initiator: bool, core_key: CoreKey) -> bytes:
    """What the stream's initiator, or its responder, sends to show that it knows ``core_key``: 32 bytes."""
    return blake2b(REPLICATE_INITIATOR if initiator else REPLICATE_RESPONDER, core_key, key=handshake_hash)


def verify_capability(received: bytes, handshake_hash: bytes, *, initiator: bool, core_key: CoreKey) -> bool:
    """Whether the peer knows ``core_key``; ``initiator`` tells whether *the peer* opened the stream.

    The comparison takes the same time wherever the bytes differ.
    """
    return hmac.compare_digest(received, capability(handshake_hash, initiator=initiator, core_key=core_key))
