"""Controls: what an answerer scores that sees little or nothing. No accuracy of ours is shown without them.

- majority: the most frequent label of these very questions, for all of them;
- random answer: labels drawn by their frequency (seeded);
- no-image: the model itself, its visual tokens computed from views of one even colour (the padding colour, i.e. the
  mean of CLIP's training images), so that it knows the question's speed and command but not the road;
- random and uniform pruning at the same budget: policies of the registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def majority_answer(labels: Sequence[str]) -> str:
    """The most frequent label; of equally frequent ones the first in alphabetical order. ValueError of no labels."""
    if not labels:
        raise ValueError("no labels")
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def random_answers(labels: Sequence[str], seed: int) -> list[str]:
    """One label for each question, drawn independently with the labels' own frequencies."""
    counts = Counter(labels)
    names = sorted(counts)
    shares = np.array([counts[name] for name in names], dtype=np.float64) / max(len(labels), 1)
    rng = np.random.default_rng(seed)
    return [names[i] for i in rng.choice(len(names), size=len(labels), p=shares)] if names else []


def expected_random_accuracy(labels: Sequence[str]) -> float | None:
    """Accuracy of ``random_answers`` in expectation: the sum of squared label shares."""
    total = len(labels)
    return sum((n / total) ** 2 for n in Counter(labels).values()) if total else None
