"""One encrypted, multiplexed connection between two peers, as a machine without I/O.

Participants: whoever dialled (the initiator) and whoever was dialled. The machine is driven by its caller
(``open``, ``send``), by the peer (``receive``) and by the clock (``handle_timer``); the current time and all
randomness are arguments. Its life::

    Noise XX in frames of 32, 96, 64 bytes -> a header frame of 56 bytes from each side -> data frames

A connection that was agreed on elsewhere (Noise IK in DHT messages) starts at the header. Not goals: closing
one direction only (the reference does not know it), and telling who the peer is: it is known by its public
key, and may see a core only after its capability was checked (``wire.capability``).

Memory per connection, at worst: one frame being assembled (``MAX_FRAME_BYTES``, 16 MiB, and only as much as
the peer really sent) + what we queued and the peer does not read (``MAX_QUEUED_BYTES``, 64 MiB) + channels
(16 MiB, if it knows of so many logs, see ``mux``) = 96 MiB for a peer that tries hard, some kilobytes for one
that rests; and while what it sent is handled, which one connection at a time is, one plaintext (16 MiB) and
the events of a batch (19 MiB). Whoever writes answers stops above its own, lower mark on ``queued_bytes``.

Sources: @hyperswarm/secret-stream 6.9.2; spec/04-connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.units import MIB
from p2prss.wire.framing import LENGTH_SIZE, MAX_FRAME_BYTES, FrameReader
from p2prss.wire.mux import ChannelEvent, Mux, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel
from p2prss.wire.noise import MESSAGE_SIZES, HandshakeResult, NoiseHandshake, Pattern
from p2prss.wire.secret_stream import (
    HEADER_FRAME_SIZE,
    MAX_PLAINTEXT_BYTES,
    OVERHEAD,
    STREAM_ID_SIZE,
    FrameOpener,
    FrameSealer,
    stream_id,
)

HANDSHAKE_SECONDS: Final = 10.0  # from the start until the peer's header is there
KEEP_ALIVE_SECONDS: Final = 5.0  # of our own silence, then an empty frame is sent
SILENCE_SECONDS: Final = 30.0  # of the peer's, then it counts as gone; it sends keep-alives too
MAX_QUEUED_BYTES: Final = 64 * MIB  # not written yet; a peer that lets so much pile up is dropped


class Ready(NamedTuple):
    """The handshake is done: channels can be opened."""

    remote_public_key: PublicKey
    handshake_hash: bytes  # 64 bytes, the same on both sides and on no other connection


Event = Ready | ChannelEvent


class State(Enum):
    """What the connection waits for; the value is what an error message says."""

    HANDSHAKE = "in its handshake"
    HEADER = "waiting for the peer's header"
    OPEN = "open"
    CLOSED = "closed"


class Connection:
    """The machine. After RemoteProtocolError from any member it is closed, and the link is to be cut.

    Args:
        initiator: whether we dialled.
        key_pair: our static key pair.
        ephemeral_seed: 32 random bytes, used for this connection only.
        stream_header: 24 random bytes, used for this connection only.
        now: the time in seconds, of any clock that never goes back.
        handshake: the result of a handshake that was made elsewhere; then none is made here.
    """

    def __init__(
        self,
        *,
        initiator: bool,
        key_pair: KeyPair,
        ephemeral_seed: bytes,
        stream_header: bytes,
        now: float,
        handshake: HandshakeResult | None = None,
    ) -> None:
        self.initiator = initiator
        self.state = State.HANDSHAKE
        self.handshake: HandshakeResult | None = None  # set when it is done
        self.queued_bytes = 0  # waiting in data_to_send
        self._stream_header = stream_header
        self._reader = FrameReader()
        self._mux = Mux(self._send_plaintext, MAX_PLAINTEXT_BYTES)
        self._mux_events = self._mux.events
        self._ready: list[Event] = []
        self._out: list[Buffer] = []
        self._sealer: FrameSealer | None = None
        self._opener: FrameOpener | None = None
        self._now = now
        self._handshake_at = now + HANDSHAKE_SECONDS
        self._keep_alive_at = inf
        self._silent_at = inf
        self._noise: NoiseHandshake | None = None
        if handshake is not None:
            self._finish_handshake(handshake)
            return
        self._noise = NoiseHandshake(
            Pattern.XX, initiator=initiator, key_pair=key_pair, ephemeral_seed=ephemeral_seed
        )
        first, second, third = MESSAGE_SIZES[Pattern.XX]
        self._awaited_sizes = [second] if initiator else [third, first]  # the next one is last
        if initiator:
            self._send_raw(self._noise.send())

    # ---- the caller

    @property
    def closed(self) -> bool:
        """Nothing more is taken or given."""
        return self.state is State.CLOSED

    @property
    def held_bytes(self) -> int:
        """What the peer makes us keep now: an unfinished frame, and what waits to be written."""
        return self._reader.held_bytes + self.queued_bytes

    @property
    def deadline(self) -> float:
        """When to call ``handle_timer``; in the past when there are events to be fetched."""
        if self._mux_events or self._ready:
            return -inf
        if self.state is State.OPEN:
            return min(self._keep_alive_at, self._silent_at)
        return inf if self.closed else min(self._handshake_at, self._keep_alive_at)

    def open(self, protocol: str, channel_id: bytes, handshake: bytes = b"") -> MuxChannel:
        """Open our end of a channel; ``Opened`` or ``Rejected`` tells how the remote took it.

        If the remote had opened it before, it is open when this returns; ``Opened`` and the messages that
        waited come with the next events, and ``deadline`` says that there are some.
        Raises: LocalProtocolError before ``Ready``, and when the channel is already there.
        """
        if self._sealer is None:
            raise LocalProtocolError("a channel opened before the handshake is done")
        return self._mux.open(protocol, channel_id, handshake)

    def reject(self, remote_open: RemoteOpen) -> None:
        """Refuse a channel that the remote opened; nothing happens when it is answered already."""
        self._mux.reject(remote_open)

    def cork(self) -> None:
        """Collect all that is sent into one frame, until ``uncork``; calls nest."""
        self._mux.cork()

    def uncork(self) -> None:
        """Undo one ``cork``; the last one sends what was collected."""
        self._mux.uncork()

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Cork for the length of a block."""
        self._mux.cork()
        try:
            yield
        finally:
            self._mux.uncork()

    def keep_alive(self) -> None:
        """Send an empty frame now: it tells the peer that this connection is in use."""
        self._send_plaintext([])

    def data_to_send(self) -> list[Buffer]:
        """All frames made since the last call, in the order in which they must be written."""
        out, self._out, self.queued_bytes = self._out, [], 0
        return out

    def events(self) -> list[Event]:
        """Events that calls of ours caused, such as an ``open`` that found the remote's waiting."""
        events: list[Event] = [*self._ready, *self._mux.take_events()]
        self._ready.clear()
        return events

    def close(self) -> None:
        """Stop: nothing is said to the peer, the link's end tells it. What is queued can still be written."""
        self.state = State.CLOSED
        self._sealer = self._opener = None

    # ---- the peer

    def receive(self, data: Buffer, now: float) -> list[Event]:
        """Take bytes, cut anywhere; ``data`` may be reused afterwards. Empty means the stream has ended.

        Raises: RemoteProtocolError, and nothing else, whatever the bytes are.
        """
        if self.closed:
            raise LocalProtocolError("the connection is closed")
        self._now = now
        if not len(data):
            self.close()
            return self.events()
        if self.state is State.OPEN:
            self._silent_at = now + SILENCE_SECONDS
        try:
            self._reader.feed(data)
            while self._receive_frame():
                pass
            if self.queued_bytes > MAX_QUEUED_BYTES:
                raise RemoteProtocolError("the peer does not read", reason="flood")
        except RemoteProtocolError:
            self.close()
            raise
        return self.events()

    def _receive_frame(self) -> bool:
        """Handle the next frame; false when it is not whole yet."""
        if self._opener is not None:
            body = self._reader.next_frame(OVERHEAD, MAX_FRAME_BYTES)
            if body is None:
                return False
            self._mux.receive(memoryview(self._opener.open(body)))
            return True
        size = HEADER_FRAME_SIZE if self.state is State.HEADER else self._awaited_sizes[-1]
        body = self._reader.next_frame(size, size)
        if body is None:
            return False
        if self.state is State.HEADER:
            self._receive_header(bytes(body))
        else:
            self._receive_noise(bytes(body))
        return True

    def _receive_noise(self, message: bytes) -> None:
        noise = self._noise
        if noise is None:
            raise AssertionError("there is no handshake to take part in")
        noise.receive(message)
        self._awaited_sizes.pop()
        if noise.result is None:
            self._send_raw(noise.send())
        if noise.result is not None:
            self._noise = None
            self._finish_handshake(noise.result)

    def _finish_handshake(self, result: HandshakeResult) -> None:
        self.handshake = result
        self.state = State.HEADER
        self._send_raw(stream_id(result.handshake_hash, initiator=self.initiator) + self._stream_header)
        self._sealer = FrameSealer(result.send_key, self._stream_header)
        self._keep_alive_at = self._now + KEEP_ALIVE_SECONDS
        self._ready.append(Ready(result.remote_public_key, result.handshake_hash))

    def _receive_header(self, header: bytes) -> None:
        result = self.handshake
        if result is None:
            raise AssertionError("the header comes after the handshake")
        expected = stream_id(result.handshake_hash, initiator=not self.initiator)
        if header[:STREAM_ID_SIZE] != expected:
            raise RemoteProtocolError("the header is of another stream", reason="handshake")
        self._opener = FrameOpener(result.receive_key, header[STREAM_ID_SIZE:])
        self.state = State.OPEN
        self._silent_at = self._now + SILENCE_SECONDS

    # ---- the clock

    def handle_timer(self, now: float) -> list[Event]:
        """Do what is due at ``now``.

        Raises: RemoteProtocolError with the reason ``timeout``: the peer takes too long, or is gone.
        """
        self._now = now
        if self.closed:
            return self.events()
        late = self._silent_at if self.state is State.OPEN else self._handshake_at
        if now >= late:
            self.close()
            raise RemoteProtocolError("the peer is silent", reason="timeout")
        if now >= self._keep_alive_at:
            self._send_plaintext([])
        return self.events()

    # ---- sending

    def _send_raw(self, body: bytes) -> None:
        self._queue(len(body).to_bytes(LENGTH_SIZE, "little") + body)

    def _send_plaintext(self, parts: list[Buffer]) -> None:
        if self._sealer is not None:  # else closed meanwhile: nobody is there to read it
            self._queue(self._sealer.seal(parts))
            self._keep_alive_at = self._now + KEEP_ALIVE_SECONDS

    def _queue(self, frame: Buffer) -> None:
        self._out.append(frame)
        self.queued_bytes += len(frame)
