"""Options that several commands share: blocks to decorate a command with, each in the order in which ``--help`` lists it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from senna_autoprune.errors import SennaPruneError

FAILED_SAMPLES = 3  # exit code of a command that finished but could not ask everything
HELP = {"help_option_names": ["-h", "--help"]}  # context settings of every command

Decorator = Callable[[Any], Any]


class ShareType(click.ParamType):
    """A share in (0, 1]: ``0.25`` or ``25%``. A bare 25 is refused with its cure: it may mean tokens."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        flag = param.opts[0] if param is not None else "retention"
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise SennaPruneError(f"{flag}: {text!r} is no share: write 0.25 or 25%") from None
        if 1 < number <= 100 and not text.endswith("%"):
            raise SennaPruneError(f"{flag}: {text} is more than everything: for {text} % write {number / 100:g} or {text}%")
        if not 0 < number <= 1:
            raise SennaPruneError(f"{flag}: {text}: a share of visual tokens lies in (0, 1], like 0.25 or 25%")
        return number


class ConfigType(click.ParamType):
    """A YAML file, or the name of one that comes with the package, from whatever folder."""

    name = "file"
    built_in = Path(__file__).resolve().parents[1] / "evaluation" / "configs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if Path(value).exists() or not re.fullmatch(r"\w+", str(value)):
            return str(value)
        named = self.built_in / f"{value}.yaml"
        if not named.is_file():
            known = sorted(path.stem for path in self.built_in.glob("*.yaml"))
            near = difflib.get_close_matches(str(value), known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SennaPruneError(f"--config {value}: no such file here; {hint}built in are {', '.join(known)}")
        return str(named)


SHARE, CONFIG = ShareType(), ConfigType()


class Grouped(click.Command):
    """A command whose ``--help`` lists options under the headings of their blocks, in the order of the headings' first options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                headings.setdefault(getattr(parameter, "heading", "Output and help"), []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def examples(*lines: str) -> str:
    """An epilog of command lines, as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def block(heading: str, *options: Decorator) -> Decorator:
    """One decorator for several options, listed in the order given, under ``heading`` in a ``Grouped`` command."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
            parameter = command.__click_params__[-1]
            parameter.heading = getattr(parameter, "heading", heading)  # a block within a block has its own
        return command

    return decorate


MODEL, QUESTIONS, PRUNING, ASKING, MACHINE = "Model", "Questions", "Pruning", "How it is asked", "Where it runs"

model_options = block(
    MODEL,
    click.option("--model", help="Checkpoint folder (original layout or ours) or hub id."),
    click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names (Senna)."),
    click.option("--adapter", help="How the model is asked: YAML file, family or entry point. Default: by the checkpoint."),
)
question_options = block(
    QUESTIONS,
    click.option("--questions", help="Question file (LLaVA-format JSON list), see `senna-prune questions build`."),
    click.option("--images", help="Folder of relative image paths. Default: the question file's data root, else its folder."),
    click.option("--tables", help="Folder of VERSION/*.json, for waypoints and earlier frames. Default: the images' folder."),
)
method_options = block(
    PRUNING,
    click.option("--method", help="Method (`senna-prune methods`), METHOD:NAME=VALUE, or package.module:Class. Default: autoprune."),
    click.option("--mode", type=click.Choice(["paper", "release"]), help="Of autoprune. Default: paper."),
    click.option(
        "--scope", type=click.Choice(["scene", "view"]), help="Rank all views together (default), or keep the same number from each."
    ),
)
budget_options = block(
    PRUNING,
    click.option("--retention", type=SHARE, help="Share of visual tokens kept, averaged over the layers: 0.25 or 25%. Default: 0.25."),
    click.option("--tokens", type=float, help="Budget as visual tokens, averaged over the layers."),
    click.option("--tokens-per-view", type=float, help="Budget as visual tokens of each view, averaged over the layers."),
)
SET = "Option of a method, of any command: --set gamma=0.1 or, where several methods run, --set autoprune.gamma=0.1."
method_option_values = block(PRUNING, click.option("--set", "option_values", multiple=True, metavar="[METHOD.]NAME=VALUE", help=SET))
device_options = block(
    MACHINE,
    click.option("--device", help="Any torch device. Default: auto, a GPU where there is one, else the CPU."),
    click.option("--dtype", metavar="[auto|float32|bfloat16|float16]", help="Default: auto, bfloat16 on a GPU that has it, else float32."),
)
prompt_option = block(
    ASKING,
    click.option("--prompt-template", type=click.Choice(["eval", "train"]), help="Default: eval, the original evaluation's wording."),
)
config_option = block(
    "Output and help",
    click.option("--config", "config_file", type=CONFIG, help="YAML file, or a built-in one: eval, table3, table4, complexity. Flags win."),
)
asking_options = block(
    QUESTIONS,
    click.option("--types", help="Question types to ask, separated by commas, or all. Default: plan."),
    click.option("--limit", type=int, help="Only N questions of those types, of all scenes in turn, drawn by --seed."),
    click.option("--limit-scenes", type=int, help="Only the questions of N scenes, drawn by --seed."),
    block(ASKING, click.option("--max-new-tokens", type=int, help="Longest answer. Default: the adapter's, by question type.")),
    prompt_option,
    block(MACHINE, click.option("--batch-size", type=int, help="Questions asked together; answers stay the same. Default: 1.")),
    device_options,
    block(
        ASKING,
        click.option("--seed", type=int, help="Of random pruning, random answers and the bootstrap. Default: 0."),
        click.option("--resamples", type=int, help="Bootstrap resamples. Default: 2000."),
    ),
)
engine_options = block(
    MACHINE,
    click.option(
        "--engine", type=click.Choice(["local", "ray"]), help="Default: local; ray: several models at once, here or on a cluster."
    ),
    click.option(
        "--workers",
        type=int,
        help="Models that work at once, each in a process of one thread (local) or on Ray. Default: 1; a core each, at most 4, for all "
        "embedded questions.",
    ),
    click.option("--gpus-per-worker", type=float, help="Ray: GPUs of a worker. Default: 1 on cuda, else 0."),
    click.option("--ray-address", help="Ray: cluster to join, HOST:PORT or auto. Default: a local one for this run."),
)
force_option = click.option("--force", is_flag=True, help="Go on although the first answers are all unreadable.")
retry_option = click.option("--retry-failed", is_flag=True, help="When continuing, ask failed questions again.")
export_options = block(
    "Output and help",
    click.option("--csv", "csv_file", type=click.Path(dir_okay=False), help="Also write every answer to this file, for a spreadsheet."),
    click.option("--parquet", "parquet_file", type=click.Path(dir_okay=False), help="The same as Parquet (needs the extra `parquet`)."),
)
