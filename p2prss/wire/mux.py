"""The multiplexer: many channels over one stream of plaintext frames.

Participants: the two ends of a connection, alike. Goals: channels named by (protocol, id) that either side
opens and either side closes; several messages in one frame. Not goals: flow control and half-closed
channels.

A frame is ``uint channel | uint type | payload``, where the channel number is the *sender's*; number 0 is
for control. A channel is open once each side has sent an open for the same (protocol, id). What the remote
sends before we have opened too is kept, within limits, and handed out when we do.

Memory per connection, at worst: ``MAX_CHANNELS`` x (protocol, id, handshake and our objects, about 2 KiB) =
16 MiB for channels, of which those we have not answered count too, plus ``MAX_PENDING_BYTES`` for what came
on these; and, only while one batch is handled, ``MAX_BATCH_MESSAGES`` x 300 bytes (19 MiB) of events.

Source: protomux 3.12.1; spec/04-connection, "Channels".
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.units import KIB, MIB
from p2prss.wire.mux_channel import ChannelState, MuxChannel, Step

MAX_CHANNELS: Final = 8192  # open and unanswered ones; what the remote opens beyond is rejected
MAX_UNANSWERED: Final = 512  # opens of the remote that were handed out and not answered; likewise
MAX_PENDING_BYTES: Final = 32 * KIB  # of messages on channels we have not opened yet, all together
PENDING_MESSAGE_COST: Final = 512  # bytes counted for each such message on top of its size
MAX_PROTOCOL_BYTES: Final = 128
MAX_ID_BYTES: Final = 128
MAX_HANDSHAKE_BYTES: Final = 1 * KIB
MAX_BATCH_MESSAGES: Final = 64 * 1024  # items of one batch: each costs some 300 bytes as an event
BATCH_BYTES: Final = 8 * MIB  # a batch of this size is sent before the next message is added

_BATCH, _OPEN, _REJECT, _CLOSE = 0, 1, 2, 3  # control types
_CONTROL: Final = 0  # the control channel
_SMALL_UINTS: Final = [bytes((number,)) for number in range(0xFD)]

_ChannelName = tuple[str, bytes]  # protocol, id


class RemoteOpen(NamedTuple):
    """The remote opened a channel that we have not: open the same (protocol, id), or reject this."""

    remote_id: int
    protocol: str
    id: bytes  # empty when it has none
    handshake: bytes


class Opened(NamedTuple):
    """Both sides have opened the channel."""

    channel: MuxChannel
    remote_handshake: bytes


class Rejected(NamedTuple):
    """The remote does not open a channel we offered."""

    channel: MuxChannel


class Closed(NamedTuple):
    """The remote closed an open channel."""

    channel: MuxChannel


class Received(NamedTuple):
    """A message. The payload is a view of its frame, or of a copy: it stays good."""

    channel: MuxChannel
    type: int
    payload: memoryview


ChannelEvent = RemoteOpen | Opened | Rejected | Closed | Received


class _Pending:
    """An open of the remote's that we have not answered, and the messages that came on it since."""

    __slots__ = ("messages", "open", "size")

    def __init__(self, remote_open: RemoteOpen) -> None:
        self.open = remote_open
        self.messages: list[tuple[int, bytes]] = []
        self.size = 0  # bytes, as counted against MAX_PENDING_BYTES


