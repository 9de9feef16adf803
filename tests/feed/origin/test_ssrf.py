"""What a feed names cannot lead to the local network, however it is written, answered or redirected.

The resolver and the sockets are fakes that note what is asked of them: a refusal comes before any socket
tries to connect.
"""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from p2prss.errors import FetchError, PrivateAddressError, UsageError
from p2prss.feed.mirroring.report import MediaFailed
from p2prss.feed.origin.access import Access, PrivateHost
from p2prss.feed.origin.address import is_public
from p2prss.feed.origin.fetch import Fetcher, Retries
from p2prss.feed.origin.network import VettingBackend
from p2prss.units import MIB
from tests.fakes.quiet_origin import QuietOrigin
from tests.fakes.studio import Studio

PUBLIC = "93.184.216.34"
ONCE = Retries(attempts=1)


class DeadSocket:
    """Notes where it is to connect to, and fails."""

    def __init__(self, tried: list[tuple[str, int]]) -> None:
        self._tried = tried

    async def connect(self, address: tuple[Any, ...]) -> None:
        self._tried.append((address[0], address[1]))
        raise ConnectionRefusedError

    def close(self) -> None:
        pass


@dataclass
class Internet(trio.abc.HostnameResolver, trio.abc.SocketFactory):
    """Names with their answers, the last of which stays; and nobody at any address."""

    names: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)
    tried: list[tuple[str, int]] = field(default_factory=list)

    async def getaddrinfo(  # type: ignore[override]  # trio's stub gives less than trio's own functions
        self, host: bytes | None, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        name = (host or b"").decode()
        self.lookups.append(name)
        answers = self.names.get(name)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in found
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError

    def socket(self, *_: Any, **__: Any) -> trio.socket.SocketType:
        return cast("trio.socket.SocketType", DeadSocket(self.tried))


@pytest.fixture
async def internet() -> Internet:
    """Instead of the machine's, for one test."""
    found = Internet()
    trio.socket.set_custom_hostname_resolver(found)
    trio.socket.set_custom_socket_factory(found)
    return found


async def refusal(
    tmp_path: Path, url: str, *, source: str = "https://show.example/feed.xml", **options: Any
) -> str:
    """The one line that says why a URL is not fetched."""
    async with Fetcher(source, **options) as fetcher:
        with pytest.raises(FetchError) as caught:
            await fetcher.fetch(url, tmp_path / "body", max_bytes=MIB, retries=ONCE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


INNER_ADDRESSES = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::a00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "64:ff9b:1:ffff::a00:1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:1::1", "2001:db8::1", "3fff::1"),
    *("fc00::1", "fd12:3456:789a::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "100::1"),
]


@pytest.mark.parametrize("address", INNER_ADDRESSES)
async def test_a_name_with_an_inner_address_is_refused(
    internet: Internet, tmp_path: Path, address: str
) -> None:
    internet.names["cdn.example"] = [[address]]
    assert not is_public(address)
    assert "local network" in await refusal(tmp_path, "https://cdn.example/a.mp3")
    assert internet.lookups == ["cdn.example"]
    assert not internet.tried


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
        ),
        *("0", "0.0.0.0", "10.1", "192.168.257", "169.254.169.254", "0xA9FEA9FE", "2852039166"),
        *("127.0.0.1:22", "user@127.0.0.1", "public.example@127.0.0.1", "public.example:80@10.0.0.1"),
        *("public.example%2f@127.0.0.1", "public.example\\@127.0.0.1", "@127.0.0.1", ":@127.0.0.1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]"),
        *("[64:ff9b::127.0.0.1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]", "[ff02::1]"),
        *("127.0.0.1\u3002", "127\u30020\u30020\u30021", "0x7f\u30021"),
    ],
)
async def test_an_inner_address_is_refused_in_every_spelling(
    internet: Internet, tmp_path: Path, host: str
) -> None:
    internet.names["public.example"] = [[PUBLIC]]
    internet.names["127.0.0.1."] = [["127.0.0.1"]]  # as some resolvers answer
    text = await refusal(tmp_path, f"http://{host}/a.mp3")
    assert "local network" in text or "unreadable" in text
    assert not internet.tried


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "localhost..", "a.localhost", "ip6-localhost", "nas.local"),
        *("router.lan", "127.0.0.1.nip.example", "xn--bcher-kva.example", "bücher.example", "BÜCHER.example"),
    ],
)
async def test_a_name_of_the_local_network_is_refused(internet: Internet, tmp_path: Path, host: str) -> None:
    for name in (host, host.lower(), "xn--bcher-kva.example"):
        internet.names[name] = [["127.0.0.1"]]
    text = await refusal(tmp_path, f"http://{host}/a.mp3")
    assert "local network" in text or "unreadable" in text or "resolved" in text
    assert not internet.tried


