"""Ed25519 signatures with libsodium's strictness: no weak points, no malleable encodings.

Source: hypercore-crypto ``sign`` and ``verify``.
"""

from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

from p2prss.crypto.keys import KEY_SIZE, PublicKey, SecretKey

SIGNATURE_SIZE: Final = 64  # bytes


def sign(message: bytes, secret_key: SecretKey) -> bytes:
    """Sign; the same message and key give the same 64 bytes."""
    return crypto_sign(message, secret_key)[:SIGNATURE_SIZE]


def verify(message: bytes, signature: bytes, public_key: PublicKey) -> bool:
    """Whether the holder of ``public_key`` signed ``message``; false for a signature or key of wrong size."""
    if len(signature) != SIGNATURE_SIZE or len(public_key) != KEY_SIZE:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
