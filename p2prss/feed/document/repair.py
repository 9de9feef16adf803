"""From the bytes an origin sent to text that a strict XML reader takes.

Two stages. ``read_text`` always runs: it unpacks gzip, finds the charset and says what came when it
is no feed at all. ``mend`` runs only after the strict reader refused the text, because it has to
guess; every guess it made is named.
"""

import codecs
import html.entities
import json
import re
import zlib
from contextlib import suppress
from typing import Final
from urllib.parse import quote as percent_encode

from p2prss.errors import FeedFormatError
from p2prss.feed.document.doctype import without_doctype
from p2prss.feed.document.names import NAMESPACES
from p2prss.units import MB

MAX_FEED_BYTES: Final = 25 * MB  # unpacked; the largest real feeds are near 10 MB
MAX_REFERENCES: Final = 1_000_000  # ampersands in a text that is mended: each may be looked at several times
MAX_UNDECLARED: Final = 50  # prefixes without declaration that are mended

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"ID3", "an audio file (MP3)"),
    (b"\xff\xfb", "an audio file (MP3)"),
    (b"\xff\xf3", "an audio file (MP3)"),
    (b"OggS", "an audio file (Ogg)"),
    (b"fLaC", "an audio file (FLAC)"),
    (b"RIFF", "an audio or video file (RIFF)"),
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x7fELF", "a program"),
)
_BOMS: Final[tuple[tuple[bytes, str], ...]] = (  # the long ones first: one begins like a short one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
)
_WITHOUT_BOM: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x00\x00\x00<", "utf-32-be"),
    (b"<\x00\x00\x00", "utf-32-le"),
    (b"\x00<\x00", "utf-16-be"),
    (b"<\x00", "utf-16-le"),
)
_CHARSET: Final = re.compile(
    r"utf-?8|us-ascii|iso-?8859-?\d{1,2}|latin-?1|windows-?\d{3,4}|cp\d{3,4}|koi8-[rtu]|mac-?(roman|cyrillic)"
    r"|s(hift)?[_-]?jis|euc-(jp|kr)|iso-2022-(jp|kr)|gb(2312|k|18030)|big5(-?hkscs)?|tis-620|windows-31j"
    r"|ks_c_5601-1987|hz-gb-2312|viscii",
    re.ASCII,
)
"""Charsets a feed may declare: Python knows others that are slow, or no charsets at all (punycode)."""

_WESTERN: Final = re.compile(r"utf|us-ascii|iso-?8859-?1$|latin")
_NO_LATIN1: Final = re.compile(rb"[\x80-\x9f]")
_MANY_BYTES: Final = re.compile(r"s(hift)?[_-]?jis|euc|gb|big5|ks_c|windows-31j")
_LARGER: Final = {
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "ks_c_5601-1987": "cp949",
    "shift-jis": "cp932",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "tis-620": "cp874",
}
"""What browsers read in place of a charset. Source: encoding.spec.whatwg.org, "Names and labels"."""

