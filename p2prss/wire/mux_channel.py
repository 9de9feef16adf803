"""Our end of one channel of a multiplexer: where it is, and what can happen to it there.

Source: protomux 3.12.1; spec/04-connection, "Channels".
"""

from enum import Enum
from typing import Final, Protocol

from p2prss.codec.compact import Buffer
from p2prss.errors import LocalProtocolError


class ChannelState(Enum):
    """Where one of our channels is; the value is what an error message says."""

    OFFERED = "offered"  # our open is out, no answer yet
    OPEN = "open"
    WITHDRAWN = "withdrawn"  # closed by us before the answer; its number is not free yet
    CLOSED = "closed"  # by us
    GONE = "gone"  # rejected or closed by the remote


class Step(Enum):
    """What can happen to a channel."""

    CLOSE = "close"
    REMOTE_OPEN = "remote open"
    REMOTE_REJECT = "remote reject"
    REMOTE_CLOSE = "remote close"


TRANSITIONS: Final = {
    (ChannelState.OFFERED, Step.REMOTE_OPEN): ChannelState.OPEN,
    (ChannelState.OFFERED, Step.REMOTE_REJECT): ChannelState.GONE,
    (ChannelState.OFFERED, Step.CLOSE): ChannelState.WITHDRAWN,
    (ChannelState.OPEN, Step.CLOSE): ChannelState.CLOSED,
    (ChannelState.OPEN, Step.REMOTE_CLOSE): ChannelState.GONE,
    (ChannelState.WITHDRAWN, Step.REMOTE_OPEN): ChannelState.CLOSED,
    (ChannelState.WITHDRAWN, Step.REMOTE_REJECT): ChannelState.CLOSED,
}


class Carrier(Protocol):
    """What a channel is carried by: its ``Mux``, as it knows it."""

    def send(self, local_id: int, message_type: int, parts: tuple[Buffer, ...]) -> None:
        """Send one message on a channel."""

    def close(self, channel: "MuxChannel") -> None:
        """Close our end of a channel that is not closed."""


class MuxChannel:
    """Our end of one channel. Made by ``Mux.open``, closed by either side."""

    __slots__ = ("_carrier", "id", "local_id", "protocol", "remote_handshake", "remote_id", "state")

    def __init__(self, carrier: Carrier, protocol: str, channel_id: bytes, local_id: int) -> None:
        self.protocol = protocol
        self.id = channel_id
        self.local_id = local_id  # our number, in what we send
        self.remote_id: int | None = None  # theirs, in what they send; set while open
        self.remote_handshake: bytes | None = None  # set once open
        self.state = ChannelState.OFFERED
        self._carrier = carrier

    def __repr__(self) -> str:
        return f"<MuxChannel {self.local_id} {self.protocol} {self.id.hex()[:8]} {self.state.value}>"

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more, and nothing will come."""
        return self.state is not ChannelState.OPEN and self.state is not ChannelState.OFFERED

    def send(self, message_type: int, *parts: Buffer) -> None:
        """Send one message; its parts are copied once, before this returns or, corked, at the uncork.

        It may be sent while the channel is only offered: the remote keeps a little until it has opened too.
        On a channel that the remote has closed it is dropped, as the event that tells may still be unread.
        Raises: LocalProtocolError when we closed the channel or the message is above the size of a frame.
        """
        if not self.closed:
            self._carrier.send(self.local_id, message_type, parts)
        elif self.state is not ChannelState.GONE:
            raise LocalProtocolError(f"send on a channel that is {self.state.value}")

    def close(self) -> None:
        """Close both directions; what the remote has sent since is ignored. Closing twice does nothing."""
        if not self.closed:
            self._carrier.close(self)

    def step(self, step: Step) -> None:
        """Change state. Raises: LocalProtocolError, having changed nothing, when the step is not allowed."""
        try:
            self.state = TRANSITIONS[self.state, step]
        except KeyError:
            raise LocalProtocolError(f"{step.value} while {self.state.value}") from None
