"""The Noise handshakes of the Hypercore world: XX inside a stream, IK inside DHT messages.

Participants: an initiator and a responder, each with a static Ed25519 key pair and a fresh ephemeral one.
Goals: two cipher keys and a hash that nobody else has, and each other's static public key. Not a goal:
knowing *who* that key belongs to; access to a core is proven later, per channel (``wire.capability``).

It differs from stock Noise in two ways. Keys are Ed25519 keys, sent and hashed in that form, and the
Diffie-Hellman result is the Ed25519 point, not its X25519 image; and the hash is BLAKE2b with 64 bytes,
so chaining keys and the handshake hash have 64, cipher keys the first 32 of what HKDF gives.

Sources: noise-handshake 4.2.0, noise-curve-ed 2.1.0; The Noise Protocol Framework, revision 34;
spec/04-connection, "Handshake".
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

import nacl.exceptions
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult_ed25519_noclamp,
)

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import KEY_SIZE, KeyPair, PublicKey, SecretKey
from p2prss.errors import LocalProtocolError, RemoteProtocolError

TAG_SIZE: Final = 16  # bytes, Poly1305
HASH_SIZE: Final = 64  # bytes, BLAKE2b-512
CIPHER_KEY_SIZE: Final = 32  # bytes


class Pattern(Enum):
    """Which handshake; the value is its name in the protocol name."""

    XX = "XX"  # both static keys are sent
    IK = "IK"  # the initiator knows the responder's


_Token = Literal["e", "s", "ee", "es", "se", "ss"]  # in a pair the initiator's key is the first letter
_MESSAGES: Final[dict[Pattern, tuple[tuple[_Token, ...], ...]]] = {
    Pattern.XX: (("e",), ("e", "ee", "s", "es"), ("s", "se")),
    Pattern.IK: (("e", "es", "s", "ss"), ("e", "ee", "se")),
}

MESSAGE_SIZES: Final = {Pattern.XX: (32, 96, 64), Pattern.IK: (96, 48)}
"""Bytes of each message without payload: the first is the initiator's, then they take turns."""


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """What both sides hold when the handshake is done; ``send_key`` here is ``receive_key`` there."""

    remote_public_key: PublicKey
    handshake_hash: bytes  # 64 bytes, the same on both sides
    send_key: bytes = field(repr=False)  # 32 bytes
    receive_key: bytes = field(repr=False)  # 32 bytes