_DECLARED: Final = re.compile(rb"""^[^<]*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_DECLARATION: Final = re.compile(r"<\?xml\s[^>]{0,1000}\?>")
_PROLOG: Final = re.compile(r"(?:\s+|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)


def read_text(data: bytes, content_type: str = "") -> str:
    """The document as text that begins with its first element, comment or instruction.

    Args: data: what the origin sent; content_type: of the reply, for its charset.
    Raises: FeedFormatError, one line that names what came in place of a feed.
    """
    data = _unpacked(data)
    if not data.strip(b"\0\t\n\r "):
        raise FeedFormatError("this is no feed: the file is empty")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            raise FeedFormatError(f"this is no feed: it is {name}")
    text = _decoded(data, content_type).lstrip("\ufeff \t\r\n\0\x0b\x0c")
    return _without_prolog(text)


def _without_prolog(text: str) -> str:
    """Take off the declaration, whose charset is not that of a text any more, and the document type."""
    start = _prolog_end(text)
    text = (_DECLARATION.sub("", text[:start]) + text[start:]).lstrip()
    return without_doctype(text, _prolog_end(text))


def _prolog_end(text: str) -> int:
    """Where the first element or document type begins."""
    prolog = _PROLOG.match(text)
    return prolog.end() if prolog else 0


def _unpacked(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        unzip = zlib.decompressobj(wbits=31)
        try:
            data = unzip.decompress(data, MAX_FEED_BYTES + 1)
        except zlib.error as error:
            raise FeedFormatError(f"this is no feed: broken gzip data ({error})") from None
    if len(data) > MAX_FEED_BYTES:
        raise FeedFormatError(f"this feed is larger than {MAX_FEED_BYTES // MB} MB")
    return data


def _decoded(data: bytes, content_type: str) -> str:
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(charset, "replace")
    for mark, charset in _WITHOUT_BOM:
        if data.startswith(mark):
            return data.decode(charset, "replace")
    claims = [_declared_charset(data), _header_charset(content_type)]
    for charset in claims:
        # What calls itself Latin-1 or ASCII is read as cp1252, as browsers do, unless it is UTF-8 with bytes
        # that are no letters of Latin-1; UTF-8 is tried in any case.
        if _CHARSET.fullmatch(charset) and not _WESTERN.match(charset):
            with suppress(UnicodeError, LookupError):
                return data.decode(_LARGER.get(charset, charset))
        elif charset and not charset.startswith("utf"):
            if _NO_LATIN1.search(data):
                with suppress(UnicodeError):
                    return data.decode()
            return data.decode("cp1252", _AS_LATIN1)
    with suppress(UnicodeError):
        return data.decode()
    if _MANY_BYTES.match(claims[0]):  # a few bytes are wrong; as anything else all of them would be
        with suppress(LookupError):
            return data.decode(_LARGER.get(claims[0], claims[0]), "replace")
    return data.decode("utf-8", _AS_CP1252)


def _declared_charset(data: bytes) -> str:
    match = _DECLARED.match(data[:1000])
    return match[1].decode("ascii").lower().removeprefix("x-") if match else ""


def _header_charset(content_type: str) -> str:
    match = re.search(r"""charset\s*=\s*["']?([A-Za-z0-9._-]{1,40})""", content_type, re.IGNORECASE)
    return match[1].lower().removeprefix("x-") if match else ""


def _bytes_as(charset: str, name: str) -> str:
    """Register how to read bytes that the charset does not have: one by one, as ``charset``."""

    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        return error.object[error.start : error.end].decode(charset, "replace"), error.end

    codecs.register_error(name, handle)
    return name


_AS_CP1252: Final = _bytes_as("cp1252", "p2prss.cp1252")
_AS_LATIN1: Final = _bytes_as("latin-1", "p2prss.latin1")


def what_else(text: str) -> str | None:
    """Name a document that is no XML feed, from its beginning, or None."""
    head = text[:2000].lower()
    page, feed = (
        re.search(words, head) for words in (r"<(html|head|body)[\s>]", r"<(rss|rdf:rdf|feed)[\s>]")
    )
    if page and not (feed and feed.start() < page.start()):  # not one in the notes of a feed
        return "a web page (HTML)"
    if head.startswith("#extm3u"):
        return "a playlist (M3U)"
    if head.startswith("webvtt"):
        return "a transcript (WebVTT)"
    if not head.startswith("<"):
        return "a JSON document" if head[:1] in "{[" and _is_json(text) else "not XML"
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TOKENS: Final = re.compile(
    r"(?P<cdata><!\[CDATA\[.*?(?:\]\]>|\Z))|(?P<comment><!--.*?(?:-->|\Z))|(?P<pair>&#(?:x(?:0{0,4})(?P<high>d[89ab][0-9a-f]{2})|(?P<high10>5[56]\d{3}));"
    r"&#(?:x(?:0{0,4})(?P<low>d[c-f][0-9a-f]{2})|(?P<low10>5[67]\d{3}));)"
    r"|(?P<amp>&(?!(?:amp|lt|gt|quot|apos);))(?P<entity>#?\w{1,40};)?",
    re.DOTALL | re.IGNORECASE,
)
_XML_ENTITIES: Final = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
_START_TAG: Final = re.compile(r"""<([A-Za-z_][\w.-]*(?::[\w.-]+)?)((?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+)>""")
_LEAD: Final = re.compile(  # headers of HTTP, messages of the program that made it, half a byte order mark
    r"(?![\[{<])[^<]{1,10000}(?=<(?:\?xml\s|rss[\s>]|rdf:RDF\s|feed[\s>]))", re.IGNORECASE
)
_DECLARED_NAMESPACE: Final = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)"
    r"""|(?P<before>\sxmlns(?::(?P<prefix>[\w.-]{1,100}))?\s*=\s*)(?P<uri>"[^"<]{0,1000}"|'[^'<]{0,1000}')""",
    re.DOTALL,
)
_IN_ADDRESSES: Final = "%/:?#[]@!$&'()*+,;=~-._"
_PREFIX: Final = re.compile(r"(?:^|[\s])([A-Za-z_][\w.-]*):[\w.-]+\s*=")


