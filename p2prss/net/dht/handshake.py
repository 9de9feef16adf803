"""What travels in PEER_HANDSHAKE and PEER_HOLEPUNCH: relay envelopes, Noise payloads, sealed punch payloads.

A client and a server that cannot reach each other yet exchange these through a DHT node both can reach. The
relay sees the envelopes only: the Noise payload is encrypted by the handshake (``wire.noise``, pattern IK),
the punch payload by a key made from its hash.

Source: hyperdht 6.34.0 lib/messages.js, lib/router.js, lib/secure-payload.js, lib/noise-wrap.js; spec/07-net.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Self

import nacl.exceptions
from nacl.bindings import crypto_secretbox, crypto_secretbox_open

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KEY_SIZE, PublicKey
from p2prss.errors import DecodeError
from p2prss.net.dht.endpoint import (
    ENDPOINT6_SIZE,
    ENDPOINT_SIZE,
    Endpoint,
    pack_endpoint,
    read_endpoint,
    read_endpoint6,
    read_endpoints,
    write_endpoint6,
    write_endpoints,
)
from p2prss.net.dht.messages import ID_SIZE, Command
from p2prss.net.dht.records import command_namespace

PROLOGUE: Final = command_namespace(Command.PEER_HANDSHAKE)  # of the Noise handshake
PAYLOAD_VERSION: Final = 1
MAX_PUNCH_ROUND: Final = 252  # the reference cannot send more
NONCE_SIZE: Final = 24  # bytes, XSalsa20-Poly1305

_PEER_ADDRESS, _RELAY_ADDRESS = 1, 2  # flags of the envelopes


class Mode(IntEnum):
    """Which leg of its way an envelope is on."""

    FROM_CLIENT = 0
    FROM_SERVER = 1
    FROM_RELAY = 2
    FROM_SECOND_RELAY = 3
    REPLY = 4


class Firewall(IntEnum):
    """How a peer says it can be reached."""

    UNKNOWN = 0
    OPEN = 1  # anybody may send
    CONSISTENT = 2  # a NAT that keeps one public port per socket
    RANDOM = 3  # a NAT with a port per destination


class HandshakeError(IntEnum):
    """What a peer says is wrong with an attempt."""

    NONE = 0
    ABORTED = 1
    VERSION_MISMATCH = 2
    TRY_LATER = 3


@dataclass(frozen=True, slots=True)
class HandshakeEnvelope:
    """The value of PEER_HANDSHAKE.

    Wire: flags | mode uint | noise buffer | [peer address 6] | [relay address 6].
    """

    mode: int
    noise: bytes
    peer_address: Endpoint | None = None
    relay_address: Endpoint | None = None

    def encode(self) -> bytes:
        out = Writer()
        out.uint((_PEER_ADDRESS if self.peer_address else 0) | (_RELAY_ADDRESS if self.relay_address else 0))
        out.uint(self.mode)
        out.buffer(self.noise)
        for address in (self.peer_address, self.relay_address):
            if address is not None:
                out.raw(pack_endpoint(address))
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        flags, mode, noise = src.uint(), src.uint(), bytes(src.buffer())
        peer_address = read_endpoint(src) if flags & _PEER_ADDRESS else None
        return cls(mode, noise, peer_address, read_endpoint(src) if flags & _RELAY_ADDRESS else None)


@dataclass(frozen=True, slots=True)
class HolepunchEnvelope:
    """The value of PEER_HOLEPUNCH.

    Wire: flags | mode uint | id uint | payload buffer | [peer address 6].
    """

    mode: int
    id: int  # the server's slot for this attempt
    payload: bytes  # sealed
    peer_address: Endpoint | None = None

    def encode(self) -> bytes:
        out = Writer()
        out.uint(_PEER_ADDRESS if self.peer_address else 0)
        out.uint(self.mode)
        out.uint(self.id)
        out.buffer(self.payload)
        if self.peer_address is not None:
            out.raw(pack_endpoint(self.peer_address))
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        flags, mode, number, payload = src.uint(), src.uint(), src.uint(), bytes(src.buffer())
        return cls(mode, number, payload, read_endpoint(src) if flags & _PEER_ADDRESS else None)


# ---------------------------------------------------------------- the payload inside the Noise messages

_HOLEPUNCH, _ADDRESSES4, _ADDRESSES6, _UDX, _SECRET_STREAM, _RELAY_THROUGH, _RELAYS = (
    1 << bit for bit in range(7)
)


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """A node that relays for a server, and the server's address as that node sees it."""

    relay_address: Endpoint
    peer_address: Endpoint


