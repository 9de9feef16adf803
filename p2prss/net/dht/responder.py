"""Answers to what other nodes ask, and the keeping of what they announce.

Wrong writes are met with silence, as in the reference; a wrong token with a fresh one. Nothing answered is
ever larger than one datagram, and all of it is booked on the asker's budget (``rate_limit``).

Source: dht-rpc 6.27.0 index.js ``_onrequest``, hyperdht 6.34.0 lib/persistent.js; spec/07-net.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final

from p2prss.codec.compact import Reader
from p2prss.crypto.hashes import blake2b
from p2prss.errors import DecodeError
from p2prss.net.dht.endpoint import ENDPOINT_SIZE, Endpoint, unpack_endpoint
from p2prss.net.dht.messages import MAX_VALUE, Command, ErrorCode, Internal, Request
from p2prss.net.dht.records import (
    MAX_PEERS,
    MAX_RELAYS,
    Announcement,
    MutablePut,
    PeerRecord,
    encode_lookup_reply,
    peer_target,
)
from p2prss.net.dht.state import NodeState
from p2prss.net.dht.storage import MAX_BUMP_DRIFT, Refresh, Route

MAX_PING_DELAY: Final = 10.0  # seconds
VERIFY_COST: Final = 512  # bytes booked on the budget of a host that wants a signature checked (60 µs)
MAX_DELAYED_PINGS: Final = 256  # waiting at once


_SIGNED: Final = (Command.ANNOUNCE, Command.UNANNOUNCE, Command.MUTABLE_PUT)


class Responder:
    """Answers requests but for PEER_HANDSHAKE and PEER_HOLEPUNCH.

    Args: on_down_hint: called with the address of a node that is said to be dead.
    """

    def __init__(self, state: NodeState, on_down_hint: Callable[[Endpoint, float], None]) -> None:
        self._state = state
        self._on_down_hint = on_down_hint
        self._delayed: list[tuple[float, int, Endpoint, int]] = []  # heap: when, tid, to, socket
        self._commands: dict[int, Callable[[Request, Endpoint, int, float], None]] = {
            Command.FIND_PEER: self._find_peer,
            Command.LOOKUP: self._lookup,
            Command.ANNOUNCE: self._announce,
            Command.UNANNOUNCE: self._unannounce,
            Command.MUTABLE_PUT: self._put_mutable,
            Command.MUTABLE_GET: self._get_mutable,
            Command.IMMUTABLE_PUT: self._put_immutable,
            Command.IMMUTABLE_GET: self._get_immutable,
        }

    def answer(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        """Answer one request, or keep silent. A token it carries is known to be good."""
        if request.internal:
            self._internal(request, source, socket, now)
            return
        handle = self._commands.get(request.command)
        if handle is None or self._state.ephemeral:
            self._refuse(request, source, socket, now, ErrorCode.UNKNOWN_COMMAND)
            return
        if request.command in _SIGNED and not self._state.limit.allows(source.host, VERIFY_COST, now):
            return
        try:
            handle(request, source, socket, now)
        except DecodeError:
            return  # silence, as for any write that is wrong

    @property
    def deadline(self) -> float:
        return self._delayed[0][0] if self._delayed else inf

    def handle_timer(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            _, tid, to, socket = heappop(self._delayed)
            self._state.send_reply(to, tid, socket, now)

    def _internal(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        state, value = self._state, request.value or b""
        match request.command:
            case Internal.PING:
                state.send_reply(source, request.tid, socket, now)
            case Internal.PING_NAT:
                port = int.from_bytes(value[:2], "little")
                if len(value) >= 2 and port:
                    state.send_reply(Endpoint(source.host, port), request.tid, socket, now)
            case Internal.FIND_NODE:
                if request.target is not None:
                    state.send_reply(source, request.tid, socket, now, target=request.target)
            case Internal.DOWN_HINT:
                if len(value) >= ENDPOINT_SIZE:
                    self._on_down_hint(unpack_endpoint(value[:ENDPOINT_SIZE]), now)
                    state.send_reply(source, request.tid, socket, now)
            case Internal.DELAYED_PING:
                delay = int.from_bytes(value[:4], "little") / 1000
                if len(value) >= 4 and delay <= MAX_PING_DELAY and len(self._delayed) < MAX_DELAYED_PINGS:
                    heappush(self._delayed, (now + delay, request.tid, source, socket))
            case _:
                self._refuse(request, source, socket, now, ErrorCode.UNKNOWN_COMMAND)

    def _refuse(self, request: Request, source: Endpoint, socket: int, now: float, error: ErrorCode) -> None:
        self._state.send_reply(source, request.tid, socket, now, target=request.target, error=error)

    def _reply(
        self, request: Request, source: Endpoint, socket: int, now: float, value: bytes | None = None
    ) -> None:
        """The good answer to a question: a token, nearer nodes, and what was asked for."""
        token = self._state.tokens.issue(source.host, now)
        self._state.send_reply(
            source, request.tid, socket, now, value=value, token=token, target=request.target
        )

    # -- peers

    def _find_peer(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        if request.target is not None:
            route = self._state.store.route(request.target, now)
            self._reply(request, source, socket, now, route.record if route is not None else None)

    def _lookup(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        target = request.target
        if target is None:
            return
        store = self._state.store
        records = store.lookup(target, now)
        route = store.route(target, now)
        if route is not None and len(records) < MAX_PEERS:
            records.append(route.record)
        value = encode_lookup_reply(records, store.bump(target)) if records else None
        self._reply(request, source, socket, now, value)

    def _announce(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        target, token, own_id, value = request.target, request.token, self._state.id, request.value
        if target is None or token is None or own_id is None or value is None:
            return
        announcement = Announcement.decode(value)
        if announcement.peer is None:
            if announcement.refresh is None or not self._renew(announcement.refresh, source, socket, now):
                return
        elif not announcement.is_signed(Command.ANNOUNCE, target, own_id, token):
            return
        else:
            peer = announcement.peer
            record = PeerRecord(peer.public_key, peer.relay_addresses[:MAX_RELAYS]).encode()
            is_self = peer_target(peer.public_key) == target
            kept = Refresh(target, peer.public_key, record, is_self)
            drift = announcement.bump - self._state.unix_milliseconds(now)
            self._keep(kept, source, socket, now, announcement.bump if drift <= MAX_BUMP_DRIFT else 0)
            if announcement.refresh is not None:
                self._state.store.set_refresh(announcement.refresh, kept, source.host, now)
        self._state.send_reply(source, request.tid, socket, now)

    def _keep(self, kept: Refresh, source: Endpoint, socket: int, now: float, bump: int = 0) -> None:
        store = self._state.store
        if kept.is_self:
            store.set_route(kept.target, Route(source, socket, kept.record), now)
            store.revoke(kept.target, kept.public_key)
        else:
            store.announce(kept.target, kept.public_key, kept.record, source.host, now, bump=bump)

    def _renew(self, preimage: bytes, source: Endpoint, socket: int, now: float) -> bool:
        kept = self._state.store.take_refresh(blake2b(preimage), now)
        if kept is None:
            return False
        self._keep(kept, source, socket, now)
        self._state.store.set_refresh(preimage, kept, source.host, now)
        return True

    def _unannounce(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        target, token, own_id, value = request.target, request.token, self._state.id, request.value
        if target is None or token is None or own_id is None or value is None:
            return
        announcement = Announcement.decode(value)
        if announcement.peer is None or not announcement.is_signed(Command.UNANNOUNCE, target, own_id, token):
            return
        public_key = announcement.peer.public_key
        if peer_target(public_key) == target:
            self._state.store.delete_route(target)
        self._state.store.revoke(target, public_key)
        self._state.send_reply(source, request.tid, socket, now)

    # -- values

    def _get_mutable(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        if request.target is None or request.value is None:
            return
        oldest_wanted = Reader(request.value).uint()
        stored = self._state.store.mutable(request.target, now)
        good = stored is not None and stored.seq >= oldest_wanted
        self._reply(request, source, socket, now, stored.encode() if stored is not None and good else None)

    def _put_mutable(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        if request.target is None or request.token is None or request.value is None:
            return
        put = MutablePut.decode(request.value)
        if peer_target(put.public_key) != request.target or not put.content.is_signed_by(put.public_key):
            return
        stored = self._state.store.mutable(request.target, now)
        if stored is not None and put.content.seq == stored.seq and put.content.value != stored.value:
            self._refuse(request, source, socket, now, ErrorCode.SEQ_REUSED)
            return
        if stored is not None and put.content.seq < stored.seq:
            self._refuse(request, source, socket, now, ErrorCode.SEQ_TOO_LOW)
            return
        self._state.store.put_mutable(request.target, put.content, source.host, now)
        self._reply(request, source, socket, now)

    def _get_immutable(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        if request.target is not None:
            stored = self._state.store.immutable(request.target, now)
            self._reply(request, source, socket, now, stored)

    def _put_immutable(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        target, value = request.target, request.value
        if target is None or request.token is None or value is None or len(value) > MAX_VALUE:
            return
        if blake2b(value) == target:
            self._state.store.put_immutable(target, value, source.host, now)
            self._reply(request, source, socket, now)