@pytest.mark.parametrize(
    "host",
    [
        *(
            "１２７.０.０.１",
            "１２７。０。０。１",
            "①②⑦.⓪.⓪.①",
            "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
            "127.0.0.1%00",
            "127.0.0.1%2f",
            "[::1%25lo]",
        ),
        *("[fe80::1%25eth0]", "[::1", "127.0.0.1:99999", "127.0.0.1:x", "a b.example", "[v1.x]"),
    ],
)
async def test_a_host_that_cannot_be_read_is_refused(internet: Internet, tmp_path: Path, host: str) -> None:
    await refusal(tmp_path, f"http://{host}/a.mp3")
    assert not internet.tried


async def test_a_name_is_looked_up_once_and_that_answer_is_connected_to(
    internet: Internet, tmp_path: Path
) -> None:
    internet.names["cdn.example"] = [[PUBLIC], ["127.0.0.1"]]
    await refusal(tmp_path, "https://cdn.example/a.mp3")
    assert internet.lookups == ["cdn.example"]
    assert internet.tried == [(PUBLIC, 443)]
    assert "local network" in await refusal(tmp_path, "https://cdn.example/a.mp3")
    assert internet.tried == [(PUBLIC, 443)]


async def test_of_several_answers_only_public_ones_are_connected_to(
    internet: Internet, tmp_path: Path
) -> None:
    internet.names["cdn.example"] = [["10.0.0.1", PUBLIC, "::1"]]
    await refusal(tmp_path, "https://cdn.example/a.mp3")
    assert internet.tried == [(PUBLIC, 443)]


async def test_the_typed_source_may_be_at_home_at_its_own_port_only(
    internet: Internet, tmp_path: Path
) -> None:
    internet.names["nas.local"] = internet.names["nas.local."] = [["192.168.1.5"]]
    source = "http://NAS.local:8080/feed.xml"
    await refusal(tmp_path, "http://nas.LOCAL:8080/a.mp3", source=source)
    assert internet.tried == [("192.168.1.5", 8080)]
    for url in ("http://nas.local/a", "http://nas.local:8081/a", "http://192.168.1.5:8080/a"):
        assert "local network" in await refusal(tmp_path, url, source=source)
    assert len(internet.tried) == 1


async def test_a_typed_name_that_was_public_cannot_move_into_the_local_network(
    internet: Internet, tmp_path: Path
) -> None:
    internet.names["show.example"] = [[PUBLIC], ["192.168.1.1"]]
    source = "http://show.example/feed.xml"
    async with Fetcher(source) as fetcher:
        for _ in range(2):
            with pytest.raises(FetchError) as caught:
                await fetcher.fetch(source, tmp_path / "body", max_bytes=MIB, retries=ONCE)
        assert fetcher.source_was_public
    assert internet.tried == [(PUBLIC, 80)]
    assert "--allow-private-host show.example:80" in str(caught.value)
    await refusal(tmp_path, source, source=source, source_was_public=True)
    assert len(internet.tried) == 1
    access = Access.of(private_hosts=["show.example"])
    await refusal(tmp_path, source, source=source, source_was_public=True, access=access)
    assert internet.tried[1:] == [("192.168.1.1", 80)]