@dataclass(frozen=True, slots=True)
class HolepunchInfo:
    """Where and under which number a server takes punch messages: id uint | array of two addresses each."""

    id: int
    relays: tuple[RelayInfo, ...]

    def write(self, out: Writer) -> None:
        out.uint(self.id)
        out.uint(len(self.relays))
        for relay in self.relays:
            out.raw(pack_endpoint(relay.relay_address) + pack_endpoint(relay.peer_address))

    @classmethod
    def read(cls, src: Reader) -> Self:
        def relay(src: Reader) -> RelayInfo:
            return RelayInfo(read_endpoint(src), read_endpoint(src))

        return cls(src.uint(), tuple(src.array(relay, 2 * ENDPOINT_SIZE)))


@dataclass(frozen=True, slots=True)
class UdxInfo:
    """The raw stream of a side: version uint 1 | features uint (1 = reusable socket) | id uint | seq uint."""

    id: int
    seq: int = 0
    reusable_socket: bool = False
    version: int = 1

    def write(self, out: Writer) -> None:
        for value in (self.version, int(self.reusable_socket), self.id, self.seq):
            out.uint(value)

    @classmethod
    def read(cls, src: Reader) -> Self:
        version, features, stream_id, seq = src.uint(), src.uint(), src.uint(), src.uint()
        if stream_id > 0xFFFFFFFF:
            raise DecodeError("a stream id has 32 bits", offset=src.position)
        return cls(stream_id, seq, bool(features & 1), version)


@dataclass(frozen=True, slots=True)
class RelayThrough:
    """A blind relay to meet at: version uint 1 | flags uint 0 | public key 32 | token 32."""

    public_key: PublicKey
    token: bytes = field(repr=False)
    version: int = 1

    def write(self, out: Writer) -> None:
        out.uint(self.version)
        out.uint(0)
        out.fixed(self.public_key, KEY_SIZE)
        out.fixed(self.token, ID_SIZE)

    @classmethod
    def read(cls, src: Reader) -> Self:
        version, _ = src.uint(), src.uint()
        return cls(PublicKey(src.fixed(KEY_SIZE)), src.fixed(ID_SIZE), version)


@dataclass(frozen=True, slots=True)
class NoisePayload:
    """What each side tells the other about how to reach it.

    Wire: version uint | flags uint | error uint | firewall uint | [holepunch] | [addresses4] | [addresses6] |
    [udx] | [secret stream version uint] | [relay through] | [relay addresses]. After another version than 1
    nothing is read.
    """

    error: int = 0
    firewall: int = Firewall.UNKNOWN
    holepunch: HolepunchInfo | None = None
    addresses4: tuple[Endpoint, ...] = ()
    addresses6: tuple[Endpoint, ...] = ()
    udx: UdxInfo | None = None
    secret_stream: int | None = None  # its version
    relay_through: RelayThrough | None = None
    relay_addresses: tuple[Endpoint, ...] | None = None
    version: int = PAYLOAD_VERSION

    def encode(self) -> bytes:
        out = Writer()
        out.uint(self.version)
        out.uint(
            (_HOLEPUNCH if self.holepunch is not None else 0)
            | (_ADDRESSES4 if self.addresses4 else 0)
            | (_ADDRESSES6 if self.addresses6 else 0)
            | (_UDX if self.udx is not None else 0)
            | (_SECRET_STREAM if self.secret_stream is not None else 0)
            | (_RELAY_THROUGH if self.relay_through is not None else 0)
            | (_RELAYS if self.relay_addresses is not None else 0)
        )
        out.uint(self.error)
        out.uint(self.firewall)
        if self.holepunch is not None:
            self.holepunch.write(out)
        if self.addresses4:
            write_endpoints(out, self.addresses4)
        if self.addresses6:
            out.uint(len(self.addresses6))
            for address in self.addresses6:
                write_endpoint6(out, address)
        if self.udx is not None:
            self.udx.write(out)
        if self.secret_stream is not None:
            out.uint(self.secret_stream)
        if self.relay_through is not None:
            self.relay_through.write(out)
        if self.relay_addresses is not None:
            write_endpoints(out, self.relay_addresses)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        version = src.uint()
        if version != PAYLOAD_VERSION:
            return cls(version=version)
        flags, error, firewall = src.uint(), src.uint(), src.uint()
        return cls(
            error,
            firewall,
            HolepunchInfo.read(src) if flags & _HOLEPUNCH else None,
            read_endpoints(src) if flags & _ADDRESSES4 else (),
            tuple(src.array(read_endpoint6, ENDPOINT6_SIZE)) if flags & _ADDRESSES6 else (),
            UdxInfo.read(src) if flags & _UDX else None,
            src.uint() if flags & _SECRET_STREAM else None,
            RelayThrough.read(src) if flags & _RELAY_THROUGH else None,
            read_endpoints(src) if flags & _RELAYS else None,
        )


