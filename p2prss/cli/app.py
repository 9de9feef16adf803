"""The ``p2prss`` command: global options, and errors turned into one line and an exit code.

Importing this module must stay cheap: ``p2prss --help`` may take 0.4 s. Commands import what they
need when they run.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2prss import __version__
from p2prss.cli import care, demo, feeds, look
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
for module in (feeds, look, care, demo):
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
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    output = Output(json="--json" in arguments)
    try:
        app(args=arguments, prog_name="p2prss", standalone_mode=True)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody listens any more
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as group:
        return _report(output, _cause(group), arguments)
    except Exception as error:  # noqa: BLE001 - the last place: whatever it is, the user gets one line
        return _report(output, error, arguments)
    return 0


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell of a group: one of ours before any other."""
    leaves: list[BaseException] = []
    queue: list[BaseException] = [group]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseExceptionGroup):
            queue.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, P2prssError)), leaves[0])


def _report(output: Output, error: BaseException, arguments: list[str]) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, P2prssError):
        output.error(error.exit_code, str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        output.error(5, f"the disk is full: {error.filename or error.strerror}")
        return 5
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        output.error(1, f"not allowed: {error.filename or ''} {error.strerror}")
        return 1
    output.error(1, f"internal error: {type(error).__name__}: {error} (-v shows where)")
    if {"-v", "--verbose"} & set(arguments):
        raise error
    return 1


if __name__ == "__main__":
    main()
