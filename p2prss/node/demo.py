"""The demo: one home publishes a tiny show, another follows it, and its files are compared."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import httpx
import msgspec
import trio

from p2prss.errors import P2prssError
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.node.duties import carry_out
from p2prss.node.events import Event, Published, Ready, Synced
from p2prss.node.node import open_node
from p2prss.node.orders import FollowOrder, PublishOrder, Wanted
from p2prss.node.settings import NodeSettings

E = TypeVar("E", bound=Event)

DEMO_SECONDS = 60.0  # for all of it; it takes about two


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo showed."""

    key: str
    link: str
    feed_url: str
    episodes: int
    bytes: int


@asynccontextmanager
async def run_demo(say: Callable[[str], None]) -> AsyncIterator[DemoResult]:
    """Run the demo; both homes live until the block ends.

    Raises: P2prssError when an episode did not arrive as it left.
    """
    with TemporaryDirectory(prefix="p2prss-demo-") as name:
        folder = Path(name)
        show = folder / "show"
        await trio.Path(show).mkdir()
        say(f"making a show of three melodies in {show}")
        feed_file = await trio.to_thread.run_sync(make_demo_show, show)
        publisher = NodeSettings.of(home=folder / "publisher", listen=["127.0.0.1:0"], no_http=True)
        told = _Told()
        async with (
            open_node(publisher, told.take, with_http=False) as first,
            trio.open_nursery() as nursery,
        ):
            order = PublishOrder(str(feed_file))
            nursery.start_soon(carry_out, first, order, _no)
            with trio.fail_after(DEMO_SECONDS):
                ready = await told.wait(Ready)
                await told.wait(Published)
            say(f"published as {ready.link}")
            listener = NodeSettings.of(home=folder / "listener", http="127.0.0.1:0")
            heard = _Told()
            async with open_node(listener, heard.take) as second:
                following = FollowOrder(ready.link, wanted=Wanted())
                nursery.start_soon(carry_out, second, following, _no)
                with trio.fail_after(DEMO_SECONDS):
                    feed_url = (await heard.wait(Ready)).feed_url
                    say(f"followed from a second home: {feed_url}")
                    await heard.wait(Synced)
                    if feed_url is None:
                        raise P2prssError("the demo's second home serves no feed")
                    episodes, size = await _compare(feed_url, show)
                yield DemoResult(
                    key=ready.key, link=ready.link, feed_url=feed_url, episodes=episodes, bytes=size
                )
            nursery.cancel_scope.cancel()


async def _compare(feed_url: str, show: Path) -> tuple[int, int]:
    """Fetch every episode as a podcast app would; each must be one of the show's files."""
    originals = {_digest(await path.read_bytes()) for path in await trio.Path(show).glob("*.wav")}
    count = size = 0
    async with httpx.AsyncClient(trust_env=False) as client:
        feed = parse_feed((await client.get(feed_url)).raise_for_status().content, url=feed_url)
        for enclosure in (enclosure for item in feed.items for enclosure in item.enclosures):
            body = (await client.get(enclosure.url)).raise_for_status().content
            if _digest(body) not in originals:
                raise P2prssError(f"{enclosure.url} is not what was published")
            originals.discard(_digest(body))
            count, size = count + 1, size + len(body)
    if originals:
        raise P2prssError(f"{len(originals)} episodes of the demo did not arrive")
    return count, size


def _digest(data: bytes) -> bytes:
    return sha256(data).digest()


async def _no(_: str) -> bool:
    return False


class _Told:
    """The events of one node, to wait for."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._news = trio.Event()

    def take(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()
        self._news = trio.Event()

    async def wait(self, kind: type[E]) -> E:
        while True:
            for event in self._events:
                if isinstance(event, kind):
                    return event
            await self._news.wait()