class Mux:
    """All channels of one connection.

    Args: send_frame: takes the plaintext of one frame, in parts, and copies them before it returns; largest:
    bytes that fit in one frame.
    """

    def __init__(self, send_frame: Callable[[list[Buffer]], None], largest: int) -> None:
        self.events: list[ChannelEvent] = []  # in order; whoever drives the mux takes them
        self._send_frame = send_frame
        self._largest = largest
        self._channels: dict[int, MuxChannel] = {}  # by local id, while not closed
        self._free_local: list[int] = []
        self._named: dict[_ChannelName, MuxChannel] = {}  # offered or open
        self._offers: dict[_ChannelName, deque[MuxChannel]] = {}  # offered or withdrawn, oldest first
        self._remote: dict[int, MuxChannel | _Pending] = {}  # by remote id
        self._highest_remote = 0
        self._pending: dict[_ChannelName, _Pending] = {}
        self._pending_size = 0
        self._untold = 0  # opens of the remote in ``events``: nobody can have answered them yet
        self._corks = 0
        self._batch: list[Buffer] = []
        self._batch_size = 0
        self._batch_channel = _CONTROL

    # ---- what we do

    def open(self, protocol: str, channel_id: bytes, handshake: bytes = b"") -> MuxChannel:
        """Open our end. If the remote's open waits, the channel is open at once, else it is offered.

        Raises: LocalProtocolError when we already have the channel.
        """
        name = protocol, channel_id
        if name in self._named:
            raise LocalProtocolError(f"channel {protocol} {channel_id.hex()} is already there")
        local_id = self._free_local.pop() if self._free_local else len(self._channels) + 1
        channel = MuxChannel(self, protocol, channel_id, local_id)
        self._channels[local_id] = self._named[name] = channel
        out = Writer()
        out.uint(local_id)
        out.string(protocol)
        out.optional_buffer(channel_id)
        out.raw(handshake)
        self._send_control(_OPEN, out.finish())
        pending = self._pending.get(name)
        if pending is None:
            self._offers.setdefault(name, deque()).append(channel)
        else:
            self._drop(pending)
            self._pair(channel, pending.open)
            for message_type, payload in pending.messages:
                self.events.append(Received(channel, message_type, memoryview(payload)))
        return channel

    def reject(self, remote_open: RemoteOpen) -> None:
        """Refuse what the remote opened; nothing happens when it is answered already, or withdrawn."""
        pending = self._remote.get(remote_open.remote_id)
        if isinstance(pending, _Pending) and pending.open is remote_open:
            self._reject(pending)

    def close(self, channel: MuxChannel) -> None:
        """Close our end of a channel that is not closed."""
        remote_id = channel.remote_id
        channel.step(Step.CLOSE)
        del self._named[channel.protocol, channel.id]
        if remote_id is not None:
            self._release(channel)
        self._send_control(_CLOSE, _uint(channel.local_id))

    def send(self, local_id: int, message_type: int, parts: tuple[Buffer, ...]) -> None:
        """Send one message on a channel, or add it to the batch while corked."""
        if self._corks:
            self._add_to_batch(local_id, [_uint(message_type), *parts])
        else:
            self._send_frame([_uint(local_id) + _uint(message_type), *parts])

    def cork(self) -> None:
        """Collect messages until ``uncork``; calls nest. What they refer to must not change meanwhile."""
        self._corks += 1

    def uncork(self) -> None:
        """Undo one ``cork``; the last one sends what was collected, as one frame."""
        if self._corks == 0:
            raise LocalProtocolError("uncork without cork")
        self._corks -= 1
        if self._corks == 0:
            self._flush()

    def take_events(self) -> list[ChannelEvent]:
        """What happened since the last call."""
        events = self.events[:]
        self.events.clear()
        self._untold = 0
        return events

    # ---- what the remote does

    def receive(self, frame: memoryview) -> None:
        """Take the plaintext of one frame; what follows from it is added to ``events``.

        Raises: RemoteProtocolError, and nothing else, whatever the bytes are.
        """
        if len(frame) >= 2 and 0 < frame[0] < 0xFD and frame[1] < 0xFD:  # one message: nearly every frame
            self._receive_message(frame[0], frame[1], frame[2:])
        elif len(frame):
            src = Reader(frame)
            channel, message_type = src.uint(), src.uint()
            if channel == _CONTROL and message_type == _BATCH:
                self._receive_batch(src)
            elif channel == _CONTROL:
                self._receive_control(message_type, src)
            else:
                self._receive_message(channel, message_type, src.rest())

    def _receive_batch(self, src: Reader) -> None:
        self.cork()  # our answers to it, if any, are one batch too
        try:
            self._receive_items(src)
        finally:
            self.uncork()

    def _receive_items(self, src: Reader) -> None:
        channel = src.uint()
        for _ in range(MAX_BATCH_MESSAGES):
            if not src.remaining:
                return
            size = src.uint()
            if size == 0:
                channel = src.uint()
                continue
            item = Reader(src.view(min(size, src.remaining)))
            message_type = item.uint()
            if channel != _CONTROL:
                self._receive_message(channel, message_type, item.rest())
            elif message_type == _BATCH:
                raise RemoteProtocolError("a batch inside a batch", reason="bad-mux")
            else:
                self._receive_control(message_type, item)
        if src.remaining:
            raise RemoteProtocolError("too many messages in one batch", reason="flood")

    def _receive_message(self, remote_id: int, message_type: int, payload: memoryview) -> None:
        channel = self._remote.get(remote_id)
        if isinstance(channel, MuxChannel):
            self.events.append(Received(channel, message_type, payload))
        elif channel is not None:
            cost = len(payload) + PENDING_MESSAGE_COST
            if self._pending_size + cost > MAX_PENDING_BYTES:
                raise RemoteProtocolError("too much on channels that are not open", reason="flood")
            channel.messages.append((message_type, bytes(payload)))
            channel.size += cost
            self._pending_size += cost
        # else it came on a channel that was closed meanwhile

    def _receive_control(self, control_type: int, src: Reader) -> None:
        if control_type == _OPEN:
            self._receive_open(src)
        elif control_type == _REJECT:
            self._receive_reject(src.uint())
        elif control_type == _CLOSE:
            self._receive_close(src.uint())
        # else a later version speaks: ignored, as the reference does

    def _receive_open(self, src: Reader) -> None:
        remote_open = RemoteOpen(
            src.uint(),
            src.string(MAX_PROTOCOL_BYTES),
            bytes(src.buffer(MAX_ID_BYTES)),
            _handshake(src.rest()),
        )
        remote_id, name = remote_open.remote_id, (remote_open.protocol, remote_open.id)
        if remote_id in self._remote or not 0 < remote_id <= self._highest_remote + 1:
            raise RemoteProtocolError(
                f"open under the number {remote_id}, which is not free", reason="bad-mux"
            )
        self._highest_remote = max(self._highest_remote, remote_id)
        offers = self._offers.get(name)
        if offers:
            channel = self._take_offer(offers.popleft())
            if channel.closed:  # withdrawn before this open was sent or came
                channel.step(Step.REMOTE_OPEN)
                self._release(channel)
            else:
                self._pair(channel, remote_open)
        elif name in self._named or name in self._pending or not self._has_room():
            self._send_control(_REJECT, _uint(remote_id))
        else:
            self._remote[remote_id] = self._pending[name] = _Pending(remote_open)
            self.events.append(remote_open)
            self._untold += 1

    def _receive_reject(self, local_id: int) -> None:
        channel = self._channels.get(local_id)
        if channel is None or channel.state is ChannelState.OPEN:
            raise RemoteProtocolError(f"reject of {local_id}, which was not offered", reason="bad-mux")
        self._offers[channel.protocol, channel.id].remove(channel)
        self._take_offer(channel)
        if not channel.closed:
            del self._named[channel.protocol, channel.id]
            self.events.append(Rejected(channel))
        channel.step(Step.REMOTE_REJECT)
        self._release(channel)

    def _receive_close(self, remote_id: int) -> None:
        channel = self._remote.get(remote_id)
        if isinstance(channel, MuxChannel):
            channel.step(Step.REMOTE_CLOSE)
            del self._named[channel.protocol, channel.id]
            self._release(channel)
            self.events.append(Closed(channel))
        elif channel is not None:
            self._reject(channel)  # their number is free for them only when we answer
        # else both sides closed at once

    # ---- bookkeeping

    def _has_room(self) -> bool:
        """Whether one more open of the remote may wait for an answer."""
        return len(self._remote) < MAX_CHANNELS and len(self._pending) - self._untold < MAX_UNANSWERED

    def _pair(self, channel: MuxChannel, remote_open: RemoteOpen) -> None:
        channel.step(Step.REMOTE_OPEN)
        channel.remote_id = remote_open.remote_id
        channel.remote_handshake = remote_open.handshake
        self._remote[remote_open.remote_id] = channel
        self.events.append(Opened(channel, remote_open.handshake))

    def _take_offer(self, channel: MuxChannel) -> MuxChannel:
        name = channel.protocol, channel.id
        if not self._offers[name]:
            del self._offers[name]
        return channel

    def _release(self, channel: MuxChannel) -> None:
        """Give back both numbers of a closed channel."""
        del self._channels[channel.local_id]
        self._free_local.append(channel.local_id)
        if channel.remote_id is not None:
            del self._remote[channel.remote_id]
            channel.remote_id = None

    def _reject(self, pending: _Pending) -> None:
        self._drop(pending)
        self._send_control(_REJECT, _uint(pending.open.remote_id))

    def _drop(self, pending: _Pending) -> None:
        del self._remote[pending.open.remote_id]
        del self._pending[pending.open.protocol, pending.open.id]
        self._pending_size -= pending.size

    def _send_control(self, control_type: int, payload: bytes) -> None:
        self.send(_CONTROL, control_type, (payload,))

    def _add_to_batch(self, channel: int, parts: list[Buffer]) -> None:
        size = sum(map(len, parts))
        room = size + 32  # head of the batch, channel switch, item length
        if room > self._largest:
            raise LocalProtocolError(f"a message of {size} bytes does not fit in one frame")
        if self._batch_size >= BATCH_BYTES or self._batch_size + room > self._largest:
            self._flush()
        if not self._batch:
            self._batch = [b"\0\0" + _uint(channel)]
        elif channel != self._batch_channel:
            self._batch.append(b"\0" + _uint(channel))
        self._batch_channel = channel
        self._batch.append(_uint(size))
        self._batch += parts
        self._batch_size += room

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_size = self._batch, [], 0
            self._send_frame(batch)


def _uint(value: int) -> bytes:
    if value < 0xFD:
        return _SMALL_UINTS[value]
    out = Writer()
    out.uint(value)
    return out.finish()


def _handshake(data: memoryview) -> bytes:
    if len(data) > MAX_HANDSHAKE_BYTES:
        raise RemoteProtocolError(f"a channel handshake of {len(data)} bytes", reason="bad-mux")
    return bytes(data)
