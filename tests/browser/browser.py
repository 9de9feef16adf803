"""A real browser, Debian's chromium, that is watched while it looks at our page.

Playwright's plain interface blocks, so what a test does in the browser is a function that runs in a
thread of its own, with an empty profile. Whatever a page must never do is collected, and fails the test:
errors on the console, violations of the policy, requests to other servers, dialogs.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import trio
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, sync_playwright

CHROMIUM: Final = shutil.which("chromium")
ARGUMENTS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--autoplay-policy=no-user-gesture-required",
)
SCENARIO_SECONDS: Final = 90.0
STEP_SECONDS: Final = 20.0

_TELL_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""

T = TypeVar("T")


@dataclass
class Watched:
    """A browser's page, and what it did that it must not."""

    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    expected: tuple[str, ...] = ()  # beginnings of console messages that belong to the story

    def watch(self) -> None:
        """Collect from now on."""
        self.context.add_init_script(_TELL_VIOLATIONS)
        self.page.set_default_timeout(STEP_SECONDS * 1000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.context.on("request", self._request)

    def until(self, script: str, accept: Callable[[Any], bool] = bool, seconds: float = STEP_SECONDS) -> Any:
        """The value of a script, as soon as it is acceptable."""
        deadline = monotonic() + seconds
        while True:
            value = self.page.evaluate(script)
            if accept(value):
                return value
            assert monotonic() < deadline, f"{script}: still {value!r}"
            sleep(0.05)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(self.expected or ("\0",)):
            self.faults.append(f"console: {message.text} {message.location}")

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).netloc)


def _run(scenario: Callable[[Watched], T], options: dict[str, Any]) -> tuple[T, Watched]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            context = browser.new_context(**options)
            watched = Watched(context, context.new_page())
            watched.watch()
            return scenario(watched), watched
        finally:
            browser.close()


async def in_browser(scenario: Callable[[Watched], T], *, hosts: int = 1, **options: Any) -> T:
    """Run a scenario in a new browser; it must do nothing that a page of ours must not.

    Args: hosts: that it may ask; options: as for playwright's ``new_context``.
    """
    with trio.fail_after(SCENARIO_SECONDS):
        result, watched = await trio.to_thread.run_sync(_run, scenario, options)
    assert not watched.faults, watched.faults
    assert len(watched.hosts) == hosts, f"asked {watched.hosts}"
    return result
