"""What answers say, for the measures: the parsers of closed types, which labels are read by too, and scores of free text."""

from __future__ import annotations

import re
from itertools import islice

from senna_autoprune.nuscenes.answers import INVALID as INVALID
from senna_autoprune.nuscenes.answers import INVALID_PLAN as INVALID_PLAN
from senna_autoprune.nuscenes.answers import LIGHTS as LIGHTS
from senna_autoprune.nuscenes.answers import PATHS as PATHS
from senna_autoprune.nuscenes.answers import SPEEDS as SPEEDS
from senna_autoprune.nuscenes.answers import Plan as Plan
from senna_autoprune.nuscenes.answers import RoadUser as RoadUser
from senna_autoprune.nuscenes.answers import RoadUsers as RoadUsers
from senna_autoprune.nuscenes.answers import parse_light as parse_light
from senna_autoprune.nuscenes.answers import parse_motion as parse_motion
from senna_autoprune.nuscenes.answers import parse_plan as parse_plan
from senna_autoprune.nuscenes.answers import parse_road_users as parse_road_users
from senna_autoprune.nuscenes.answers import plan_meaning as plan_meaning

MOST_WORDS = 1000  # of a text that is scored: the longest common subsequence grows with the square
_WORD = re.compile("[A-Za-z0-9]+")


def text_scores(pairs: list[tuple[str, str]]) -> dict[str, float | int | None]:
    """Free text against its labels: mean ROUGE-L F1 (rouge-score, stemmed) and corpus BLEU (sacrebleu, 0..100), of the first
    ``MOST_WORDS`` words of each.

    Args:
        pairs: (label, answer), in order. Empty: both scores are None.
    """
    if not pairs:
        return {"count": 0, "rouge_l": None, "bleu": None}
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    pairs = [(_beginning(label), _beginning(answer)) for label, answer in pairs]
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    rouge = [scorer.score(label, answer)["rougeL"].fmeasure for label, answer in pairs]
    bleu = BLEU().corpus_score([answer for _, answer in pairs], [[label for label, _ in pairs]])
    return {"count": len(pairs), "rouge_l": sum(rouge) / len(rouge), "bleu": float(bleu.score)}


def _beginning(text: str) -> str:
    """The text, of one beyond ``MOST_WORDS`` its first words. A word is what rouge-score takes for one: letters and digits."""
    last = next(islice(_WORD.finditer(text), MOST_WORDS - 1, None), None)
    return text if last is None else text[: last.end()]
