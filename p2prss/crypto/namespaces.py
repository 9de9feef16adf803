"""Namespaces: 32 bytes in front of what is hashed or signed, so that one purpose's bytes fit no other.

Source: hypercore-crypto ``namespace``, hypercore lib/caps.js, @hyperswarm/secret-stream, hyperdrive.
"""

from typing import Final

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import Namespace


def namespace(name: str, index: int) -> Namespace:
    """Member ``index`` (0 to 255) of the namespaces of ``name``."""
    return Namespace(blake2b(blake2b(name.encode()), bytes([index])))


TREE: Final = namespace("hypercore", 0)  # signed tree heads
REPLICATE_INITIATOR: Final = namespace("hypercore", 1)  # capability of the side that dialled
REPLICATE_RESPONDER: Final = namespace("hypercore", 2)
MANIFEST: Final = namespace("hypercore", 3)  # core keys
DEFAULT_NAMESPACE: Final = namespace("hypercore", 4)  # of a signer that names none
DEFAULT_ENCRYPTION: Final = namespace("hypercore", 5)  # block keys
CORESTORE: Final = namespace("corestore", 0)  # derived key pairs
HYPERDRIVE_BLOBS: Final = namespace("hyperdrive", 0)  # signers of a drive's blobs core
SECRET_STREAM_INITIATOR: Final = namespace("hyperswarm/secret-stream", 0)
SECRET_STREAM_RESPONDER: Final = namespace("hyperswarm/secret-stream", 1)
SECRET_STREAM_SEND: Final = namespace("hyperswarm/secret-stream", 2)
