"""What a drive needs of a log: the interface ``Core``.

A drive neither knows disks nor peers. It talks to two logs through this interface, which the network
layer implements (a block that is not held is fetched from a peer) and tests fake in memory.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import CoreKey
from p2prss.log.manifest import Manifest


class BlockStream(Protocol):
    """Blocks in order, one after the other; ``aclose`` ends the reading and cancels what it asked for.

    An async generator is one. Whoever may stop early closes it, best with ``contextlib.aclosing``.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def __anext__(self) -> Awaitable[bytes]: ...

    def aclose(self) -> Awaitable[None]: ...


class Core(Protocol):
    """One log as a drive sees it. Blocks are counted from 0; ``stop`` is always exclusive.

    The members without ``async`` answer from memory. All blocks that come out are verified.
    Raises: BlockUnavailableError or NoPeersError where a block is not held and nobody sends it in
    time; StorageError from the disk; never anything else because of what a peer said.
    """

    @property
    def key(self) -> CoreKey: ...

    @property
    def manifest(self) -> Manifest | None:
        """Who may sign. ``None`` for a compat core, and until the first signed head has come."""
        ...

    @property
    def length(self) -> int:
        """Blocks in the newest head we know."""
        ...

    @property
    def byte_length(self) -> int: ...

    @property
    def fork(self) -> int:
        """Grows by each truncation: blocks of another fork may differ."""
        ...

    @property
    def writable(self) -> bool: ...

    @property
    def write_lock(self) -> AbstractAsyncContextManager[object]:
        """Held across read, modify and append; one lock per log, not reentrant (a ``trio.Lock``)."""
        ...

    def has(self, index: int) -> bool:
        """Whether the block is held here."""
        ...

    def held(self, start: int, stop: int) -> int:
        """How many of these blocks are held here."""
        ...

    def byte_offset(self, index: int) -> int | None:
        """Bytes in front of a block by the tree nodes held here, if they tell. Their sizes can be forged."""
        ...

    async def get(self, index: int) -> bytes:
        """One block below ``length``, from here or else from a peer."""
        ...

    def read(self, start: int, stop: int) -> BlockStream:
        """Blocks in order, for somebody who waits: the next one first, read-ahead behind it."""
        ...

    async def download(self, start: int, stop: int) -> None:
        """Wait until all these blocks are held; others who wait for blocks go first."""
        ...

    async def append(self, blocks: Sequence[Buffer]) -> int:
        """Add blocks under one signed head, durable on return; all or none. The caller holds ``write_lock``.

        Returns: the index of the first one.
        """
        ...

    async def clear(self, start: int, stop: int) -> None:
        """Forget what is held of these blocks; the log itself stays as it is."""
        ...

    async def seek(self, byte_offset: int) -> tuple[int, int]:
        """The block that holds this byte of the log by its tree, and the byte's place in the block."""
        ...

    async def update(self) -> bool:
        """Ask the peers there are for a newer head, for a bounded time. Returns: whether one came."""
        ...

    async def wait_changed(self, length: int, fork: int) -> None:
        """Wait until ``length`` and ``fork`` are no longer both these."""
        ...


OpenCore = Callable[[CoreKey, Manifest | None], Awaitable[Core]]
"""Opens a log by key; the manifest is given where it is known beforehand.

For the writer of a drive, the opener gives the content core the key pair of the db core.
"""
