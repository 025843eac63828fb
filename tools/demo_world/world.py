"""Seeded scenes: which kind, what light, which place; and what is asked of them."""

import numpy as np

from demo_world import fast_road, urban
from demo_world.actors import add_actors
from demo_world.traffic import KEYFRAMES, PER_KEYFRAME, Scene

LOCATIONS = ("boston-seaport", "singapore-onenorth", "singapore-queenstown", "singapore-hollandvillage")
JPEG_QUALITY = 72
KINDS = ("fast", "street", "turn left", "turn right")
SHARES = (0.52, 0.26, 0.11, 0.11)

# share of the decision keyframes that is asked about, so that no answer and no (speed, command) pair settles it; labels are untouched
ASKED = {
    ("fast road", "keep"): 0.27,
    ("fast road", "decelerate"): 0.65,
    ("stand", "accelerate"): 0.5,
    ("slow", "decelerate"): 0.55,
    ("fast", "keep"): 0.8,
    ("fast", "decelerate"): 0.9,
}


def generate(seed: int, name: str, kind: str | None = None, edition: int = 1) -> Scene:
    """The scene of a seed; the same seed gives the same scene, whatever else was generated before.

    ``edition`` 1: the shipped world. 2: the same scenes with the road users of ``actors`` in them.
    """
    rng = np.random.default_rng(seed)
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    night, rain = bool(rng.random() < 0.3), bool(rng.random() < 0.25)
    if kind == "fast":
        ego, bodies, questions, road, path = fast_road.simulate(rng)
    else:
        ego, bodies, questions, road, path = urban.simulate(rng, {"street": 0, "turn left": 1, "turn right": -1}[kind])
    road["seed"] = int(rng.integers(1 << 31))
    questions = [q for q in questions if rng.random() < ASKED.get((q.family, q.manoeuvre), 1.0)]
    location = LOCATIONS[int(rng.integers(len(LOCATIONS)))]
    if edition > 1:
        asked = ego[: KEYFRAMES * PER_KEYFRAME : PER_KEYFRAME]
        bodies = add_actors(np.random.default_rng((seed, edition)), kind, asked, bodies, questions)
    words = [kind, "night" if night else "day", *(["rain"] if rain else []), *sorted({q.cause.split(":")[0] for q in questions})]
    return Scene(name, seed, kind, night, rain, location, path, ego, bodies, questions, road, ", ".join(words).capitalize())