def mend(text: str) -> tuple[str, list[str]]:
    """Repair what is commonly wrong: control characters, entities of HTML, ampersands, undeclared prefixes.

    Returns: the text, and what was done in a few words each. CDATA and comments are left as they are.
    """
    done: list[str] = []
    if text.count("&") > MAX_REFERENCES:
        return text, done
    if lead := _LEAD.match(text):
        text = _without_prolog(text[lead.end() :])
        done.append("what stood before the feed dropped")
    clean = _ILLEGAL.sub("", text)
    if clean != text:
        done.append("control characters removed")
    mended = _TOKENS.sub(_mend_ampersand, clean)
    if mended != clean:
        done.append("ampersands and HTML entities rewritten")
    declared = _DECLARED_NAMESPACE.sub(_mend_namespace, mended)
    if declared != mended:
        mended = declared
        done.append("namespaces that are no addresses rewritten")
    if missing := _undeclared_prefixes(mended):
        mended = _declare(mended, missing)
        done.append(f"namespace prefixes declared: {', '.join(missing)}")
    return mended, done


def _mend_namespace(match: re.Match[str]) -> str:
    """An address without the blanks around it, and other letters that no address may have in it.

    What declares nothing, or what nobody may declare, goes.
    """
    if match["before"] is None:
        return match[0]
    if match["prefix"] in ("xml", "xmlns") or (match["prefix"] and not match["uri"][1:-1].strip()):
        return ""
    quote, uri = match["uri"][0], match["uri"][1:-1]
    return f"{match['before']}{quote}{percent_encode(uri.strip(), safe=_IN_ADDRESSES)}{quote}"


def _mend_ampersand(match: re.Match[str]) -> str:
    if match["pair"] is not None:
        return _joined(match)
    if match["amp"] is None:
        return match[0]
    entity = match["entity"]
    if entity is None:
        return "&amp;"
    if entity in _XML_ENTITIES:
        return match[0]
    if entity.startswith("#"):
        return _numbered(match[0])
    known = html.entities.html5.get(entity)
    return "".join(f"&#{ord(letter)};" for letter in known) if known else f"&amp;{entity}"


def _numbered(reference: str) -> str:
    if _plain_number(reference):
        return reference
    meant = html.unescape(reference)  # knows that &#150; means a dash of cp1252
    if len(meant) != 1 or meant == "\ufffd" or _ILLEGAL.match(meant):
        return "" if re.fullmatch(r"&#(x[0-9a-fA-F]+|[0-9]+);", reference) else f"&amp;{reference[1:]}"
    return f"&#{ord(meant)};"


def _joined(match: re.Match[str]) -> str:
    """The letter that two halves of UTF-16 stand for, or nothing."""
    high = int(match["high"], 16) if match["high"] else int(match["high10"])
    low = int(match["low"], 16) if match["low"] else int(match["low10"])
    is_pair = 0xD800 <= high < 0xDC00 <= low < 0xE000
    return f"&#{0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00};" if is_pair else ""


def _plain_number(reference: str) -> bool:
    """Whether a reference means a letter that XML has, beyond the ones that browsers read otherwise."""
    match = re.fullmatch(r"&#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}));", reference)
    number = int(match[1], 16) if match and match[1] else int(match[2]) if match else 0
    return (
        number in (9, 10, 13) or 32 <= number < 127 or (160 <= number < 0xD800) or 0xE000 <= number < 0xFFFE
    )


def _undeclared_prefixes(text: str) -> list[str]:
    used: dict[str, None] = {}
    declared = {"xml", "xmlns", *re.findall(r"""\sxmlns:([\w.-]{1,100})\s*=""", text)}
    plain = _TOKENS.sub(lambda match: match[0] if match["amp"] or match["pair"] else "", text)
    for tag in _START_TAG.finditer(plain):
        prefix, colon, _ = tag[1].partition(":")
        if colon:
            used.setdefault(prefix)
        if ":" in tag[2]:
            without_values = re.sub(r"""=\s*(?:"[^"]*"|'[^']*')""", "=", tag[2])
            used.update(dict.fromkeys(_PREFIX.findall(without_values)))
    return [prefix for prefix in used if prefix not in declared][:MAX_UNDECLARED]


def _declare(text: str, prefixes: list[str]) -> str:
    names = "".join(
        f' xmlns:{prefix}="{NAMESPACES.get(prefix, f"urn:p2prss:undeclared:{prefix}")}"'
        for prefix in prefixes
    )
    start = _prolog_end(text)
    return text[:start] + re.sub(r"<([A-Za-z_][\w.:-]*)", rf"<\1{names}", text[start:], count=1)
