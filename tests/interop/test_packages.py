"""The reference packages are pinned, and their lock file says what they are, not where they lie."""

import json
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent
_REFERENCE: Final = {
    "corestore": "7.12.5",
    "hypercore": "11.37.1",
    "hyperdht": "6.34.0",
    "hyperdrive": "13.3.4",
    "hyperswarm": "4.17.2",
    "localdrive": "2.2.1",  # writes a mirrored drive to a folder
}


def _packages() -> dict[str, dict[str, Any]]:
    lock: dict[str, Any] = json.loads((_HERE / "package-lock.json").read_text("utf-8"))
    return {name: package for name, package in lock["packages"].items() if name}


def test_the_reference_is_pinned_exactly_and_locked_so() -> None:
    package = json.loads((_HERE / "package.json").read_text("utf-8"))
    assert package["dependencies"] == _REFERENCE
    locked = _packages()
    for name, version in (_REFERENCE | package["overrides"]).items():
        assert locked[f"node_modules/{name}"]["version"] == version


def test_one_version_of_the_reference_serves_all() -> None:
    copies = [name for name in _packages() if name.endswith("/node_modules/hypercore")]
    assert not copies, "a second hypercore would not share its sessions with the first"


def test_the_lock_has_hashes_and_no_download_addresses() -> None:
    text = (_HERE / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in text
    assert "://" not in text.replace("https://github.com/sponsors/", "")
    assert all(package["integrity"].startswith("sha512-") for package in _packages().values())


def test_native_addons_come_prebuilt() -> None:
    building = [name for name, package in _packages().items() if package.get("hasInstallScript")]
    assert not building, "these packages run a script, maybe a compiler, while they are installed"
