"""The commands for lists of feeds: opml import and opml export."""

from pathlib import Path
from typing import Annotated

import typer

from p2prss.cli.context import Context
from p2prss.cli.network_options import PEERS, NetworkOptions, with_network
from p2prss.cli.options import Once, Timeout
from p2prss.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Lists of feeds, for and from podcast apps.\n\nExample: `p2prss opml export podcasts.opml`",
    )
    group.command(name="export")(export)
    group.command(name="import")(import_)
    app.add_typer(group, name="opml")


def export(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; else stdout.")] = None,
) -> None:
    """Write the local addresses of this home's feeds as OPML, for any podcast app.

    Example: `p2prss opml export podcasts.opml`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.subscriptions import export_list, write_list

        data, count = await export_list(HomePaths.find(context.home_option))
        if file is None:
            context.output.data({"feeds": count, "opml": data.decode()}, data.decode().rstrip("\n"))
            return
        write_list(file, data)
        context.output.data({"feeds": count, "file": str(file)}, f"{count} feeds written to {file}")

    context.run(main)


@with_network(*PEERS, "http", "no_http")
def import_(
    ctx: typer.Context,
    network: NetworkOptions,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An OPML file.")],
    publish: Annotated[
        bool, typer.Option("--publish", help="Mirror and publish the ordinary feeds of the list, too.")
    ] = False,
    once: Once = False,
    timeout: Timeout = None,
) -> None:
    """Follow the p2prss feeds of a list, whichever computer's local addresses it has.

    Ordinary feeds of the list are shown with what to do about them; with --publish they are mirrored.

    Example: `p2prss opml import podcasts.opml`
    """
    context = Context.of(ctx)
    if timeout is not None and not once:
        raise UsageError("--timeout is for --once: without it a node never gives up")

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.node import run_order
        from p2prss.node.orders import ImportOrder
        from p2prss.node.subscriptions import plan_import

        plan = await plan_import(HomePaths.find(context.home_option), file)
        output = context.output
        rows = [("follow", feed, "") for feed in plan.follow]
        rows += [("own", feed, "published from this home: nothing to do") for feed in plan.own]
        advice = "" if publish else "an ordinary feed: p2prss publish URL, or import with --publish"
        rows += [("publish" if publish else "ordinary", feed, advice) for feed in plan.ordinary]
        rows += [("unknown", feed, "neither a p2prss link nor a web address") for feed in plan.unknown]
        for action, feed, note in rows:
            output.data({"action": action, "title": feed.title, "url": feed.url, "note": note})
        output.table(
            ["ACTION", "TITLE", "URL", ""],
            [[action, feed.title, feed.url, note] for action, feed, note in rows],
        )
        order = ImportOrder(plan.follow, plan.ordinary if publish else (), once=once, patience=timeout)
        if not order.follow and not order.publish:
            return
        await run_order(network.settings(context.home_option), order, output.event, context.confirm)

    context.run(main)
