"""Make a realistic podcast on disk, and serve it the way real origins behave and misbehave.

Needs Python 3.11 and no package.  ``make --speech`` uses espeak-ng and ffmpeg where both are
installed.  Four subcommands, each with its own ``--help``:

  make DIR            write feed.xml, media, cover, chapters, transcripts and manifest.json
  serve DIR           serve DIR over HTTP on loopback, with rules that simulate an origin's moods
  verify DIR FOUND    is every episode of DIR somewhere below FOUND, byte for byte?
  rules               print what a rule can say

From a shell:

  python -m tests.tools.podcast make show --episodes 12 --mb 3
  python -m tests.tools.podcast serve show --ready-file ready.json --log hits.jsonl \\
      --rule '/feed.xml status=503 retry-after=1 times=1' --rule '*.mp3 cut=50% times=1' &

From a Python test, in the same process:

  make_podcast(Path("show"), Spec(episodes=3, megabytes=0.2))
  with Origin(Path("show"), rules=["*.mp3 cut=50% times=1"]) as origin:
      mirror(origin.feed_url)
      assert origin.count("*.mp3", method="GET") == 6

The same Spec always gives the same bytes (``--speech`` only for the same espeak-ng and ffmpeg), and
episode K does not depend on how many there are.  So to publish new episodes make the same folder
again with a larger ``--episodes``; to withdraw, retitle or replace one use ``--drop``, ``--retitle``
and ``--revise`` together with a larger ``--revision``, which moves lastBuildDate.

Media is as large as asked for to the byte and does not compress.  An MP3 is a valid constant
bit-rate stream that decodes to silence: each frame holds no audio data and is filled up with noise,
which decoders skip.  A WAV is plain noise, so keep the volume down.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from tests.tools.podcast.media import MP3_BITRATES
from tests.tools.podcast.origin import Origin
from tests.tools.podcast.rules import RULES_HELP, Rule
from tests.tools.podcast.show import make_podcast, missing_episodes, write_whole
from tests.tools.podcast.spec import LENGTHS, MEDIA, OMITTABLE, Spec


def _numbers(text: str) -> frozenset[int]:
    """Read '2,4-6'."""
    out: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        out |= set(range(int(first), int(last or first) + 1))
    return frozenset(out)


def _names(text: str) -> frozenset[str]:
    names = frozenset(filter(None, text.split(",")))
    if unknown := names - set(OMITTABLE):
        raise argparse.ArgumentTypeError(f"not one of {', '.join(OMITTABLE)}: {', '.join(sorted(unknown))}")
    return names


def _rule(text: str) -> Rule:
    try:
        return Rule.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    own = Spec()
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools.podcast", description=__doc__, formatter_class=plain
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    make = commands.add_parser("make", help="write a podcast")
    make.add_argument("folder", type=Path, metavar="DIR")
    make.add_argument("--episodes", type=int, default=own.episodes, metavar="N", help="default %(default)s")
    make.add_argument(
        "--mb",
        type=float,
        default=own.megabytes,
        dest="megabytes",
        metavar="M",
        help="millions of bytes an episode, exactly; default %(default)s",
    )
    make.add_argument(
        "--vary", type=float, default=own.vary, metavar="PCT", help="let sizes differ by up to so much"
    )
    make.add_argument("--seed", default=own.seed, help="another seed gives other bytes; default %(default)s")
    make.add_argument("--title", default=own.title)
    make.add_argument(
        "--base-url",
        default=own.base_url,
        metavar="URL",
        help="what the addresses in the feed start with; 'serve' rewrites it, other servers "
        "do not; default %(default)s",
    )
    make.add_argument("--media", choices=MEDIA, default=own.media, help="default %(default)s")
    make.add_argument(
        "--bitrate",
        type=int,
        choices=MP3_BITRATES,
        default=own.bitrate,
        metavar="KBPS",
        help="of MP3; 32 to 320, default %(default)s (1 MB is about a minute)",
    )
    make.add_argument("--speech", action="store_true", help="begin each MP3 with speech (espeak-ng, ffmpeg)")
    make.add_argument("--start", default=own.start, help="when episode 1 came out; default %(default)s")
    make.add_argument(
        "--interval-hours",
        type=float,
        default=own.interval_hours,
        metavar="H",
        help="between episodes; default %(default)s",
    )
    make.add_argument(
        "--revision",
        type=int,
        default=own.revision,
        metavar="R",
        help="minutes to add to lastBuildDate, for a feed that changed without a new episode",
    )
    make.add_argument(
        "--drop", type=_numbers, default=own.drop, metavar="2,4-6", help="leave these out of the feed"
    )
    make.add_argument(
        "--revise",
        type=_numbers,
        default=own.revise,
        metavar="2,4-6",
        help="give these other media under the same guid and address",
    )
    make.add_argument("--retitle", type=_numbers, default=own.retitle, metavar="2,4-6", help="rename these")
    make.add_argument(
        "--omit",
        type=_names,
        default=own.omit,
        metavar="A,B",
        help=f"leave out of the feed: {', '.join(OMITTABLE)}",
    )
    make.add_argument(
        "--lengths", choices=LENGTHS, default=own.lengths, help="the enclosures' length attribute"
    )
    make.add_argument("--encoding", default=own.encoding, help="of the feed: utf-8, utf-16, iso-8859-1 ...")
    make.add_argument("--relative", action="store_true", help="relative addresses and xml:base")
    make.add_argument(
        "--trackers",
        type=int,
        default=own.trackers,
        metavar="N",
        help="lead enclosures through N tracking redirects (needs 'serve')",
    )
    make.add_argument(
        "--plain-titles",
        action="store_false",
        dest="awkward_titles",
        help="no markup, slashes, emoji or overlong titles",
    )
    make.add_argument(
        "--cover-side", type=int, default=own.cover_side, metavar="PX", help="default %(default)s"
    )

    serve = commands.add_parser("serve", help="serve a folder", epilog=RULES_HELP, formatter_class=plain)
    serve.add_argument("folder", type=Path, metavar="DIR")
    serve.add_argument("--host", default="127.0.0.1", help="default %(default)s")
    serve.add_argument("--port", type=int, default=0, help="default: any free one")
    serve.add_argument(
        "--rule", type=_rule, action="append", default=[], dest="rules", help="see below; repeatable"
    )
    serve.add_argument(
        "--log", type=Path, metavar="FILE", help="append a JSON line for each answered request"
    )
    serve.add_argument(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="written once the port is open, with the same JSON as is printed: url, feed, pid",
    )
    serve.add_argument(
        "--control",
        action="store_true",
        help="answer GET and DELETE /_origin/hits and PUT /_origin/rules (a rule a line)",
    )

    verify = commands.add_parser("verify", help="are all episodes there, byte for byte?")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.add_argument("found", type=Path, metavar="FOUND")
    verify.add_argument("--newest", type=int, metavar="N", help="only the newest N")

    commands.add_parser("rules", help="print what a rule can say")
    return parser


def _serve(options: argparse.Namespace) -> None:
    if not options.folder.is_dir():
        raise SystemExit(f"no such folder: {options.folder}")
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    with Origin(
        options.folder,
        rules=options.rules,
        host=options.host,
        port=options.port,
        log=options.log,
        control=options.control,
    ) as origin:
        ready = json.dumps({"url": origin.url, "feed": origin.feed_url, "pid": os.getpid()})
        print(ready, flush=True)
        if options.ready_file:
            write_whole(options.ready_file, ready.encode())
        stop.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    match options.command:
        case "make":
            if options.speech and not (shutil.which("espeak-ng") and shutil.which("ffmpeg")):
                print("espeak-ng or ffmpeg is missing: no speech", file=sys.stderr)
            spec = Spec(**{one.name: getattr(options, one.name) for one in fields(Spec)})
            manifest = make_podcast(options.folder, spec)
            count, size = len(manifest["episodes"]), manifest["bytes"]
            print(f"{options.folder}: {count} episodes, {size} bytes of media")
        case "serve":
            _serve(options)
        case "verify":
            missing = missing_episodes(options.folder, options.found, options.newest)
            for entry in missing:
                print(f"missing or different: {entry['path']} ({entry['bytes']} bytes)")
            print("all there" if not missing else f"{len(missing)} not there")
            return 1 if missing else 0
        case "rules":
            with contextlib.suppress(BrokenPipeError):
                print(RULES_HELP, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
