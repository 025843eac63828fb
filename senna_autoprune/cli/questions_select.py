"""``senna-prune questions filter``, ``sample`` and ``merge``: parse, call ``senna_autoprune.formats.select``, print."""

from __future__ import annotations

from typing import Any

import click

_out = click.option("--out", "out", required=True, type=click.Path(dir_okay=False), help="Question file to write (JSON).")


def _split(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


@click.command("filter")
@click.argument("file", type=click.Path())
@_out
@click.option("--types", help="Question types, separated by commas.")
@click.option("--scenes", help="Scene names or tokens, separated by commas.")
@click.option("--label", "labels", multiple=True, help="Label, e.g. 'STOP, STRAIGHT'; may be given several times.")
@click.option(
    "--where", "conditions", multiple=True, metavar="NAME=VALUE", help="light, weather, location, speed_band, command, category = value."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first N of them.")
def filter_(
    file: str, out: str, types: str | None, scenes: str | None, labels: tuple[str, ...], conditions: tuple[str, ...], limit: int | None
) -> None:
    """Write the questions of FILE that have one of the values of every condition."""
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.formats.select import filter_questions

    where: dict[str, list[str]] = {}
    for name, values in (("type", _split(types)), ("scene", _split(scenes)), ("label", list(labels))):
        if values:
            where[name] = values
    for text in conditions:
        name, sign, value = text.partition("=")
        if not sign:
            raise SennaPruneError(f"--where {text}: write it as NAME=VALUE, like --where light=night")
        where.setdefault(name.strip(), []).append(value.strip())
    if not where and limit is None:
        raise SennaPruneError("nothing to filter by: name --types, --scenes, --label, --where or --limit")
    _print(out, filter_questions(file, out, where, limit))


@click.command("sample")
@click.argument("file", type=click.Path())
@_out
@click.option("--count", required=True, type=click.IntRange(1), help="How many questions to draw.")
@click.option("--by", default="label", show_default=True, help="Groups: label, type, scene, light, weather, speed_band, command, ...")
@click.option("--balanced/--stratified", default=True, show_default=True, help="As many of each group, or in proportion to the groups.")
@click.option("--types", help="Only questions of these types, separated by commas.  [default: all]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def sample(file: str, out: str, count: int, by: str, balanced: bool, types: str | None, seed: int) -> None:
    """Draw questions of FILE from groups, with the weights that undo the draw."""
    from senna_autoprune.formats.select import sample_questions

    sidecar = sample_questions(file, out, count, by, balanced, seed, _split(types))
    for name, group in sidecar["sample"]["groups"].items():
        click.echo(f"{group['taken']:>7} of {group['of']:<7} weight {group['weight']:.4g}  {name}")
    _print(out, sidecar)


@click.command("merge")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@_out
def merge(files: tuple[str, ...], out: str) -> None:
    """Put the questions of FILES into one file; what is asked twice is kept once."""
    from senna_autoprune.formats.select import merge_questions

    sidecar = merge_questions(files, out)
    _print(out, sidecar)
    if sidecar["asked_twice"]:
        click.echo(f"{sidecar['asked_twice']} questions were in more than one file")


def _print(out: str, sidecar: dict[str, Any]) -> None:
    from senna_autoprune.cli.labels import print_labels

    click.echo(f"{sidecar['records']} questions -> {out}")
    print_labels(sidecar)


COMMANDS = {"filter": filter_, "sample": sample, "merge": merge}
