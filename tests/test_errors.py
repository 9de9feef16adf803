"""The tree of errors in ``p2prss.errors`` names every error there is, with the code a program ends with."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import p2prss
from p2prss import errors


def kinds(of: type[errors.P2prssError] = errors.P2prssError) -> Iterator[type[errors.P2prssError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def load_everything() -> None:
    for found in pkgutil.walk_packages(p2prss.__path__, "p2prss."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def test_the_tree_is_complete_and_its_codes_are_right() -> None:
    load_everything()
    tree = errors.__doc__ or ""
    codes = dict(re.findall(r"(\w+Error) +(?:(\d+):)?", tree))
    found = {kind.__name__: kind for kind in kinds() if not kind.__name__.startswith("_")}
    assert codes.keys() - {"P2prssError"} == found.keys()
    for name, kind in found.items():
        (parent,) = (base for base in kind.__bases__ if issubclass(base, errors.P2prssError))
        assert kind.exit_code == int(codes[name] or parent.exit_code), name
