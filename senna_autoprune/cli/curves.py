"""``senna-prune curves``: the paper's Fig. 2 from a run: each question's retention curve, coloured by its complexity."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("curves", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path())
@click.option("--budget", help="One of the run's budgets, as its tables write it: 0.25, 32/view. Default: the middle one.")
@click.option("--out", type=click.Path(), help="Picture: .png, .svg or .pdf. Default: RUN/figures/curves-BUDGET.png.")
def command(run: str, budget: str | None, out: str | None) -> None:
    """Draw the retention curves of a run of `senna-prune eval` or `sweep`, a line a question, coloured by mutual information.

    Left the curves that eq. 5-8 of the paper give, right the visual tokens that really entered each layer.
    """
    import numpy as np

    from senna_autoprune.files.regular import require_no_link
    from senna_autoprune.report.curve_figures import adaptation
    from senna_autoprune.report.curves import curves_of, save_curves
    from senna_autoprune.report.drawing import picture_path

    path = picture_path(out) if out is not None else None
    curves = curves_of(run, budget)
    if curves.label:
        click.echo(curves.label)
    others = [one for one in curves.budgets if one != curves.budget]
    click.echo(f"budget {curves.budget}" + (f" (also there: {', '.join(others)})" if budget is None and others else ""))
    for family in curves.families:
        information, steepness = (np.array([trace[key] for trace in family.traces]) for key in ("mutual_information", "k"))
        click.echo(
            f"{family.name}: {len(family.traces)} questions, mutual information {information.min():.3f} to {information.max():.3f} "
            f"(median {np.median(information):.3f}), k {steepness.min():.3f} to {steepness.max():.3f}, "
            f"{family.flat} of them flat"
        )
        click.echo(f"  {adaptation(family)}")
    path = path or Path(run) / "figures" / f"curves-{curves.budget.replace('/', '-').replace(' ', '-')}.png"
    require_no_link(path.parent, Path(run))
    save_curves(curves, path)
    click.echo(str(path))
