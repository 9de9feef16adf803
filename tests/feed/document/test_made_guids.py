"""Items that bring no guid: what they are called, and that none is taken for another."""

from p2prss.feed.document.parse import parse_feed

FILE = '<enclosure url="http://e.example/a.mp3" length="1" type="audio/mpeg"/>'
ADDRESS = "http://e.example/a.mp3"


def item(title: str, date: str = "", more: str = FILE) -> str:
    return f"<item><title>{title}</title>{date and f'<pubDate>{date}</pubDate>'}{more}</item>"


def guids(*items: str) -> list[str]:
    text = f"<rss><channel><title>T</title>{''.join(items)}</channel></rss>"
    return [one.guid for one in parse_feed(text.encode()).items]


OLD, NEW = item("Old", "Mon, 01 Jan 2024 00:00:00 GMT"), item("New", "Tue, 02 Jan 2024 00:00:00 GMT")


def test_of_several_items_with_one_file_the_oldest_goes_by_its_address() -> None:
    first, second = guids(NEW, OLD)
    assert second == ADDRESS
    assert first.startswith("urn:p2prss:item:")
    assert guids(OLD, NEW) == [ADDRESS, first]  # their order does not matter
    assert guids(OLD) == [ADDRESS]


def test_without_dates_the_last_one_listed_is_the_oldest() -> None:
    found = guids(item("3"), item("2"), item("1"))
    assert found[2] == ADDRESS
    assert len(set(found)) == 3
    assert guids(item("4"), item("3"), item("2"), item("1"))[1:] == found


def test_items_of_one_page_are_told_apart_too() -> None:
    page = "<link>http://e.example/news</link>"
    found = guids(item("b", more=page), item("a", more=page))
    assert found[1] == "http://e.example/news"
    assert found[0] != found[1]


def test_a_guid_that_was_brought_comes_first() -> None:
    found = guids(OLD, item("Newer", more=f"<guid>{ADDRESS}</guid>"))
    assert found[1] == ADDRESS
    assert found[0] != ADDRESS


def test_items_that_are_equal_are_counted_from_the_last() -> None:
    found = guids(OLD, OLD, OLD)
    assert found[2] == ADDRESS
    assert len(set(found)) == 3
    assert guids(OLD, OLD) == found[1:]
    assert len(set(guids(NEW, NEW, OLD, OLD))) == 4
    assert len(set(guids(item("x", more=""), item("x", more="")))) == 2


def test_items_that_only_their_notes_tell_apart() -> None:
    found = guids(*[item("Same", more=f"{FILE}<description>{number}</description>") for number in range(3)])
    assert len(set(found)) == 3
