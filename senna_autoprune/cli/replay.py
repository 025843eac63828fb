"""``senna-prune replay``: a scene or a run's flips, unpruned and pruned, as an HTML page, an MCAP file and an MP4."""

from __future__ import annotations

from typing import Any

import click

from senna_autoprune.cli.options import (
    FAILED_SAMPLES,
    HELP,
    Grouped,
    budget_options,
    device_options,
    method_option_values,
    method_options,
    model_options,
    prompt_option,
)


@click.command("replay", cls=Grouped, context_settings=HELP)
@click.option("--scene", help="Scene name, scene token, or a sample token. Default: the scene with most images.")
@click.option("--run", "run", type=click.Path(), help="Finished run of `senna-prune eval`: its model, method, questions.")
@click.option("--flips", type=click.Choice(["worst", "all"]), help="Of a run: its flips, worst first (default), or all.")
@click.option("--images", help="Of a run: the folder of its images, named again. Default: none but those that come with this package.")
@model_options
@click.option("--dataroot", type=click.Path(), help="Folder that holds VERSION/*.json, maps/, samples/.")
@click.option("--version", "version", help="Table version, e.g. v1.0-mini. Default: the only one under --dataroot.")
@click.option("--out", help="Folder for all three, or a file: .html, .mcap or .mp4. Default: replays/NAME.")
@method_options
@budget_options
@method_option_values
@click.option("--limit", type=click.IntRange(1), help="At most so many frames. Default: all of a scene, 12 flips.")
@click.option(
    "--navigation",
    type=click.Choice(["fixed", "reference", "none"]),
    default="fixed",
    show_default=True,
    help="Rule of the navigation command and the speed in the question.",
)
@click.option(
    "--views",
    type=click.Choice(["fixed", "reference"]),
    default="fixed",
    show_default=True,
    help="Order of the six images.",
)
@click.option(
    "--attribution",
    type=click.Choice(["projector", "adapter"]),
    default="projector",
    show_default=True,
    help="Back through projector and adapter, or the adapter alone (a 200th of the work on a 7B model).",
)
@prompt_option
@device_options
@click.option("--seed", type=int, help="Of random pruning. Default: 0.")
@click.pass_context
def command(ctx: click.Context, option_values: tuple[str, ...], **flags: Any) -> None:
    """Watch a scene with pruned visual tokens: what the model still saw, and what it answered.

    With nothing given, the embedded model drives through an embedded scene. What a run folder points to (checkpoint, images) is
    opened only if you name it again. Exit code 0: done; 2: bad set-up; 3: done, but some frames failed.
    """
    from rich.progress import Progress

    from senna_autoprune.cli.eval_tables import console_for
    from senna_autoprune.cli.values import with_method_options
    from senna_autoprune.device import words
    from senna_autoprune.replay.setup import prepare
    from senna_autoprune.replay.write import kinds, write_replay

    given = with_method_options({name: value for name, value in flags.items() if value is not None}, option_values)
    console = console_for(stderr=True)
    job = prepare(**given)
    for line in job.said:
        console.print(line, markup=False)
    console.print(f"loading {job.model} on {words(job.config.device, job.config.dtype)}", markup=False)
    with Progress(console=console) as progress:
        task = progress.add_task("frames", total=len(job.source.shots))
        replay = job.make(lambda done, total: progress.update(task, completed=done))
    flips = [frame.flip for frame in replay.frames if frame.flip]
    click.echo(f"{replay.title}: {len(replay.frames)} frames, {len(flips)} flips ({replay.method}, {replay.budget})")
    for note in replay.notes:
        click.echo(f"note: {note}")
    for line in kinds(job.out)[1]:
        click.echo(line)
    write_replay(replay, job.out, lambda path: click.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)"))
    if any("failed" in (frame.unpruned.status, frame.pruned.status) for frame in replay.frames):
        ctx.exit(FAILED_SAMPLES)
