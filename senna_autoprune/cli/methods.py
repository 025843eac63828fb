"""``senna-prune methods [NAME]``: the methods that can be chosen, and what one of them needs and takes."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import Any

import click

from senna_autoprune.cli.options import HELP

NAME, WIDTH = 16, 80  # columns of the names, and in all


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
    for facts in rows:
        click.echo("\n".join(_short(facts)))
    click.echo("one in full: senna-prune methods NAME\nof another package: --method package.module:Class")


def _short(facts: Any) -> list[str]:
    """A method in some lines that fit 80 columns: where it cuts, what it needs, where it can be deployed, its options with defaults."""
    own = [f"{name}={'...' if default == 'required' else default}" for name, _, default in facts.options if name not in ("scope", "seed")]
    said = [
        f"{facts.paper or facts.path}; cuts {facts.cuts}; needs {facts.needs}; acts on {facts.acts_on}",
        f"deployable: {_deployable(facts)}",
        *([f"options: {', '.join(own)}"] if own else []),
    ]
    margin = " " * NAME
    wrapped = [textwrap.fill(line, WIDTH, initial_indent=margin, subsequent_indent=margin + "  ") for line in said]
    return [facts.name.ljust(NAME) + wrapped[0][NAME:], *wrapped[1:]]


def _deployable(facts: Any) -> str:
    """Where engines have the method today, and under which option, at a quarter of the tokens."""
    from senna_autoprune.evaluation.budget.deployable import BY_HAND, NONE, deployable
    from senna_autoprune.pruning.methods.registry import METHODS

    if facts.name not in METHODS:
        return BY_HAND if facts.cuts == "before the decoder" else NONE
    return deployable(facts.name, 0.25)


def _one(facts: Any) -> list[str]:
    lines = [f"{facts.name}  ({facts.path})", *([f"paper: {facts.paper}"] if facts.paper else [])]
    lines += [f"cuts: {facts.cuts}", f"needs: {facts.needs}", f"acts on: {facts.acts_on}"]
    says = facts.says.partition("\nRaises:")[0].rstrip()  # what follows is for who builds one
    lines += [f"deployable at 25 % of the tokens: {_deployable(facts)}", "", *says.splitlines(), "", "options:"]
    lines += [f"  {name} = {default!r}  ({kind})" for name, kind, default in facts.options]
    return lines
