"""A writer of hyper-rss, made of the JavaScript reference: the same cores, names and order of puts."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.interop.js_peer import JsPeer

_NAMES: Final = ("keys", "feed", "blobKeys", "blobs")


@dataclass
class HyperRss:
    """One feed, of four compat cores; ``cores`` maps their names to hex keys."""

    peer: JsPeer
    cores: dict[str, str]
    count: int = 0

    @classmethod
    async def open(cls, peer: JsPeer, *, seed: int = 1) -> Self:
        cores = {}
        for number, name in enumerate(_NAMES):
            cores[name] = (await peer.open_core(seed=bytes([seed, number]) * 16, compat=True)).key
        return cls(peer, cores)

    @property
    def key(self) -> str:
        """What is passed around: the key of the first core, in base64url."""
        return base64url(bytes.fromhex(self.cores["keys"]))

    async def name_cores(self, **others: str) -> None:
        """Write the only block of the first core."""
        named = {name: base64url(bytes.fromhex(self.cores[name])) for name in _NAMES[1:]} | others
        await self.peer.append(self.cores["keys"], [json.dumps({"keys": named}).encode()])

    async def set_metadata(self, **texts: str) -> None:
        for name, text in texts.items():
            await self._put("feed", name, json.dumps(text), sub="metadata")

    async def add_file(self, data: bytes, ending: str) -> str:
        """Store a file, blobs before the name; returns its name."""
        name = base64url(hashlib.sha256(data).digest()) + "." + ending
        blob = await self.peer.call("blobPut", core=self.cores["blobs"], data=base64.b64encode(data).decode())
        await self._put("blobKeys", name, json.dumps(blob))
        return name

    async def add_item(self, guid: str, **members: Any) -> None:
        """Add an item, its number first."""
        await self.add_raw(guid, json.dumps({"guid": guid, **members}))

    async def add_raw(self, guid: str, value: str) -> None:
        await self._put("feed", f"{self.count:06}", guid, sub="order")
        await self._put("feed", guid, value, sub="key")
        self.count += 1

    async def _put(self, core: str, key: str, value: str, sub: str | None = None) -> None:
        await self.peer.call("beePut", core=self.cores[core], key=key, value=value, sub=sub)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
