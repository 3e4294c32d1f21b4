"""`rmbench cache`: where answers are kept, how much there is, and giving the space back."""

from __future__ import annotations

import click

from rmbench.cli import Commands, debug_option


@click.group(cls=Commands, invoke_without_command=True)
@click.pass_context
@debug_option
def command(context: click.Context) -> None:
    """Say where answers are kept, and how many; `clear` forgets them."""
    if context.invoked_subcommand is None:
        from rmbench.cache import cache_folder
        from rmbench.scoring import Store

        path = cache_folder() / "rewards.sqlite"
        with Store(path) as store:
            click.echo(f"{store.count():,} answers, {store.size / 2**20:,.1f} MiB, in {path}")


@command.command("clear")
@debug_option
def clear() -> int:
    """Forget every answer and give the space back; a damaged store is made anew."""
    from rmbench.cache import cache_folder
    from rmbench.scoring.store import empty

    path = cache_folder() / "rewards.sqlite"
    click.echo(f"{empty(path) / 2**20:,.1f} MiB given back in {path.parent}")
    return 0
