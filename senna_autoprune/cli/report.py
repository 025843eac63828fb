"""``senna-prune report``: a run as one page that one would send to a colleague."""

from __future__ import annotations

from typing import Any

import click

from senna_autoprune.cli.options import HELP, Grouped, export_options


@click.command("report", cls=Grouped, context_settings=HELP)
@click.argument("run", type=click.Path())
@click.option("--out", type=click.Path(), help="Folder for report.html, flips.html and figures/. Default: the run's own.")
@click.option("--flips", type=click.IntRange(0, 200), default=12, show_default=True, help="Flips with a picture, worst first.")
@click.option(
    "--replay/--no-replay",
    default=None,
    help="Make a replay that the pictures open: this loads the model and asks it again. Default: no model; one made before is opened.",
)
@click.option("--model", help="For the replay: the run's checkpoint, named again (or where it is now).")
@click.option("--vision-tower", help="For the replay: CLIP folder to use in place of the one the checkpoint names.")
@click.option("--adapter", help="For the replay: the run's adapter, named again where it is a file or a program.")
@click.option("--images", help="For the replay: the folder of the run's images, named again.")
@click.option("--method", help="For the replay: the run's method, named again where it is a program.")
@click.option("--device", help="For the replay: any torch device. Default: the run's.")
@export_options
def command(
    run: str, out: str | None, flips: int, replay: bool | None, csv_file: str | None, parquet_file: str | None, **asked: Any
) -> None:
    """Write report.html for a run directory of `senna-prune eval` (or of `sweep`, or `budget`).

    One self-contained file beside answers.html and figures/. A run that is not finished is reported as far as it is. No model is
    loaded but for --replay, which makes flips.html, the replay of the flips that the pictures open.
    """
    from rich.progress import Progress

    from senna_autoprune.cli.eval_tables import console_for
    from senna_autoprune.cli.export import Export
    from senna_autoprune.report.budget import is_budget, write_budget_report
    from senna_autoprune.report.write import is_sweep, write_report

    console, export = console_for(stderr=True), Export.of(csv_file, parquet_file)
    given = {name: value for name, value in asked.items() if value is not None}
    if is_budget(run):
        written = write_budget_report(run, out)
    elif is_sweep(run):
        from senna_autoprune.report.sweep import write_sweep_report

        written = write_sweep_report(run, out)
    else:
        replay = True if replay is None and given else replay  # a model or a device is only for that
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("replaying flips", total=None, visible=False)

            def on_frame(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, visible=True)

            written = write_report(run, out, flips, replay, on_frame, **given)
    for note in written.notes:
        click.echo(f"note: {note}", err=True)
    for path in written.files:
        click.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    for line in export.write(run):
        click.echo(line)
