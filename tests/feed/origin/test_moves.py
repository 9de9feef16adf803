"""Feeds that say that they have moved: to where they are followed, and where not."""

import pytest

from p2prss.errors import FetchError
from p2prss.feed.origin.moves import MAX_MOVES, Journey, Stop, follow_moves, redirect_document


async def journey(moves: dict[str, str]) -> tuple[Journey[str], list[str]]:
    """From ``http://a/`` on; what is no key cannot be fetched."""
    asked: list[str] = []

    async def get(url: str) -> Stop[str]:
        asked.append(url)
        if url not in moves:
            raise FetchError("the origin answers 404")
        return Stop(url, moves[url], url)

    return await follow_moves(Stop("http://a/", moves["http://a/"], "http://a/"), get), asked


@pytest.mark.parametrize(
    ("moves", "end", "problem"),
    [
        ({"http://a/": ""}, "http://a/", ""),
        ({"http://a/": "http://a/"}, "http://a/", ""),
        ({"http://a/": " https://b/ ", "https://b/": ""}, "https://b/", ""),
        ({"http://a/": "https://b/", "https://b/": "https://b/"}, "https://b/", ""),
        ({"http://a/": "https://b/", "https://b/": "/c", "https://b/c": ""}, "https://b/c", ""),
        ({"http://a/": "https://b/", "https://b/": "http://a/"}, "http://a/", "circle"),
        ({"http://a/": "//b/", "http://b/": "//c/", "http://c/": "//b/"}, "http://a/", "circle"),
        ({"http://a/": "https://b/"}, "http://a/", "404"),
        ({"http://a/": "https://b/", "https://b/": "https://c/"}, "https://b/", "404"),
        ({"http://a/": "ftp://b/"}, "http://a/", ""),
        ({"http://a/": "http://["}, "http://a/", ""),
        ({f"http://a{n or ''}/": f"http://a{n + 1}/" for n in range(9)}, "http://a/", "more than"),
    ],
)
async def test_where_moves_lead(moves: dict[str, str], end: str, problem: str) -> None:
    found, asked = await journey(moves)
    assert found.end.feed == end
    assert problem in found.problem
    assert bool(found.problem) is bool(problem)
    assert len(asked) <= MAX_MOVES
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("<redirect><newLocation>http://b/?a=1&amp;b=2</newLocation></redirect>", "http://b/?a=1&b=2"),
        ('<?xml version="1.0"?>\n<redirect>\n <newLocation> http://b/ </newLocation>', "http://b/"),
        ("<rss><redirect><newLocation>http://b/</newLocation></redirect></rss>", ""),
        ("<redirect><newLocation></newLocation></redirect>", ""),
        ("", ""),
    ],
)
def test_documents_that_stand_for_a_moved_feed(text: str, url: str) -> None:
    assert redirect_document(text.encode()) == url
