"""A stranger's text as it may stand in XML; pure."""

import re
from typing import Final

_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_xml_text(text: str | None) -> str:
    """The text without the characters that no XML may hold."""
    return _NOT_IN_XML.sub("", text or "")
