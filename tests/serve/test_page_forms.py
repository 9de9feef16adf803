"""What changes something: who may, and who may not."""

import json
import re
from html import escape
from urllib.parse import urlencode

import pytest

from p2prss.crypto.key_text import format_key
from p2prss.errors import FetchError, UnnamedFeedError, UsageError
from p2prss.serve.actions import AddAs, FeedState, NamedBy
from p2prss.serve.library import ServeSettings
from p2prss.serve.page_routes import MAX_FORM_BYTES
from p2prss.serve.token import Gate, UsedCodes, is_own_origin
from tests.fakes.memory_actions import TOKEN, MemoryActions
from tests.fakes.memory_drive import KEY, MemoryFeed
from tests.serve.conftest import Client, Reply, StartServer

GATE = Gate(TOKEN)
COOKIE = f"{GATE.cookie_name}={GATE.cookie_value}"
BEARER = f"Bearer {TOKEN}"
SOURCE = {"source": "p2prss://" + "y" * 52, "latest": "10"}


async def post(client: Client, path: str, body: bytes | dict[str, str] = b"", **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else urlencode(body).encode()
    lines = {"Host": f"127.0.0.1:{client.port}", "Connection": "close", "Content-Length": str(len(data))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return await client.send(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data)


async def test_the_address_with_the_token_lets_a_browser_in(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    reply = await client.request(f"/?token={TOKEN}")
    assert (reply.status, reply.headers["location"]) == (303, "./")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE};")
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    page = await client.request("/add", Cookie=COOKIE)
    assert f'name="form" value="{GATE.form_value}"' in page.text


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", GATE.cookie_value])
async def test_a_wrong_token_lets_nobody_in(start_server: StartServer, token: str) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    reply = await client.request(f"/?token={token}")
    assert (reply.status, reply.headers.get("set-cookie")) == (403, None)
    assert "p2prss page" in reply.text


async def test_who_comes_from_elsewhere_is_let_in_by_a_page_and_not_by_a_redirect(
    start_server: StartServer,
) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    reply = await client.request(f"/?token={TOKEN}", Sec_Fetch_Site="cross-site")
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert reply.headers["set-cookie"].startswith(f"{COOKIE};")
    assert '<meta http-equiv="refresh" content="0;url=./">' in reply.text
    assert TOKEN not in reply.text


def test_a_code_lets_in_once_and_soon() -> None:
    code, used = GATE.code(1000.5, "n0nce"), UsedCodes()
    assert TOKEN not in code
    assert not any(used.opens(GATE, wrong, 1001) for wrong in ("", ".", "..", code[:-1], f"9{code}", TOKEN))
    assert not used.opens(Gate("other"), code, 1001)
    assert not used.opens(Gate(""), Gate("").code(1000, "n"), 1001)
    assert not UsedCodes().opens(GATE, code, 1061)
    assert not UsedCodes().opens(GATE, GATE.code(9999, "n"), 1001)  # of a clock that is wrong
    assert used.opens(GATE, code, 1001)
    assert not used.opens(GATE, code, 1002)
    assert used.opens(GATE, GATE.code(1000.5, "other"), 1002)


async def test_no_other_site_listens(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed())
    for headers in ({"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert (await client.request("/events", **headers)).status == 403


async def test_without_the_cookie_the_page_is_for_reading_and_says_how_to_change_that(
    start_server: StartServer,
) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    for path in ("/", "/add", "/shows/a-show", "/shows/a-show/remove"):
        reply = await client.request(path, Cookie=f"{GATE.cookie_name}={'0' * 64}")
        assert "p2prss page" in reply.text, path
        assert "<form" not in reply.text, path
        assert GATE.form_value not in reply.text, path


async def test_adding_and_removing(start_server: StartServer) -> None:
    feed, actions = MemoryFeed(), MemoryActions()
    client = await start_server(feed, actions=actions)
    form = {"form": GATE.form_value}
    own = f"http://127.0.0.1:{client.port}"
    reply = await post(client, "/add", SOURCE | form, Cookie=COOKIE, Origin=own)
    assert (reply.status, reply.headers["location"]) == (303, f"shows/{feed.key_text}")
    assert [(one.source, one.latest, one.confirmed) for one in actions.added] == [
        (SOURCE["source"], 10, False)
    ]
    reply = await post(client, "/shows/a-show/remove", form, Cookie=COOKIE, Sec_Fetch_Site="same-origin")
    assert (reply.status, reply.headers["location"], actions.removed) == (303, "../../", [KEY])


@pytest.mark.parametrize("path", ["/add", "/shows/a-show/remove"])
@pytest.mark.parametrize(
    ("form", "headers"),
    [
        pytest.param(GATE.form_value, {}, id="no cookie"),
        pytest.param(GATE.form_value, {"Cookie": f"{GATE.cookie_name}=x"}, id="another cookie"),
        pytest.param(GATE.form_value, {"Cookie": f"{GATE.cookie_name}={TOKEN}"}, id="the token as cookie"),
        pytest.param(None, {"Cookie": COOKIE}, id="no hidden value"),
        pytest.param(GATE.cookie_value, {"Cookie": COOKIE}, id="another hidden value"),
        pytest.param(GATE.form_value, {"Cookie": COOKIE, "Origin": "https://evil.example"}, id="foreign"),
        pytest.param(GATE.form_value, {"Cookie": COOKIE, "Origin": "null"}, id="no origin of its own"),
        pytest.param(GATE.form_value, {"Cookie": COOKIE, "Origin": "http://127.0.0.1:1"}, id="another port"),
        pytest.param(GATE.form_value, {"Cookie": COOKIE, "Sec_Fetch_Site": "cross-site"}, id="cross-site"),
        pytest.param(GATE.form_value, {"Cookie": COOKIE, "Sec_Fetch_Site": "same-site"}, id="same-site"),
        pytest.param(GATE.form_value, {"Authorization": BEARER}, id="the token of the API"),
    ],
)
async def test_who_may_not_changes_nothing(
    start_server: StartServer, path: str, form: str | None, headers: dict[str, str]
) -> None:
    actions = MemoryActions()
    client = await start_server(MemoryFeed(), actions=actions)
    body = SOURCE | ({} if form is None else {"form": form})
    reply = await post(client, path, body, **headers)
    assert reply.status == 403
    assert actions.added == []
    assert actions.removed == []


async def test_behind_a_proxy_and_below_a_path(start_server: StartServer) -> None:
    actions = MemoryActions()
    settings = ServeSettings(public_url="https://pods.example.org/p2p")
    client = await start_server(MemoryFeed(), settings=settings, actions=actions)
    reply = await client.request(f"/p2p/?token={TOKEN}")
    assert (reply.status, reply.headers["location"]) == (303, "./")
    assert "Secure" in reply.headers["set-cookie"]
    for path, root in (("/p2p/", "./"), ("/p2p/shows/a-show", "../"), ("/p2p/shows/a-show/remove", "../../")):
        assert f'data-root="{root}"' in (await client.request(path)).text
    form = {"form": GATE.form_value}
    own = {"Cookie": COOKIE, "Origin": "https://pods.example.org"}
    assert (await post(client, "/p2p/shows/a-show/remove", form, **own)).headers["location"] == "../../"
    assert actions.removed == [KEY]


async def test_a_foreign_host_changes_nothing(start_server: StartServer) -> None:
    actions = MemoryActions()
    client = await start_server(MemoryFeed(), actions=actions)
    form = SOURCE | {"form": GATE.form_value}
    reply = await post(
        client, "/add", form, Cookie=COOKIE, Host="rebound.example", Origin="http://rebound.example"
    )
    assert (reply.status, actions.added) == (421, [])


@pytest.mark.parametrize(
    "path", ["/", "/shows", "/shows/a-show", "/feeds/a-show/feed.xml", "/events", "/static/page.js"]
)
async def test_nothing_else_takes_a_post(start_server: StartServer, path: str) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    reply = await post(client, path, {"form": GATE.form_value}, Cookie=COOKIE, Authorization=BEARER)
    assert reply.status == 405


async def test_without_a_node_nothing_takes_a_post(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed())
    for path in ("/add", "/shows/a-show/remove", "/api/v1/feeds"):
        assert (await post(client, path, SOURCE, Authorization="Bearer ", Cookie=COOKIE)).status == 404


async def test_what_went_wrong_stands_above_the_form_that_keeps_what_was_typed(
    start_server: StartServer,
) -> None:
    actions = MemoryActions(error=UsageError('no key: "<b>"'))
    client = await start_server(MemoryFeed(), actions=actions)
    form = {"form": GATE.form_value, "source": '"><script>', "latest": "all"}
    reply = await post(client, "/add", form, Cookie=COOKIE)
    assert reply.status == 400
    assert "No key: &#34;&lt;b&gt;&#34;" in reply.text
    assert 'value="&#34;&gt;&lt;script&gt;"' in reply.text
    assert '<option value="all" selected' in reply.text
    actions.error = FetchError("nobody answers")
    assert (await post(client, "/add", form, Cookie=COOKIE)).status == 502
    for wrong in ({"source": ""}, {"latest": "-1"}, {"latest": "²"}):
        assert (await post(client, "/add", form | wrong, Cookie=COOKIE)).status == 400
    assert actions.added == []


async def test_a_feed_that_names_no_key_is_published_only_after_a_question(start_server: StartServer) -> None:
    feed_url = 'https://e.org/feed.xml?a="b"'
    actions = MemoryActions(error=UnnamedFeedError("names none", feed_url=feed_url))
    client = await start_server(MemoryFeed(), actions=actions)
    form = {"form": GATE.form_value, "source": "https://e.org/", "latest": "10"}
    reply = await post(client, "/add", form, Cookie=COOKIE)
    assert reply.status == 200
    assert "Publish it yourself?" in reply.text
    assert f'name="source" value="{escape(feed_url).replace("&quot;", "&#34;")}"' in reply.text
    assert '<option value="10" selected' in reply.text
    assert "https://e.org/feed.xml<" in reply.text  # to read: nothing that may be a secret
    actions.error = None
    answer = form | {"source": feed_url, "as": "publish", "confirmed": "1"}
    assert (await post(client, "/add", answer, Cookie=COOKIE)).status == 303
    assert (await post(client, "/add", form, Cookie=COOKIE)).status == 303
    assert [(one.source, one.add_as, one.confirmed) for one in actions.added] == [
        (feed_url, AddAs.PUBLISH, True),
        ("https://e.org/", AddAs.AUTO, False),
    ]
    assert (await post(client, "/add", form | {"as": "steal"}, Cookie=COOKIE)).status == 400
    actions.error = UnnamedFeedError("names none")
    reply = await post(client, "/add", form, Cookie=COOKIE)
    assert reply.status == 422
    assert "https://e.org/ leads to no podcast" in reply.text


async def test_the_api_publishes_only_what_it_was_told_to(start_server: StartServer) -> None:
    actions = MemoryActions(error=UnnamedFeedError("names none", feed_url="https://e.org/f"))
    client = await start_server(MemoryFeed(), actions=actions)
    reply = await post(client, "/api/v1/feeds", b'{"source":"https://e.org/"}', Authorization=BEARER)
    told = {"error": "names none", "code": 1, "publish": "https://e.org/f"}
    assert (reply.status, json.loads(reply.body)) == (409, told)
    actions.error = UnnamedFeedError("names none")
    reply = await post(client, "/api/v1/feeds", b'{"source":"https://e.org/"}', Authorization=BEARER)
    assert reply.status == 422
    actions.error = None
    actions.states[KEY] = FeedState("follow", "p2prss://k", named_by=NamedBy("e.org", confirmed=False))
    body = b'{"source":"https://e.org/","as":"follow"}'
    reply = await post(client, "/api/v1/feeds", body, Authorization=BEARER)
    assert json.loads(reply.body) == {"key": format_key(KEY), "role": "follow", "named_by": "e.org"}
    assert [one.add_as for one in actions.added] == [AddAs.FOLLOW]
    page = await client.request("/shows/a-show")
    assert "e.org names this show. Whether it is their own" in page.text
    wrong = await post(client, "/api/v1/feeds", b'{"source":"k","as":"x"}', Authorization=BEARER)
    assert wrong.status == 400


async def test_too_much_is_refused(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    large = b"form=" + b"x" * MAX_FORM_BYTES
    assert (await post(client, "/add", large, Cookie=COOKIE)).status == 413
    assert (await post(client, "/add", b"&a=b" * 100, Cookie=COOKIE)).status == 400
    assert (await post(client, "/add", b"\xff\xfe", Cookie=COOKIE)).status == 400
    assert (await post(client, "/api/v1/feeds", large, Authorization=BEARER)).status == 413


# The API


@pytest.mark.parametrize("path", ["status", "feeds", "events"])
async def test_the_api_tells_nothing_without_the_token(start_server: StartServer, path: str) -> None:
    client = await start_server(MemoryFeed(), actions=MemoryActions())
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": COOKIE},
    ):
        reply = await client.request(f"/api/v1/{path}", **headers)
        assert (reply.status, "www-authenticate" in reply.headers) == (401, True)
        assert b"A show" not in reply.body
    reply = await client.request(f"/api/v1/{path}", Authorization=BEARER, Origin="https://evil.example")
    assert reply.status == 403


async def test_the_api_tells_with_the_token(start_server: StartServer) -> None:
    feed = MemoryFeed(peers=2)
    client = await start_server(feed, actions=MemoryActions())
    status = json.loads((await client.request("/api/v1/status", Authorization=BEARER)).body)
    assert status == {
        "node": {"pid": 1},
        "disk": {"used_bytes": 12_000_000, "free_bytes": 34_000_000_000},
        "problems": [],
    }
    reply = await client.request("/api/v1/feeds", Authorization=BEARER.replace("Bearer", "bearer"))
    (found,) = json.loads(reply.body)["feeds"]
    assert (found["key"], found["title"], found["peers"]) == (feed.key_text, "A show", 2)
    assert found["feed_url"] == f"http://127.0.0.1:{client.port}/feeds/{feed.key_text}/feed.xml"
    assert reply.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in reply.headers


async def test_the_api_adds_and_removes(start_server: StartServer) -> None:
    feed, actions = MemoryFeed(), MemoryActions()
    client = await start_server(feed, actions=actions)
    body = json.dumps({"source": "k", "latest": None}).encode()
    reply = await post(client, "/api/v1/feeds", body, Authorization=BEARER)
    assert (reply.status, json.loads(reply.body)) == (201, {"key": feed.key_text})
    assert actions.added[0].latest is None
    reply = await post(client, "/api/v1/feeds/a-show/remove", Authorization=BEARER)
    assert (reply.status, json.loads(reply.body)) == (200, {"removed": feed.key_text})
    assert (await post(client, "/api/v1/feeds/nothing/remove", Authorization=BEARER)).status == 404
    for wrong in (b"", b"{", b"[]", b'{"source":1}', b'{"source":"k","more":1}', b"[" * 9000):
        reply = await post(client, "/api/v1/feeds", wrong, Authorization=BEARER)
        assert (reply.status, json.loads(reply.body)["code"]) == (400, 2)
    assert len(actions.added) == len(actions.removed) == 1


async def test_the_api_wants_the_token_to_change_anything(start_server: StartServer) -> None:
    actions = MemoryActions()
    client = await start_server(MemoryFeed(), actions=actions)
    for path in ("/api/v1/feeds", "/api/v1/feeds/a-show/remove"):
        reply = await post(client, path, b'{"source":"k"}', Cookie=COOKIE)
        assert reply.status == 401
        reply = await post(client, path, b'{"source":"k"}', Authorization=BEARER, Origin="null")
        assert reply.status == 403
    assert actions.added == []
    assert actions.removed == []


# The gate


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        (None, True),
        ("http://localhost:7737", True),
        ("HTTP://LOCALHOST:7737", True),
        ("https://localhost:7737", True),
        ("http://localhost", False),
        ("http://localhost:7737.evil.example", False),
        ("http://user@localhost:7737", False),
        ("http://[", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins(origin: str | None, own: bool) -> None:
    assert is_own_origin(origin, "localhost:7737") is own


def test_what_is_derived_from_the_token_is_not_the_token() -> None:
    values = {TOKEN, GATE.cookie_value, GATE.form_value, GATE.cookie_name}
    assert len(values) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in (GATE.cookie_value, GATE.form_value))
    assert Gate("other").cookie_name != GATE.cookie_name


def test_no_token_opens_nothing() -> None:
    gate = Gate("")
    assert not gate.is_token("")
    assert not gate.is_bearer("Bearer ")
    assert not gate.knows_cookie(gate.cookie_value)
    assert not gate.is_form(gate.form_value)