class NoiseHandshake:
    """One side of a handshake: ``send`` and ``receive`` in turn, until ``result`` is set.

    Args: ephemeral_seed: 32 fresh random bytes, never used twice; remote_public_key: the responder's
    static key, for an IK initiator only.
    Raises: RemoteProtocolError, the same for every fault of the other side; LocalProtocolError when called
    out of turn.
    """

    def __init__(
        self,
        pattern: Pattern,
        *,
        initiator: bool,
        key_pair: KeyPair,
        ephemeral_seed: bytes,
        prologue: bytes = b"",
        remote_public_key: PublicKey | None = None,
    ) -> None:
        if (remote_public_key is not None) != (pattern is Pattern.IK and initiator):
            raise LocalProtocolError("an IK initiator, and nobody else, needs the remote public key")
        self.result: HandshakeResult | None = None
        self._initiator = initiator
        self._todo = list(_MESSAGES[pattern])
        self._my_turn = initiator
        self._failed = False
        self._static, self._ephemeral = key_pair, KeyPair.from_seed(ephemeral_seed)
        self._remote_static = remote_public_key
        self._remote_ephemeral: PublicKey | None = None
        self._state = _SymmetricState(f"Noise_{pattern.value}_Ed25519_ChaChaPoly_BLAKE2b".encode())
        self._state.mix_hash(prologue)
        if pattern is Pattern.IK:
            self._state.mix_hash(remote_public_key if remote_public_key is not None else key_pair.public_key)

    @property
    def remote_public_key(self) -> PublicKey | None:
        """Whom the messages so far are from, once that has arrived; not proven before ``result`` is set."""
        return self._remote_static

    def send(self, payload: bytes = b"") -> bytes:
        """Make our next message; ``payload`` is encrypted as far as the handshake has got."""
        message = bytearray()
        for step in self._next_message(mine=True):
            if step == "e":
                message += self._ephemeral.public_key
                self._state.mix_hash(self._ephemeral.public_key)
            elif step == "s":
                message += self._state.encrypt(self._static.public_key)
            else:
                self._state.mix_key(self._diffie_hellman(step))
        message += self._state.encrypt(payload)
        self._finish_message()
        return bytes(message)

    def receive(self, message: Buffer) -> bytes:
        """Take the other side's next message; returns its payload."""
        tokens = self._next_message(mine=False)
        rest = bytes(message)
        for step in tokens:
            if step == "e":
                key, rest = self._cut(rest, KEY_SIZE)
                self._remote_ephemeral = PublicKey(key)
                self._state.mix_hash(key)
            elif step == "s":
                sealed, rest = self._cut(rest, KEY_SIZE + TAG_SIZE)
                self._remote_static = PublicKey(self._decrypt(sealed))
            else:
                self._state.mix_key(self._diffie_hellman(step))
        payload = self._decrypt(rest)
        self._finish_message()
        return payload

    def _next_message(self, *, mine: bool) -> tuple[_Token, ...]:
        if self._failed or self.result is not None or mine != self._my_turn:
            raise LocalProtocolError("handshake message out of turn")
        return self._todo.pop(0)

    def _finish_message(self) -> None:
        self._my_turn = not self._my_turn
        if self._todo:
            return
        if self._remote_static is None:
            raise AssertionError("both patterns bring the static key")
        first, second = self._state.split()
        self.result = HandshakeResult(
            self._remote_static,
            self._state.hash,
            send_key=first if self._initiator else second,
            receive_key=second if self._initiator else first,
        )

    def _diffie_hellman(self, step: _Token) -> bytes:
        mine, theirs = (step[0], step[1]) if self._initiator else (step[1], step[0])
        own = self._ephemeral if mine == "e" else self._static
        remote = self._remote_ephemeral if theirs == "e" else self._remote_static
        if remote is None:
            raise AssertionError("the patterns send a key before they use it")
        try:
            return diffie_hellman(own.secret_key, remote)
        except nacl.exceptions.CryptoError:
            raise self._failure() from None

    def _decrypt(self, data: bytes) -> bytes:
        try:
            return self._state.decrypt(data)
        except (nacl.exceptions.CryptoError, ValueError):  # the latter when it is shorter than a tag
            raise self._failure() from None

    def _cut(self, data: bytes, size: int) -> tuple[bytes, bytes]:
        if len(data) < size:
            raise self._failure()
        return data[:size], data[size:]

    def _failure(self) -> RemoteProtocolError:
        """The one error for every fault of theirs: it must not tell which."""
        self._failed = True
        return RemoteProtocolError("handshake failed", reason="handshake")


class _SymmetricState:
    """Chaining key, transcript hash and the current cipher key (the framework's SymmetricState)."""

    def __init__(self, protocol_name: bytes) -> None:
        self.hash = protocol_name.ljust(HASH_SIZE, b"\0")
        self._chaining_key = self.hash
        self._key = b""
        self._nonce = 0

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.blake2b(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = hkdf(self._chaining_key, secret)
        self._key, self._nonce = key[:CIPHER_KEY_SIZE], 0

    def encrypt(self, plaintext: bytes) -> bytes:
        """Seal, once there is a key, and mix what travels into the hash."""
        data = plaintext
        if self._key:
            data = crypto_aead_chacha20poly1305_ietf_encrypt(
                plaintext, self.hash, self._next_nonce(), self._key
            )
        self.mix_hash(data)
        return data

    def decrypt(self, data: bytes) -> bytes:
        plaintext = data
        if self._key:
            plaintext = crypto_aead_chacha20poly1305_ietf_decrypt(
                data, self.hash, self._next_nonce(), self._key
            )
        self.mix_hash(data)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The two transport keys; the first is for what the initiator sends."""
        first, second = hkdf(self._chaining_key, b"")
        return first[:CIPHER_KEY_SIZE], second[:CIPHER_KEY_SIZE]

    def _next_nonce(self) -> bytes:
        nonce = bytes(4) + self._nonce.to_bytes(8, "little")
        self._nonce += 1
        return nonce


def hkdf(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF over HMAC-BLAKE2b-512 as in the Noise framework: two outputs of 64 bytes."""
    temporary = _hmac(chaining_key, secret)
    first = _hmac(temporary, b"\x01")
    return first, _hmac(temporary, first + b"\x02")


def diffie_hellman(secret_key: SecretKey, public_key: PublicKey) -> bytes:
    """The shared Ed25519 point of our secret and their public key, 32 bytes.

    Raises: nacl.exceptions.RuntimeError (a CryptoError) when libsodium refuses the point: not on the curve,
    or of low order.
    """
    scalar = bytearray(hashlib.sha512(secret_key[:32]).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return crypto_scalarmult_ed25519_noclamp(bytes(scalar), public_key)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.blake2b)
