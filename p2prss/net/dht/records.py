"""What nodes keep for others: announcements of peers, and small signed or hashed values.

A signature of an announcement covers the id and the token of the one node it is sent to, so it cannot be
replayed elsewhere; a mutable value is signed for everybody.

Source: hyperdht 6.34.0 lib/messages.js, lib/persistent.js; spec/07-net.
"""

from dataclasses import dataclass
from typing import Final, Self

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KEY_SIZE, KeyPair, PublicKey
from p2prss.crypto.namespaces import namespace
from p2prss.crypto.signatures import SIGNATURE_SIZE, sign, verify
from p2prss.net.dht.endpoint import Endpoint, read_endpoints, write_endpoints
from p2prss.net.dht.messages import ID_SIZE, MAX_VALUE, Command

MAX_RELAYS: Final = 3  # relay addresses a node keeps of one record
MAX_PEERS: Final = 20  # records in one lookup reply

_NAMESPACES: Final = {
    command: namespace("hyperswarm/dht", command)
    for command in (
        Command.ANNOUNCE,
        Command.UNANNOUNCE,
        Command.MUTABLE_PUT,
        Command.PEER_HANDSHAKE,
        Command.PEER_HOLEPUNCH,
        Command.PLUGIN,
    )
}

_PEER, _REFRESH, _SIGNATURE, _BUMP = 1, 2, 4, 8  # flags of an announcement


def command_namespace(command: Command) -> bytes:
    """The 32 bytes in front of what is signed or hashed for a command."""
    return _NAMESPACES[command]