# ---------------------------------------------------------------- the payload of punch messages

_CONNECTED, _PUNCHING, _ADDRESSES, _REMOTE_ADDRESS, _TOKEN, _REMOTE_TOKEN = (1 << bit for bit in range(6))


@dataclass(frozen=True, slots=True)
class HolepunchPayload:
    """What two peers tell each other while they punch.

    Wire: flags | error uint | firewall uint | round uint | [addresses] | [remote address 6] | [token 32] |
    [remote token 32].
    """

    error: int = 0
    firewall: int = Firewall.UNKNOWN
    round: int = 0
    connected: bool = False
    punching: bool = False
    addresses: tuple[Endpoint, ...] | None = None
    remote_address: Endpoint | None = None
    token: bytes | None = None
    remote_token: bytes | None = None

    def encode(self) -> bytes:
        out = Writer()
        out.uint(
            (_CONNECTED if self.connected else 0)
            | (_PUNCHING if self.punching else 0)
            | (_ADDRESSES if self.addresses is not None else 0)
            | (_REMOTE_ADDRESS if self.remote_address is not None else 0)
            | (_TOKEN if self.token is not None else 0)
            | (_REMOTE_TOKEN if self.remote_token is not None else 0)
        )
        for value in (self.error, self.firewall, self.round):
            out.uint(value)
        if self.addresses is not None:
            write_endpoints(out, self.addresses)
        if self.remote_address is not None:
            out.raw(pack_endpoint(self.remote_address))
        for token in (self.token, self.remote_token):
            if token is not None:
                out.fixed(token, ID_SIZE)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        flags, error, firewall, number = src.uint(), src.uint(), src.uint(), src.uint()
        return cls(
            error,
            firewall,
            number,
            bool(flags & _CONNECTED),
            bool(flags & _PUNCHING),
            read_endpoints(src) if flags & _ADDRESSES else None,
            read_endpoint(src) if flags & _REMOTE_ADDRESS else None,
            src.fixed(ID_SIZE) if flags & _TOKEN else None,
            src.fixed(ID_SIZE) if flags & _REMOTE_TOKEN else None,
        )

    def seal(self, key: bytes, nonce: bytes) -> bytes:
        """Encrypt under the attempt's key; ``nonce`` is 24 fresh random bytes."""
        return nonce + crypto_secretbox(self.encode(), nonce, key)

    @classmethod
    def open(cls, sealed: Buffer, key: bytes) -> Self:
        """Decrypt and read.

        Raises: DecodeError when it was not sealed with ``key``, or is no payload.
        """
        data = bytes(sealed)
        try:
            plain = crypto_secretbox_open(data[NONCE_SIZE:], data[:NONCE_SIZE], key)
        except (nacl.exceptions.CryptoError, nacl.exceptions.ValueError):
            raise DecodeError("not sealed with this key") from None
        return cls.decode(plain)


def holepunch_key(handshake_hash: bytes) -> bytes:
    """The key of an attempt's punch payloads."""
    return blake2b(command_namespace(Command.PEER_HOLEPUNCH), key=handshake_hash)


def holepunch_token(secret: bytes, host: str) -> bytes:
    """Proof, handed back, that a host receives what is sent to it."""
    return blake2b(host.encode("ascii"), key=secret)
