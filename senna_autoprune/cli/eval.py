"""``senna-prune eval``: a checkpoint and a question file -> accuracy unpruned and pruned, beside its controls."""

from __future__ import annotations

import json
from typing import Any

import click

from senna_autoprune.errors import SennaPruneError

FAILED_SAMPLES = 3  # exit code of a run that finished but could not ask everything


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", help="Checkpoint folder (original layout or ours) or hub id.")
@click.option("--questions", help="Question file (LLaVA-format JSON list), see `senna-prune questions build`.")
@click.option(
    "--images", help="Folder of relative image paths. Default: the question file's data root, else its folder."
)
@click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names.")
@click.option("--out", help="Run folder; a started one is continued. Default: runs/METHOD-BUDGET-HASH of the settings.")
@click.option("--config", "config_file", type=click.Path(), help="YAML file with the same keys; flags win over it.")
@click.option("--method", help="Pruning method of the registry. Default: autoprune.")
@click.option("--mode", help="paper or release (autoprune).")
@click.option("--scope", help="scene: rank all views together; view: the same number from each.")
@click.option("--budget", help="What --retention is a share of: tokens (default) or flops of the unpruned prefill.")
@click.option("--retention", type=float, help="Share that is kept, averaged over the layers. Default: 0.25.")
@click.option("--tokens", type=float, help="Budget as visual tokens, averaged over the layers.")
@click.option("--tokens-per-view", type=float, help="Budget as visual tokens of each view, averaged over the layers.")
@click.option("--set", "option_values", multiple=True, metavar="NAME=VALUE", help="Further option of the method.")
@click.option("--types", help="Question types to ask, separated by commas, or all. Default: plan.")
@click.option("--limit", type=int, help="Only the first N questions of those types.")
@click.option("--max-new-tokens", type=int, help="Longest answer. Default: by question type, 16 for plan.")
@click.option("--prompt-template", help="eval (default, the original evaluation's wording) or train.")
@click.option(
    "--controls/--no-controls", default=None, help="Also random and uniform pruning and no-image. Default: on."
)
@click.option("--batch-size", type=int, help="Questions asked together; answers stay the same. Default: 1.")
@click.option("--device", help="Any torch device. Default: cpu.")
@click.option("--dtype", help="float32 (default), bfloat16 or float16.")
@click.option("--seed", type=int, help="Of random pruning, random answers and the bootstrap. Default: 0.")
@click.option("--resamples", type=int, help="Bootstrap resamples. Default: 2000.")
@click.option("--retry-failed", is_flag=True, help="When continuing, ask failed questions again.")
@click.option("--json", "as_json", is_flag=True, help="Print the measures as one JSON document in the last line.")
@click.pass_context
def command(
    ctx: click.Context,
    config_file: str | None,
    option_values: tuple[str, ...],
    retry_failed: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Ask planning questions with and without pruned visual tokens, and measure what pruning costs.

    Answers are stored as they are computed: interrupted, the same command continues. Exit code 0: done; 2: bad set-up;
    3: done, but some samples failed.
    """
    from senna_autoprune.cli.eval_tables import console_for, show
    from senna_autoprune.config import EvalConfig, load_config
    from senna_autoprune.demo import label_of

    given = {name: value for name, value in flags.items() if value is not None}
    if option_values:
        given["options"] = dict(_option(text) for text in option_values)
    config = load_config(EvalConfig, config_file, given)
    console, progress_console = console_for(), console_for(stderr=True)
    if config.model is None or config.questions is None:
        _fill_in(config, progress_console)

    result = _evaluate(config, retry_failed, progress_console)
    metrics = result.metrics
    label = label_of(config.model, config.questions)
    if label is not None:
        console.print(label, style="bold")
    console.print(
        f"model {metrics['run']['places']['model']}, questions {metrics['run']['places']['questions']}", markup=False
    )
    show(metrics, console)
    console.print(f"run: {result.directory}", markup=False)
    if as_json:
        click.echo(json.dumps({"label": label, **_compact(metrics, str(result.directory))}, allow_nan=False))
    if result.failed:
        ctx.exit(FAILED_SAMPLES)


def _option(text: str) -> tuple[str, Any]:
    """``gamma=0.1`` -> ("gamma", 0.1)."""
    import yaml

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise SennaPruneError(f"--set {text}: write it as NAME=VALUE, like --set gamma=0.1")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SennaPruneError(f"--set {text}: the value cannot be read") from error


def embedded() -> tuple[str, str] | None:
    """(model folder, question file) that come with the package, or None if this copy has none."""
    try:
        from senna_autoprune import demo
    except ImportError:
        return None
    offer = getattr(demo, "embedded", None)
    found = offer() if offer is not None else None
    return (str(found[0]), str(found[1])) if found is not None else None


def _fill_in(config: Any, console: Any) -> None:
    """Take the embedded model and questions when neither is given, and say so; one without the other is an error."""
    missing = [name for name in ("model", "questions") if getattr(config, name) is None]
    if len(missing) == 1:
        raise SennaPruneError(f"--{missing[0]} is missing: give both --model DIR and --questions FILE, or neither for the embedded ones")
    found = embedded()
    if found is None:
        raise SennaPruneError("--model and --questions are missing, and this copy has no embedded ones: give --model DIR --questions FILE")
    config.model, config.questions = found
    console.print("using the embedded model and questions (none given): embedded model, synthetic scenes")


def _evaluate(config: Any, retry_failed: bool, console: Any) -> Any:
    """Load and run under a progress bar with an estimate of the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from senna_autoprune.evaluation.run import evaluate, prepare, run_directory
    from senna_autoprune.senna import load_senna

    prepared = prepare(config)
    console.print(f"loading {config.model}", markup=False)
    senna = load_senna(config.model, config.vision_tower, config.dtype, config.device)
    console.print(f"run folder {run_directory(config)}", markup=False)
    columns = (
        TextColumn("answers"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("answers", total=None, note="")
        computed = failed = 0

        def on_row(row: Any, done: int, total: int) -> None:
            nonlocal computed, failed
            if not computed:  # rows found on disk are no measure of speed
                progress.reset(task, total=total, completed=done - 1)
            computed += 1
            failed += row.status == "failed"
            progress.update(task, completed=done, note=f"{failed} failed" if failed else "")

        result = evaluate(config, senna, prepared, on_row, retry_failed)
        progress.update(task, total=result.rows, completed=result.rows)
        return result


def _compact(metrics: dict[str, Any], directory: str) -> dict[str, Any]:
    """The measures without the long list of flips (metrics.json has it)."""
    flips = {name: {k: v for k, v in found.items() if k != "list"} for name, found in metrics["flips"].items()}
    return {**metrics, "flips": flips, "directory": directory}