def peer_target(public_key: PublicKey) -> bytes:
    """Where in the table a public key is looked for."""
    return blake2b(public_key)


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Somebody who can be dialled.

    Wire: public key 32 | relay addresses (array of 6 bytes each).
    """

    public_key: PublicKey
    relay_addresses: tuple[Endpoint, ...] = ()

    def write(self, out: Writer) -> None:
        out.fixed(self.public_key, KEY_SIZE)
        write_endpoints(out, self.relay_addresses)

    def encode(self) -> bytes:
        out = Writer()
        self.write(out)
        return out.finish()

    @classmethod
    def read(cls, src: Reader) -> Self:
        return cls(PublicKey(src.fixed(KEY_SIZE)), read_endpoints(src))

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        return cls.read(Reader(data))


@dataclass(frozen=True, slots=True)
class LookupReply:
    """Who was announced under a topic, as one node tells it.

    Wire: array of peer records | bump uint (missing in old replies).
    """

    peers: tuple[PeerRecord, ...]
    bump: int = 0  # newest time given by an announcer, milliseconds since 1970

    def encode(self) -> bytes:
        return encode_lookup_reply([peer.encode() for peer in self.peers], self.bump)

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        peers = tuple(src.array(PeerRecord.read, KEY_SIZE + 1))
        return cls(peers, src.uint() if src.remaining else 0)


def encode_lookup_reply(records: list[bytes], bump: int) -> bytes:
    """A lookup reply of records that are encoded already, as they are stored."""
    out = Writer()
    out.uint(len(records))
    for record in records:
        out.raw(record)
    out.uint(bump)
    return out.finish()


@dataclass(frozen=True, slots=True)
class Announcement:
    """The value of ANNOUNCE and UNANNOUNCE: a signed record, or only the preimage of a refresh hash.

    Wire: flags | [peer record] | [refresh 32] | [signature 64] | [bump uint].
    """

    peer: PeerRecord | None
    refresh: bytes | None = None
    signature: bytes | None = None
    bump: int = 0  # milliseconds since 1970; not signed

    def encode(self) -> bytes:
        out = Writer()
        out.uint(
            (_PEER if self.peer is not None else 0)
            | (_REFRESH if self.refresh is not None else 0)
            | (_SIGNATURE if self.signature is not None else 0)
            | (_BUMP if self.bump else 0)
        )
        if self.peer is not None:
            self.peer.write(out)
        if self.refresh is not None:
            out.fixed(self.refresh, ID_SIZE)
        if self.signature is not None:
            out.fixed(self.signature, SIGNATURE_SIZE)
        if self.bump:
            out.uint(self.bump)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        flags = src.uint()
        return cls(
            PeerRecord.read(src) if flags & _PEER else None,
            src.fixed(ID_SIZE) if flags & _REFRESH else None,
            src.fixed(SIGNATURE_SIZE) if flags & _SIGNATURE else None,
            src.uint() if flags & _BUMP else 0,
        )

    def is_signed(self, command: Command, target: bytes, node: bytes, token: bytes) -> bool:
        """Whether the announced key signed this, for this very node and token."""
        if self.peer is None or self.signature is None:
            return False
        signable = announce_signable(command, target, node, token, self.peer, self.refresh)
        return verify(signable, self.signature, self.peer.public_key)


def announce_signable(
    command: Command, target: bytes, node: bytes, token: bytes, peer: PeerRecord, refresh: bytes | None = None
) -> bytes:
    """The 64 bytes an announcer signs for the node with id ``node``, which gave out ``token``."""
    return command_namespace(command) + blake2b(target, node, token, peer.encode(), refresh or b"")


def sign_announcement(
    command: Command,
    target: bytes,
    node: bytes,
    token: bytes,
    peer: PeerRecord,
    key_pair: KeyPair,
    *,
    refresh: bytes | None = None,
    bump: int = 0,
) -> Announcement:
    """An announcement (or its revocation) for one node."""
    signable = announce_signable(command, target, node, token, peer, refresh)
    return Announcement(peer, refresh, sign(signable, key_pair.secret_key), bump)


@dataclass(frozen=True, slots=True)
class MutableValue:
    """A value that only the holder of a key can replace, by one with a higher number.

    Wire: seq uint | value buffer | signature 64; the request to store it has the public key in front.
    """

    seq: int
    value: bytes
    signature: bytes

    @classmethod
    def signed(cls, seq: int, value: bytes, key_pair: KeyPair) -> Self:
        return cls(seq, value, sign(mutable_signable(seq, value), key_pair.secret_key))

    def is_signed_by(self, public_key: PublicKey) -> bool:
        return verify(mutable_signable(self.seq, self.value), self.signature, public_key)

    def write(self, out: Writer) -> None:
        out.uint(self.seq)
        out.buffer(self.value)
        out.fixed(self.signature, SIGNATURE_SIZE)

    def encode(self) -> bytes:
        out = Writer()
        self.write(out)
        return out.finish()

    @classmethod
    def read(cls, src: Reader) -> Self:
        return cls(src.uint(), bytes(src.buffer(MAX_VALUE)), src.fixed(SIGNATURE_SIZE))

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        return cls.read(Reader(data))


@dataclass(frozen=True, slots=True)
class MutablePut:
    """The value of MUTABLE_PUT."""

    public_key: PublicKey
    content: MutableValue

    def encode(self) -> bytes:
        out = Writer()
        out.fixed(self.public_key, KEY_SIZE)
        self.content.write(out)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        return cls(PublicKey(src.fixed(KEY_SIZE)), MutableValue.read(src))


def mutable_signable(seq: int, value: bytes) -> bytes:
    """The 64 bytes signed for a mutable value."""
    out = Writer()
    out.uint(seq)
    out.buffer(value)
    return command_namespace(Command.MUTABLE_PUT) + blake2b(out.finish())


@dataclass(frozen=True, slots=True)
class DhtAddress:
    """A public key to dial, with nodes that may relay for it.

    Wire: key 32 | [flags uint | [array of endpoints]]; a bare key is valid.
    """

    public_key: PublicKey
    nodes: tuple[Endpoint, ...] = ()

    def encode(self) -> bytes:
        out = Writer()
        out.fixed(self.public_key, KEY_SIZE)
        out.uint(1 if self.nodes else 0)
        if self.nodes:
            write_endpoints(out, self.nodes)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        key = PublicKey(src.fixed(KEY_SIZE))
        flags = src.uint() if src.remaining else 0
        return cls(key, read_endpoints(src) if flags & 1 else ())


@dataclass(frozen=True, slots=True)
class PluginRequest:
    """The value of PLUGIN; read and written for completeness, no plugin is served.

    Wire: plugin string | version uint | command uint | flags uint | [value buffer].
    """

    plugin: str
    version: int
    command: int
    value: bytes | None = None

    def encode(self) -> bytes:
        out = Writer()
        out.string(self.plugin)
        out.uint(self.version)
        out.uint(self.command)
        out.uint(0 if self.value is None else 1)
        if self.value is not None:
            out.buffer(self.value)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        plugin, version, command, flags = src.string(), src.uint(), src.uint(), src.uint()
        return cls(plugin, version, command, bytes(src.buffer()) if flags & 1 else None)
