"""A run's planning answers, scored by Senna's original metric, as the JSON file that the original evaluation writes.

    python tools/official_result.py runs/mine --setting autoprune --out eval_result.json

Only for comparison with published figures: the original counts words anywhere in the answer (senna_autoprune/evaluation/official.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from senna_autoprune import SennaPruneError
from senna_autoprune.demo import label_of_run
from senna_autoprune.evaluation.measures.official import planning_metric
from senna_autoprune.evaluation.measures.summary import official_records
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.atomic import write_atomically


def main(arguments: list[str] | None = None) -> None:
    """SennaPruneError: no run, no such answers, a label the original cannot read, or a file that cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder of `senna-prune eval` or `sweep`")
    parser.add_argument("--setting", default="unpruned", help="whose answers, as the run's table calls it (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)

    with RunStore.read(options.run) as store:
        plans = [question for question in store.questions() if question.type == "plan"]
        texts = {row.question: row.answer for row in store.answers(options.setting) if row.answer is not None}
        there, said = sorted(store.proven()), label_of_run(store.config)
    records = list(official_records(plans, texts))
    if not records:
        raise SennaPruneError(f"{options.run} has no planning answers of {options.setting!r}; it has {', '.join(there) or 'none'}")
    try:
        score = planning_metric(records, str(options.out), echo=print)
    except (ValueError, KeyError) as error:  # as the original would
        raise SennaPruneError(f"{options.run}: a label is no meta-action of the original ({error}): build the questions anew") from error
    write_atomically(options.out, json.dumps(score.saved, indent=4) + "\n")
    if len(records) < len(plans):
        print(f"{len(plans) - len(records)} of {len(plans)} questions have no answer of {options.setting!r} and are left out")
    if said:
        print(said)


if __name__ == "__main__":
    try:
        main()
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
