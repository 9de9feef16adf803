"""The ``p2prss`` command: global options, and errors turned into one line and an exit code.

Importing this module must stay cheap: ``p2prss --help`` may take 0.4 s. Commands import what they
need when they run.
"""

import errno
import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2prss import __version__
from p2prss.cli import LOADING, announcing, care, demo, diff, feeds, look, network, opml, page, peers
from p2prss.cli.context import Context
from p2prss.cli.output import Output
from p2prss.errors import P2prssError

app = typer.Typer(
    name="p2prss",
    help="Peer-to-peer podcasts: publish a feed, follow it with any podcast app, keep feeds alive.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (feeds, look, page, diff, peers, care, announcing, network, opml, demo):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"p2prss {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Data folder; else P2PRSS_HOME, else the platform's own place.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version  # its callback has ended the program already
    ctx.obj = Context(home, Output(json=json, verbosity=-1 if quiet else int(verbose)))


def main() -> None:
    """The console script."""
    if LOADING:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    _write_any_text(json="--json" in arguments)
    output = Output(json="--json" in arguments)
    try:
        try:
            code = app(args=arguments, prog_name="p2prss", standalone_mode=False)
        except BaseException as error:  # noqa: BLE001 - the last place: whatever it is, the user gets one line
            return _report(output, _cause(error), arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody listens any more
        return 1
    return code if isinstance(code, int) else 0


def _write_any_text(*, json: bool) -> None:
    """A terminal of another charset gets what it can't show as escapes; JSON is UTF-8 everywhere."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def _cause(error: BaseException) -> BaseException:
    """The error to tell; of a group one of ours before any other."""
    leaves: list[BaseException] = []
    queue = [error]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseExceptionGroup):
            queue.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, P2prssError)), leaves[0])


def _report(output: Output, error: BaseException, arguments: list[str]) -> int:
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, typer.Abort):
        output.error(1, "nothing was done")
        return 1
    if format_message := getattr(error, "format_message", None):
        return _report_usage(output, error, format_message())
    if isinstance(error, P2prssError):
        output.error(error.exit_code, str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        output.error(5, f"the disk is full: {error.filename or error.strerror}")
        return 5
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        output.error(1, f"not allowed: {error.filename or ''} {error.strerror}")
        return 1
    if isinstance(error, UnicodeEncodeError):  # of bytes that Python could not read as letters
        output.error(2, "what was typed is no text in this locale: try again with LC_ALL=C.UTF-8")
        return 2
    output.error(1, f"internal error: {type(error).__name__}: {error} (-v shows where)")
    if {"-v", "--verbose"} & set(arguments):
        raise error
    return 1


def _report_usage(output: Output, error: BaseException, message: str) -> int:
    """An error of the command line itself, which typer has found; only its base class is not ours to name."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        return 2
    command = getattr(getattr(error, "ctx", None), "command_path", "p2prss")
    output.error(2, f"{message.rstrip('.')} (see {command} --help)")
    return 2


if __name__ == "__main__":
    main()
