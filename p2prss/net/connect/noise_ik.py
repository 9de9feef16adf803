"""The handshake of a connect, without I/O: message 1 asks, message 2 answers, both carry a payload.

Participants: a client that knows the server's public key, and the server; DHT nodes pass the messages on and
cannot read them. Goals: keys for the secret stream, the client's key proven to the server, and what each
side needs to find the other. Not a goal: freshness on the server's side. Whoever recorded a message 1 can
send it again, so a server counts a connection only after the stream's header came, which a recording
cannot contain.

Source: hyperdht 6.34.0 lib/noise-wrap.js, lib/connect.js, lib/server.js; spec/07-net.
"""

from copy import deepcopy
from typing import Final, NamedTuple

from p2prss.crypto.keys import KEY_SIZE, KeyPair, PublicKey
from p2prss.errors import DecodeError, RemoteProtocolError
from p2prss.net.dht.handshake import PAYLOAD_VERSION, PROLOGUE, HandshakeError, NoisePayload
from p2prss.net.dht.messages import MAX_VALUE
from p2prss.wire.noise import MESSAGE_SIZES, HandshakeResult, NoiseHandshake, Pattern

MESSAGE1_SIZE: Final = MESSAGE_SIZES[Pattern.IK][0]  # bytes, with an empty payload
MAX_MESSAGE: Final = MAX_VALUE  # bytes of one Noise message with its payload


class Outcome(NamedTuple):
    """A handshake that is done."""

    result: HandshakeResult
    payload: NoisePayload  # the remote's


class ClientHandshake:
    """One attempt to reach ``public_key``; ``message`` may be sent over any number of relays.

    Args: ephemeral_seed: 32 fresh random bytes, for this attempt only.
    """

    def __init__(
        self, key_pair: KeyPair, public_key: PublicKey, payload: NoisePayload, ephemeral_seed: bytes
    ) -> None:
        self._noise = NoiseHandshake(
            Pattern.IK,
            initiator=True,
            key_pair=key_pair,
            ephemeral_seed=ephemeral_seed,
            prologue=PROLOGUE,
            remote_public_key=public_key,
        )
        self.message = self._noise.send(payload.encode())

    def receive(self, reply: bytes) -> Outcome:
        """Take a message 2. One that is wrong changes nothing: the next may be the server's own.

        Raises: RemoteProtocolError when it is not from the server, or its payload makes no sense.
        """
        if len(reply) > MAX_MESSAGE:
            raise RemoteProtocolError("the handshake reply is too long", reason="handshake")
        noise = deepcopy(self._noise)
        payload = NoisePayload.decode(noise.receive(reply))
        if noise.result is None:
            raise AssertionError("message 2 is the last")
        return Outcome(noise.result, payload)


class ServerHandshake:
    """A message 1 that was read; ``reply`` makes the message 2 for it.

    Args: ephemeral_seed: 32 fresh random bytes, for this attempt only.
    Raises: RemoteProtocolError when the message is not meant for this key, or its payload makes no sense.
    """

    def __init__(self, key_pair: KeyPair, message: bytes, ephemeral_seed: bytes) -> None:
        if not MESSAGE1_SIZE <= len(message) <= MAX_MESSAGE:
            raise RemoteProtocolError("no handshake message", reason="handshake")
        self._noise = NoiseHandshake(
            Pattern.IK, initiator=False, key_pair=key_pair, ephemeral_seed=ephemeral_seed, prologue=PROLOGUE
        )
        self.payload = NoisePayload.decode(self._noise.receive(message))
        remote = self._noise.remote_public_key
        if remote is None:
            raise AssertionError("message 1 brings the client's key")
        self.public_key = remote  # proven: its key went into the cipher the payload was under

    @property
    def error(self) -> HandshakeError:
        """What has to be answered: ``NONE`` when the client can be served."""
        if self.payload.version != PAYLOAD_VERSION:
            return HandshakeError.VERSION_MISMATCH
        return HandshakeError.NONE if self.payload.udx is not None else HandshakeError.ABORTED

    def reply(self, payload: NoisePayload) -> tuple[bytes, HandshakeResult]:
        """Message 2, and what both sides then share."""
        message = self._noise.send(payload.encode())
        if self._noise.result is None:
            raise AssertionError("message 2 is the last")
        return message, self._noise.result


def ephemeral_of(message: bytes) -> bytes:
    """The client's ephemeral key, which stands open in front of its message 1: never used twice."""
    if len(message) < KEY_SIZE:
        raise DecodeError("no handshake message")
    return message[:KEY_SIZE]