@pytest.mark.parametrize(
    ("allowed", "url", "reached"),
    [
        ("nas.local", "http://nas.local/a", True),
        ("NAS.local", "https://nas.local:8443/a", True),
        ("nas.local:8080", "http://nas.local:8080/a", True),
        ("nas.local:8080", "http://nas.local/a", False),
        ("nas.local", "http://other.local/a", False),
        ("192.168.1.5", "http://192.168.1.5:99/a", True),
        ("192.168.1.5:80", "http://192.168.1.5:99/a", False),
        ("[fd00::5]:80", "http://[fd00:0::5]/a", True),
        ("fd00::5", "http://[fd00::5]:81/a", True),
        ("bücher.local", "http://bücher.local/a", True),
    ],
)
async def test_what_the_user_allows(
    internet: Internet, tmp_path: Path, allowed: str, url: str, reached: bool
) -> None:
    for name in ("nas.local", "other.local", "xn--bcher-kva.local"):
        internet.names[name] = [["192.168.1.5"]]
    text = await refusal(tmp_path, url, access=Access.of(private_hosts=[allowed]))
    assert ("local network" in text) is not reached
    assert bool(internet.tried) is reached


@pytest.mark.parametrize("text", ["", "a b", "nas:0", "nas:99999", "http://nas", "u@nas", "[nas]", "nas:x"])
def test_a_host_to_allow_must_be_one(text: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        PrivateHost.parse(text)


# ---- with real sockets: an inner server that must not hear anything


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[QuietOrigin]:
    (tmp_path / "outer").mkdir()
    with QuietOrigin(tmp_path / "outer") as server:
        yield server


@pytest.fixture
def inner() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def assert_untouched(listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError), suppress(ConnectionError):
        listener.accept()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_to_inner_addresses_are_refused(
    origin: QuietOrigin, inner: socket.socket, tmp_path: Path, code: int
) -> None:
    port = inner.getsockname()[1]
    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
        origin.set_rules([f"/a redirect={code} to=/b", f"/b redirect={code} to=http://{host}:{port}/"])
        text = await refusal(tmp_path, origin.url + "/a", source=origin.feed_url)
        assert "local network" in text
    assert_untouched(inner)


FEED = """<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"
 xmlns:podcast="https://podcastindex.org/namespace/1.0" xmlns:media="http://search.yahoo.com/mrss/">
<channel><title>Inner</title><itunes:image href="{0}/channel.png"/><image><url>{0}/logo.png</url></image>
<item><guid>1</guid><title>One</title>
<enclosure url="{0}/a.mp3" type="audio/mpeg" length="1"/><media:content url="{0}/b.mp3" type="audio/mpeg"/>
<itunes:image href="{0}/item.png"/><podcast:transcript url="{0}/t.vtt" type="text/vtt"/>
<podcast:chapters url="{0}/c.json" type="application/json+chapters"/></item></channel></rss>"""


async def test_no_asset_of_a_feed_reaches_an_inner_address(
    origin: QuietOrigin, inner: socket.socket, tmp_path: Path
) -> None:
    (origin.root / "feed.xml").write_text(FEED.format(f"http://127.0.0.1:{inner.getsockname()[1]}"))
    report = await Studio(tmp_path / "scratch").update(origin.feed_url)
    refused = [one.error for one in report.failures if isinstance(one, MediaFailed)]
    assert len(refused) == 7
    assert all("local network" in text and "\n" not in text for text in refused)
    assert report.episodes == 1
    assert_untouched(inner)


async def test_a_mirror_remembers_that_its_source_was_public(
    origin: QuietOrigin, inner: socket.socket, tmp_path: Path
) -> None:
    """Also when the feed is elsewhere by now, so that the source's host is not met before its files are."""
    source = f"http://127.0.0.1:{inner.getsockname()[1]}/feed.xml"
    studio = Studio(tmp_path / "scratch")
    studio.state.save(b'{"source_was_public": true}')
    with pytest.raises(PrivateAddressError, match="was on the internet before"):
        await studio.update(source)
    assert_untouched(inner)
    (origin.root / "feed.xml").write_text(FEED.format(source.removesuffix("/feed.xml")))
    state = {"source_was_public": True, "url": origin.feed_url}
    studio.state.save(json.dumps(state).encode())
    access = Access.of(private_hosts=[origin.url.removeprefix("http://")])
    report = await studio.update(source, access=access)
    assert (report.episodes, len(report.failures)) == (1, 7)
    assert_untouched(inner)
    assert json.loads(studio.state.load() or b"")["source_was_public"]


async def test_the_backend_itself_connects_to_no_inner_address(inner: socket.socket) -> None:
    with pytest.raises(FetchError, match="local network"):
        await VettingBackend().connect_tcp("127.0.0.1", inner.getsockname()[1])
    assert_untouched(inner)
