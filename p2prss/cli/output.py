"""What the user sees: data on stdout, talk on stderr, progress bars only on a terminal.

With ``--json`` stdout is one JSON object per line and nothing else, whatever happens.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from p2prss.node.events import (
    Error,
    Event,
    Notice,
    Progress,
    Published,
    Ready,
    Synced,
    Waiting,
    Withdrawn,
)

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBars
    from rich.progress import TaskID

_UNITS = ("B", "kB", "MB", "GB", "TB")


def format_bytes(count: int) -> str:
    """``12345678`` → ``12.3 MB``."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def printable(text: str) -> str:
    """Text from a feed or a peer, without what could drive a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


@dataclass
class Output:
    """How this run of the program talks."""

    json: bool = False
    verbosity: int = 0  # -1 quiet, 0 normal, 1 verbose
    _bars: "ProgressBars | None" = None
    _page_told: bool = False
    _tasks: "dict[tuple[str, str], TaskID]" = field(default_factory=dict)

    def data(self, value: Mapping[str, Any] | msgspec.Struct, text: str | None = None) -> None:
        """One result: an object with ``--json``, else its text."""
        if self.json:
            _write(sys.stdout, msgspec.json.encode(value).decode())
        elif text is not None:
            self._end_bars()
            _write(sys.stdout, text)

    def text(self, line: str) -> None:
        """A line that goes on with the result before it, for a person; nothing with ``--json``."""
        if not self.json:
            _write(sys.stdout, line)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of results for a person; nothing with ``--json``."""
        if self.json or not rows:
            return
        self._end_bars()
        rows = [[printable(cell) for cell in row] for row in rows]
        widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]
        for row in [header, *rows] if sys.stdout.isatty() else rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            _write(sys.stdout, "  ".join(cells).rstrip())

    def talk(self, text: str, *, level: int = 0) -> None:
        """A remark for a person, shown from that verbosity on."""
        if self.verbosity >= level and not (self.json and level == 0):
            self._above_bars(lambda: _write(sys.stderr, text))

    def error(self, code: int, message: str) -> None:
        """What went wrong, in one line."""
        line = " ".join(printable(message).split())
        if self.json:
            _write(sys.stdout, msgspec.json.encode(Error(code=code, message=line)).decode())
        self._above_bars(lambda: _write(sys.stderr, f"p2prss: {line}"))

    def event(self, event: Event) -> None:
        """Something the node tells."""
        if self.json:
            if not isinstance(event, Notice) or event.level <= self.verbosity:
                _write(sys.stdout, msgspec.json.encode(event).decode())
            return
        match event:
            case Ready():
                self._ready(event)
            case Published(unchanged=True, title=title):
                self.talk(f"the source has not changed{_of(title)}")
            case Published():
                self._end_bars()
                failed = f", {event.failed} failed and will be tried again" if event.failed else ""
                self.talk(
                    f"published: {event.episodes} episodes, {event.media_files} files,"
                    f" {format_bytes(event.bytes)}{failed}{_of(event.title)}"
                )
                if event.adopted:
                    size = format_bytes(event.adopted_bytes)
                    self.talk(f"{event.adopted} files were taken over, {size} not fetched again")
            case Waiting(next_look=None):
                self.talk("the source is gone for good and not looked at any more; what is here is shared on")
            case Waiting():
                self.talk(f"the next look at the source is at {event.next_look:%Y-%m-%d %H:%M} UTC", level=1)
            case Synced():
                self._end_bars()
                self.talk(
                    f"complete: {event.episodes} episodes, {event.media_files} files,"
                    f" {format_bytes(event.bytes)}"
                )
            case Withdrawn():
                self._end_bars()
                self.talk(f"withdrawn: {printable(event.title)}")
            case Progress():
                self._progress(event)
            case Error():
                self.talk(f"p2prss: {printable(event.message)}", level=-1)
            case Notice():
                self.talk(printable(event.message), level=event.level)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._end_bars()

    def _ready(self, event: Ready) -> None:
        self._above_bars(lambda: _write(sys.stdout, event.link))
        if event.listen:
            self.talk(f"peers reach this node at {', '.join(event.listen)}")
        if event.feed_url:
            self.talk(f"for any podcast app on this computer: {event.feed_url}")
        if event.lan_url:
            self._phone(event.lan_url, event.lan_plain_url)
        if event.http and not self._page_told:
            self._page_told = True
            self.talk(
                f"your page: {event.http}/ (p2prss page: the address that lets you change things there)"
            )

    def _phone(self, url: str, plain_url: str | None) -> None:
        from p2prss.node.lan_http import phone_lines

        for line in phone_lines(url, plain_url, with_qr=sys.stderr.isatty()):
            self.talk(line)

    def _progress(self, event: Progress) -> None:
        if self.verbosity < 0 or not sys.stderr.isatty():
            return
        if self._bars is None:
            self._bars = _make_bars()
            self._bars.start()
        name = (event.key, event.what)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(printable(event.what), total=event.total, amount="")
        amount = _amount(event)
        self._bars.update(self._tasks[name], completed=event.done, total=event.total, amount=amount)

    def _end_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}

    def _above_bars(self, write: Callable[[], None]) -> None:
        if self._bars is None:
            write()
        else:
            self._bars.stop()
            write()
            self._bars.start()


def _of(title: str) -> str:
    """Which feed a line is about, for a node that has several."""
    return f" ({printable(title)})" if title else ""


def _amount(event: Progress) -> str:
    """``3 of 35 blocks``."""
    if event.unit == "bytes":
        return format_bytes(event.done) + (f" of {format_bytes(event.total)}" if event.total else "")
    return (f"{event.done} of {event.total}" if event.total else str(event.done)) + f" {event.unit}"


def _make_bars() -> "ProgressBars":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBars

    return ProgressBars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _write(stream: Any, line: str) -> None:
    """Print a line; a reader that went away (``| head``) ends the program quietly in ``main``."""
    stream.write(line + "\n")
    stream.flush()
