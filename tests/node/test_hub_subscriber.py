"""A publisher and a hub on loopback: asked, verified, and heard when it tells of news."""

import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
import trio

from p2prss.errors import UsageError
from p2prss.feed.origin.access import Access
from p2prss.node.duties import carry_out
from p2prss.node.events import Event, Notice, Published, Waiting
from p2prss.node.node import open_node
from p2prss.node.orders import PublishOrder
from p2prss.node.settings import NodeSettings
from tests.fakes.quiet_origin import QuietOrigin

FEED = """<rss xmlns:atom="http://www.w3.org/2005/Atom"><channel><title>Mine</title>
<atom:link rel="hub" href="{0}"/><item><guid>1</guid><title>{1}</title></item></channel></rss>"""


ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FakeHub:
    """Answers one request at a time with 202, and keeps their forms."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/hub"
        self.forms: list[dict[str, str]] = []
        self.headers: list[bytes] = []
        self.news = trio.Event()

    async def run(self) -> None:
        while True:
            stream = await self._listener.accept()
            async with stream:
                data = b""
                while b"\r\n\r\n" not in data or b"hub.lease_seconds" not in data:
                    data += await stream.receive_some(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                self.headers.append(head.lower())
                self.forms.append({name: values[0] for name, values in parse_qs(body.decode()).items()})
                await stream.send_all(
                    b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            self.news.set()


class Told(list[Event]):
    """What a node tells."""

    def __init__(self) -> None:
        super().__init__()
        self._news = trio.Event()

    def tell(self, event: Event) -> None:
        self.append(event)
        self._news.set()
        self._news = trio.Event()

    async def until(self, kind: type[Event], count: int) -> None:
        with trio.fail_after(20):
            while sum(isinstance(event, kind) for event in self) < count:
                await self._news.wait()


async def test_a_hub_is_asked_verified_and_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2prss.node.publisher.NEWS_GAP_SECONDS", 0.0)
    (tmp_path / "o").mkdir()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    hub, told = FakeHub(listener), Told()

    async def no(_: str) -> bool:
        return False

    settings = NodeSettings.of(home=tmp_path / "home", http="127.0.0.1:0", lan=False)
    with QuietOrigin(tmp_path / "o") as origin:
        (tmp_path / "o/feed.xml").write_text(FEED.format(hub.url, "One"))
        async with listener, open_node(settings, told.tell) as node, trio.open_nursery() as nursery:
            nursery.start_soon(hub.run)
            assert node.http_url is not None
            order = PublishOrder(
                origin.feed_url,
                allow_private=True,
                websub_callback=f"{node.http_url}/",
                access=Access.of(private_hosts=["127.0.0.1"], credentials="Cookie: sid=auch"),
            )
            nursery.start_soon(carry_out, node, order, no)
            with trio.fail_after(20):
                await hub.news.wait()
            (form,) = hub.forms
            assert form["hub.topic"] == order.source
            assert form["hub.callback"].startswith(f"{node.http_url}/websub/")
            assert b"auch" not in hub.headers[0]
            async with httpx.AsyncClient(trust_env=False) as client:
                query = {"hub.mode": "subscribe", "hub.topic": form["hub.topic"], "hub.challenge": "xyz"}
                reply = await client.get(form["hub.callback"], params=query)
                assert (reply.status_code, reply.text) == (200, "xyz")
                reply = await client.get(form["hub.callback"], params=query | {"hub.topic": "x"})
                assert reply.status_code == 404
                forged = form["hub.callback"][:-1] + ("A" if form["hub.callback"][-1] != "A" else "B")
                assert (await client.get(forged, params=query)).status_code == 404
                assert (await client.put(form["hub.callback"])).status_code == 405

                await told.until(Waiting, 1)
                (tmp_path / "o/feed.xml").write_text(FEED.format(hub.url, "One, mended"))
                body = b"<rss/>"
                reply = await client.post(
                    form["hub.callback"], content=body, headers={"X-Hub-Signature": f"sha256={'0' * 64}"}
                )
                assert reply.status_code == 202
                await trio.sleep(0.2)
                assert sum(isinstance(event, Published) for event in told) == 1  # a forger is not heard
                signature = hmac.new(form["hub.secret"].encode(), body, hashlib.sha256).hexdigest()
                reply = await client.post(
                    form["hub.callback"], content=body, headers={"X-Hub-Signature": f"sha256={signature}"}
                )
                assert reply.status_code == 202
                await told.until(Published, 2)
            nursery.cancel_scope.cancel()
    updates = [event for event in told if isinstance(event, Published)]
    assert (updates[1].changed, updates[1].unchanged) == (1, False)
    assert not [one for one in told if isinstance(one, Notice) and form["hub.secret"] in one.message]


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "a.example", "https://a.example/?x=1", "https://u@a.example/"]
)
async def test_a_callback_is_an_address(tmp_path: Path, url: str) -> None:
    from p2prss.node.node import run_order

    async def no(_: str) -> bool:
        return False

    order = PublishOrder("https://a.example/feed", websub_callback=url)
    with pytest.raises(UsageError, match="--websub-callback"):
        await run_order(NodeSettings.of(home=tmp_path / "home"), order, lambda _: None, no)
    assert not (tmp_path / "home").exists()
