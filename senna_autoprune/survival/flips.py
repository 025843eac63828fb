"""Which answers of a run changed under pruning: the run's own answers, unpruned and pruned, compared as ``flips`` does."""

from __future__ import annotations

from pathlib import Path

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.measures.summary import severity_of
from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.evaluation.runs.store import RunStore


def flipped_answers(directory: Path) -> dict[str, dict[int, bool]]:
    """Setting -> question -> whether its answer says something else than the unpruned one, as the run's adapter reads it; questions
    without both are left out.

    Raises:
        SennaPruneError: the folder holds no run.
    """
    with RunStore.read(directory) as store:
        questions = {row.question: row for row in store.questions()}
        answers: dict[str, dict[int, str]] = {}
        for row in store.answers():
            if row.answer is not None:
                answers.setdefault(row.setting, {})[row.question] = row.words or ""
        reading = Reading.of(store.config.get("adapter"), f"{directory}/config.yaml")
    before = answers.pop(UNPRUNED, {})
    found: dict[str, dict[int, bool]] = {}
    for setting, after in answers.items():
        found[setting] = {}
        for number in before.keys() & after.keys():
            asked = questions[number]
            changed = before[number] != after[number]
            found[setting][number] = changed and severity_of(asked, before[number], after[number], reading) != "wording"
    return found
