"""QR codes, for a page and for a terminal."""

from io import BytesIO, StringIO
from typing import Final

MAX_QR_LENGTH: Final = 1000  # characters; longer ones are too fine for a phone's camera


def qr_svg(text: str) -> bytes:
    """An SVG with a white ground."""
    import segno  # loads slowly

    out = BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", border=3, light="#fff", omitsize=True)
    return out.getvalue()


def qr_terminal(text: str) -> str:
    """Lines of block characters, for a terminal of either colour."""
    import segno

    out = StringIO()
    segno.make(text, error="l", micro=False).terminal(out, compact=True, border=2)
    return out.getvalue()
