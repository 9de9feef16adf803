"""Titles and text without meaning."""

from tests.tools.podcast.noise import number_from, pick
from tests.tools.podcast.spec import Spec

WORDS = [
    "harbour",
    "lantern",
    "orchard",
    "signal",
    "meadow",
    "copper",
    "compass",
    "thunder",
    "paper",
    "river",
    "granite",
    "kettle",
    "violet",
    "ladder",
    "winter",
    "market",
    "pocket",
    "engine",
    "garden",
    "mirror",
    "island",
    "feather",
    "bridge",
    "saddle",
    "pepper",
    "cabin",
    "letter",
    "silver",
    "forest",
    "clock",
    "button",
    "valley",
    "rocket",
    "candle",
    "anchor",
    "bottle",
    "circle",
    "desert",
    "ember",
    "fabric",
]
PATTERNS = (
    "The {0} and the {1}",
    "Why every {0} needs a {1}",
    "{0} season, part {n}",
    "A short history of the {0}",
    "Letters from the {0} {1}",
    "What the {0} taught us about {1}s",
)
# Titles that have broken real software: markup, quotes, path separators, scripts, length, blanks.
AWKWARD = {
    2: 'Q&A: "tea" <or> coffee? It\'s 50% & rising',
    3: "Überraschung – naïve café №7 in Łódź",
    5: "AC/DC: back\\slash, colon: pipe | star * question?",
    6: "日本語のエピソード 🎙️👩‍🚀 עברית العربية",
    8: "..hidden? dots and  double  blanks ",
    9: "A very long title that goes on " + "and on " * 30 + "to the end",
}


def title_of(spec: Spec, number: int) -> str:
    """The episode's title."""
    base = AWKWARD.get(number) if spec.awkward_titles else None
    if base is None:
        label = f"{spec.seed}/title/{number}"
        words = [pick(f"{label}/{place}", WORDS) for place in range(2)]
        base = pick(label, PATTERNS).format(*words, n=number)
        base = base[0].upper() + base[1:]
    return f"{base} (corrected)" if number in spec.retitle else base


def paragraph(label: str, sentences: int) -> str:
    """Some text without meaning."""
    out = []
    for place in range(sentences):
        count = 6 + number_from(f"{label}/{place}/count", 8)
        words = " ".join(pick(f"{label}/{place}/{at}", WORDS) for at in range(count))
        out.append(f"{words.capitalize()}.")
    return " ".join(out)
