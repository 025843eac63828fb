"""The command line: parses and prints, nothing else. Commands load on use, so ``--help`` imports no torch."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import click

from senna_autoprune import __version__
from senna_autoprune.cli.screen import ReaderGoneError, screens, styled
from senna_autoprune.errors import SennaPruneError, one_line

READER_GONE = 141  # exit code: as of any program whose pipe is closed (128 + SIGPIPE)

# name -> (module with an attribute `command`, one-line help shown without importing the module)
COMMANDS: dict[str, tuple[str, str]] = {
    "ask": ("senna_autoprune.cli.ask", "One question, now: both answers, tokens per view and layer, times."),
    "attention": ("senna_autoprune.cli.attention", "Draw where a question looks, layer by layer, over the views (Fig. 1)."),
    "bench": ("senna_autoprune.cli.bench", "Measure prefill and decode with and without pruning on random weights."),
    "benchmarks": ("senna_autoprune.cli.benchmarks", "Standard benchmarks through lmms-eval, in the form of Tables 1 and 2."),
    "budget": ("senna_autoprune.cli.budget", "The smallest token budget that is safe on your questions, with a certificate."),
    "calibrate": ("senna_autoprune.cli.calibrate", "Choose AutoPrune's gamma for a model, without labels."),
    "compare": ("senna_autoprune.cli.compare", "Two finished runs, paired by question: is B worse than A?"),
    "curves": ("senna_autoprune.cli.curves", "Draw a run's retention curves by mutual information (Fig. 2)."),
    "doctor": ("senna_autoprune.cli.doctor", "Check on your own model that pruned numbers can be trusted."),
    "eval": ("senna_autoprune.cli.eval", "Planning accuracy unpruned and pruned, with controls."),
    "methods": ("senna_autoprune.cli.methods", "The pruning methods: paper, needs and options of each."),
    "replay": ("senna_autoprune.cli.replay", "Watch a scene with pruned tokens: HTML page, MCAP, MP4."),
    "report": ("senna_autoprune.cli.report", "A run as one page: what was run, accuracy with controls, flips, cost."),
    "runs": ("senna_autoprune.cli.runs", "List runs: method, budget, state, accuracy, verdict."),
    "questions": ("senna_autoprune.cli.questions", "Build questions from nuScenes tables, convert other formats; filter, sample, merge."),
    "survival": ("senna_autoprune.cli.survival", "What was thrown away: evidence of objects that survives pruning, against chance."),
    "sweep": ("senna_autoprune.cli.sweep", "Every method at every budget in one table, beside the paper's figures."),
}


class LazyGroup(click.Group):
    """A click group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(COMMANDS[cmd_name][0]).command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        close = difflib.get_close_matches(args[0], COMMANDS, n=1) if args and args[0] not in COMMANDS else []
        if close and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="senna-prune")
def cli() -> None:
    """Prune visual tokens in the Senna driving VLA and measure what it costs in planning accuracy."""


def main() -> None:
    """Entry point. A SennaPruneError is one line on stderr and exit code 2; an interrupt is exit code 130."""
    try:
        with screens():
            code = cli(standalone_mode=False)  # click alone would turn an interrupt into exit code 1
    except ReaderGoneError:
        sys.exit(READER_GONE)
    except SennaPruneError as error:
        with screens():
            click.secho(f"senna-prune: error: {one_line(error)}", file=styled(error=True), err=True, fg="red")
        sys.exit(2)
    except MemoryError:
        with screens():
            what = "not enough memory: ask less at once (--limit, --batch-size), or use a larger machine; what was kept stays"
            click.secho(f"senna-prune: error: {what}", file=styled(error=True), err=True, fg="red")
        sys.exit(2)
    except click.ClickException as error:
        with screens():
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        with screens():
            click.echo("senna-prune: interrupted; run the same command again to continue", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
