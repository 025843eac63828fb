"""Options that several commands share: blocks to decorate a command with, each in the order in which ``--help`` lists it."""

from __future__ import annotations

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
        named = self.built_in / f"{value}.yaml"
        return str(named) if re.fullmatch(r"\w+", str(value)) and not Path(value).exists() and named.is_file() else str(value)


SHARE, CONFIG = ShareType(), ConfigType()


def block(*options: Decorator) -> Decorator:
    """One decorator for several options, listed in the order given."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


model_options = block(
    click.option("--model", help="Checkpoint folder (original layout or ours) or hub id."),
    click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names (Senna)."),
    click.option("--adapter", help="How the model is asked: YAML file, family or entry point. Default: by the checkpoint."),
)
question_options = block(
    click.option("--questions", help="Question file (LLaVA-format JSON list), see `senna-prune questions build`."),
    click.option("--images", help="Folder of relative image paths. Default: the question file's data root, else its folder."),
    click.option("--tables", help="Folder of VERSION/*.json, for waypoints and earlier frames. Default: the images' folder."),
)
method_options = block(
    click.option("--method", help="Pruning method (`senna-prune methods`), or package.module:Class. Default: autoprune."),
    click.option("--mode", help="paper or release (autoprune)."),
    click.option("--scope", help="scene: rank all views together; view: the same number from each."),
)
budget_options = block(
    click.option("--retention", type=SHARE, help="Share of visual tokens kept, averaged over the layers: 0.25 or 25%. Default: 0.25."),
    click.option("--tokens", type=float, help="Budget as visual tokens, averaged over the layers."),
    click.option("--tokens-per-view", type=float, help="Budget as visual tokens of each view, averaged over the layers."),
)
method_option_values = click.option("--set", "option_values", multiple=True, metavar="NAME=VALUE", help="Further option of the method.")
device_options = block(
    click.option("--device", help="Any torch device. Default: cpu."),
    click.option("--dtype", help="float32 (default), bfloat16 or float16."),
)
prompt_option = click.option("--prompt-template", help="eval (default, the original evaluation's wording) or train.")
config_option = click.option(
    "--config", "config_file", type=CONFIG, help="YAML file, or a built-in name (eval, table3, table4); flags win over it."
)
asking_options = block(
    click.option("--types", help="Question types to ask, separated by commas, or all. Default: plan."),
    click.option("--limit", type=int, help="Only N questions of those types: the first, or with --limit-scenes evenly of its scenes."),
    click.option("--limit-scenes", type=int, help="Only the questions of N scenes, drawn by --seed."),
    click.option("--max-new-tokens", type=int, help="Longest answer. Default: the adapter's, by question type."),
    prompt_option,
    click.option("--batch-size", type=int, help="Questions asked together; answers stay the same. Default: 1."),
    device_options,
    click.option("--seed", type=int, help="Of random pruning, random answers and the bootstrap. Default: 0."),
    click.option("--resamples", type=int, help="Bootstrap resamples. Default: 2000."),
)
engine_options = block(
    click.option("--engine", help="local (default), or ray: several models at once, on one machine or a cluster."),
    click.option("--workers", type=int, help="Ray: models that work at once. Default: 1."),
    click.option("--gpus-per-worker", type=float, help="Ray: GPUs of a worker. Default: 1 with --device cuda, else 0."),
    click.option("--ray-address", help="Ray: cluster to join, HOST:PORT or auto. Default: a local one for this run."),
)
force_option = click.option("--force", is_flag=True, help="Go on although the first answers are all unreadable.")
retry_option = click.option("--retry-failed", is_flag=True, help="When continuing, ask failed questions again.")
