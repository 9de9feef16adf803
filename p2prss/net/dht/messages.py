"""The datagrams of dht-rpc: one request or one reply each.

Participants: any two nodes; there is no session. The first byte is ``type << 4 | version``, a reply carries
the tid of its request, and ``to`` tells the receiver under which address it was seen. A node id is kept
only when it is the hash of the datagram's source: what cannot be true is as good as absent.

Source: dht-rpc 6.27.0 lib/io.js, hyperdht 6.34.0 lib/constants.js; spec/07-net.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.errors import DecodeError
from p2prss.net.dht.endpoint import (
    ENDPOINT_SIZE,
    Endpoint,
    node_id,
    pack_endpoint,
    read_endpoints,
    unpack_endpoint,
    write_endpoints,
)

VERSION: Final = 3
REQUEST: Final = 0 << 4 | VERSION  # first byte
REPLY: Final = 1 << 4 | VERSION  # first byte
ID_SIZE: Final = 32  # bytes: ids, targets and tokens alike
MAX_DATAGRAM: Final = 2047  # bytes; a JavaScript peer loses what is longer
MAX_VALUE: Final = 1000  # bytes a node stores or sends for others; fits any path with all headers

_HEADER_SIZE: Final = 4  # bytes: type, flags, tid

# flags of both kinds; 4 and 8 mean something else in each
_ID, _TOKEN, _VALUE = 1, 2, 16
_INTERNAL, _TARGET = 4, 8  # of requests
_CLOSER, _ERROR = 4, 8  # of replies


class Internal(IntEnum):
    """Commands every node knows (the ``internal`` flag is set)."""

    PING = 0
    PING_NAT = 1  # answer to another port of mine
    FIND_NODE = 2
    DOWN_HINT = 3  # a node you named is dead
    DELAYED_PING = 4


class Command(IntEnum):
    """Commands of HyperDHT."""

    PEER_HANDSHAKE = 0
    PEER_HOLEPUNCH = 1
    FIND_PEER = 2
    LOOKUP = 3
    ANNOUNCE = 4
    UNANNOUNCE = 5
    MUTABLE_PUT = 6
    MUTABLE_GET = 7
    IMMUTABLE_PUT = 8
    IMMUTABLE_GET = 9
    PLUGIN = 10


class ErrorCode(IntEnum):
    """Why a request was refused."""

    NONE = 0
    UNKNOWN_COMMAND = 1
    INVALID_TOKEN = 2
    SEQ_REUSED = 16  # another value is stored under that number
    SEQ_TOO_LOW = 17


@dataclass(frozen=True, slots=True)
class Request:
    """A question.

    Wire: 03 | flags | tid u16 | to 6 | [id 32] | [token 32] | command uint | [target 32] | [value buffer].
    """

    tid: int
    to: Endpoint  # where it is sent, not whence
    command: int
    internal: bool = False
    id: bytes | None = None
    token: bytes | None = None
    target: bytes | None = None
    value: bytes | None = None

    def encode(self) -> bytes:
        flags = (
            (_ID if self.id is not None else 0)
            | (_TOKEN if self.token is not None else 0)
            | (_INTERNAL if self.internal else 0)
            | (_TARGET if self.target is not None else 0)
            | (_VALUE if self.value is not None else 0)
        )
        out = Writer()
        out.raw(bytes((REQUEST, flags, self.tid & 0xFF, self.tid >> 8)))
        out.raw(pack_endpoint(self.to))
        _write_fixed(out, self.id, self.token)
        out.uint(self.command)
        _write_fixed(out, self.target)
        if self.value is not None:
            out.buffer(self.value)
        return out.finish()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Wire: 13 | flags | tid u16 | to 6 | [id 32] | [token 32] | [closer nodes] | [error uint] | [value buffer].
    """

    tid: int
    to: Endpoint  # the asker, as the answerer sees it
    id: bytes | None = None
    token: bytes | None = None
    closer_nodes: tuple[Endpoint, ...] = ()
    error: int = 0
    value: bytes | None = None

    def encode(self) -> bytes:
        flags = (
            (_ID if self.id is not None else 0)
            | (_TOKEN if self.token is not None else 0)
            | (_CLOSER if self.closer_nodes else 0)
            | (_ERROR if self.error else 0)
            | (_VALUE if self.value is not None else 0)
        )
        out = Writer()
        out.raw(bytes((REPLY, flags, self.tid & 0xFF, self.tid >> 8)))
        out.raw(pack_endpoint(self.to))
        _write_fixed(out, self.id, self.token)
        if self.closer_nodes:
            write_endpoints(out, self.closer_nodes)
        if self.error:
            out.uint(self.error)
        if self.value is not None:
            out.buffer(self.value)
        return out.finish()


def _write_fixed(out: Writer, *fields: bytes | None) -> None:
    for field in fields:
        if field is not None:
            out.fixed(field, ID_SIZE)


def is_dht_datagram(data: Buffer) -> bool:
    """Whether a datagram is meant for ``decode_datagram``, and not a punch probe or of another protocol."""
    return len(data) > 1 and data[0] in (REQUEST, REPLY)


def decode_datagram(data: Buffer, source: Endpoint) -> Request | Reply:
    """Read one datagram that came from ``source``; unknown flags and trailing bytes are ignored.

    Raises: DecodeError, and nothing else.
    """
    if len(data) < _HEADER_SIZE + ENDPOINT_SIZE or data[0] not in (REQUEST, REPLY):
        raise DecodeError("no dht-rpc datagram")
    flags = data[1]
    tid = data[2] | data[3] << 8
    to = unpack_endpoint(bytes(data[_HEADER_SIZE : _HEADER_SIZE + ENDPOINT_SIZE]))
    src = Reader(data, _HEADER_SIZE + ENDPOINT_SIZE)
    sender_id = src.fixed(ID_SIZE) if flags & _ID else None
    if sender_id is not None and sender_id != node_id(source):
        sender_id = None
    token = src.fixed(ID_SIZE) if flags & _TOKEN else None
    if data[0] == REQUEST:
        command = src.uint()
        target = src.fixed(ID_SIZE) if flags & _TARGET else None
        value = bytes(src.buffer()) if flags & _VALUE else None
        return Request(tid, to, command, bool(flags & _INTERNAL), sender_id, token, target, value)
    closer_nodes = read_endpoints(src) if flags & _CLOSER else ()
    error = src.uint() if flags & _ERROR else 0
    value = bytes(src.buffer()) if flags & _VALUE else None
    return Reply(tid, to, sender_id, token, closer_nodes, error, value)
