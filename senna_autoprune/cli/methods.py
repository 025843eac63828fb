"""``senna-prune methods [NAME]``: the methods that can be chosen, and what one of them needs and takes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from senna_autoprune.cli.options import HELP


@click.command(context_settings=HELP)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(name: str | None, as_json: bool) -> None:
    """List the pruning methods, ours and those of installed packages, or tell one's paper, needs and options.

    NAME may also be package.module:Class, any class derived from senna_autoprune.Policy.
    """
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.pruning.methods.facts import method_facts, method_names

    if name is not None:
        facts = method_facts(name)
        click.echo(json.dumps(asdict(facts), default=str) if as_json else "\n".join(_one(facts)))
        return
    rows: list[Any] = []
    for known in method_names():
        try:
            rows.append(method_facts(known))
        except SennaPruneError as error:  # a package announces what it has not
            click.echo(f"senna-prune: warning: {error}", err=True)
    if as_json:
        click.echo(json.dumps([asdict(facts) for facts in rows], default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in ("method", "paper", "cuts", "needs", "options"):
        table.add_column(head, overflow="fold")
    for facts in rows:
        own = [option for option, _, _ in facts.options if option not in ("scope", "seed")]
        table.add_row(facts.name, facts.paper or facts.path, facts.cuts, facts.needs, ", ".join(own))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    click.echo("one in full: senna-prune methods NAME; of another package: --method package.module:Class")


def _one(facts: Any) -> list[str]:
    lines = [f"{facts.name}  ({facts.path})", *([f"paper: {facts.paper}"] if facts.paper else [])]
    lines += [f"cuts: {facts.cuts}", f"needs: {facts.needs}", f"acts on: {facts.acts_on}", "", *facts.says.splitlines(), "", "options:"]
    lines += [f"  {name} = {default!r}  ({kind})" for name, kind, default in facts.options]
    return lines
