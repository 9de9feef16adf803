"""Feeds made to exhaust: refused within bounds of time and memory, which the kernel keeps.

Each case runs in a process of its own, with a limit on its memory and on its processor time; one that
goes beyond is killed and fails the test.
"""

import subprocess
import sys

import pytest

MEMORY_BYTES = 900_000_000  # of address space, the interpreter and its libraries included
CPU_SECONDS = 60

PROGRAM = f"""
import resource, sys
data = eval(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS}))
from p2prss.errors import FeedFormatError
from p2prss.feed.document.parse import parse_feed
try:
    feed = parse_feed(data, url="https://origin.example/feed.xml")
except FeedFormatError as error:
    print("refused:", error)
else:
    print("read:", len(feed.items), feed.degraded)
"""

RSS = 'b"<rss><channel>" + {} + b"</channel></rss>"'
ENTITIES = (
    """b"<!DOCTYPE r [<!ENTITY a0 'ha'>" + b"".join(b"<!ENTITY a%d '&a%d;&a%d;'>" % (i + 1, i, i) """
    """for i in range(60)) + b"]><rss><channel><title>&a60;</title></channel></rss>" """
)
EXTERNAL = """b"<!DOCTYPE r [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><rss><channel>&a;</channel></rss>" """
JSON = """b'{"version":"https://jsonfeed.org/version/1","items":[' + %s + b"{}]}" """

CASES = {
    "entity bomb": (ENTITIES, "document type"),
    "external entity": (EXTERNAL, "document type"),
    "endless document type": ('b"<!DOCTYPE " * 2_000_000', "no feed"),
    "200 MB": ('b"<rss><channel>" + b"x" * 200_000_000', "larger than 25 MB"),
    "200 MB in gzip": ('__import__("gzip").compress(b"<" * 200_000_000, 1)', "larger than 25 MB"),
    "1e6 items": (RSS.format('b"<item/>" * 1_000_000'), "more than 50000 items"),
    "1e6 entries": (
        """b"<feed xmlns='http://www.w3.org/2005/Atom'>" + b"<entry/>" * 1_000_000 + b"</feed>" """,
        "more than 50000 items",
    ),
    "1e6 JSON items": (JSON % 'b"{}," * 1_000_000', "JSON objects"),
    "deep JSON": ("""b'{"version":"jsonfeed.org","x":' + b"[" * 400_000""", "no JSON Feed"),
    "tags": (RSS.format('b"<a/>" * 3_000_000'), "tags and attributes"),
    "elements in one": (RSS.format('b"<item>" + b"<a/>" * 400_000 + b"</item>"'), "others in it"),
    "deep": (RSS.format('b"<a>" * 1_000_000'), "inside of each other"),
    "attributes": (
        RSS.format("""b"<a " + b" ".join(b"a%d=''" % i for i in range(900_000)) + b"/>" """),
        "attributes",
    ),
    "text": (RSS.format('b"<title>" + b"x" * 24_000_000 + b"</title>"'), "too large"),
    "CDATA": (RSS.format('b"<title><![CDATA[" + b"x" * 24_000_000 + b"]]></title>"'), "too large"),
    "ampersands": (RSS.format('b"&" * 24_000_000'), "no feed we can read"),
    "undeclared prefixes": (
        RSS.format('b"".join(b"<p%d:a/>" % i for i in range(300_000))'),
        "Namespace prefix",
    ),
    "CDATA openings": (RSS.format('b"<![CDATA[" * 2_000_000'), "tags and attributes"),
    "quotes": ('b"<rss><channel><a " + b"\\"x\\\' " * 4_000_000', "read: 0 True"),
    "one tag without an end": ('b"<rss><channel><a " + b"x " * 10_000_000', "read: 0 True"),
    "end tags": ('b"<rss><channel>" + b"</a>" * 500_000', "read: 0 True"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_within_bounds(case: str) -> None:
    data, expected = CASES[case]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, data], capture_output=True, text=True, timeout=4 * CPU_SECONDS
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert expected in done.stdout
    assert len(done.stdout) < 400
