"""Evidence on hand-made scenes, and against slow twins."""

import numpy as np
import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.survival.evidence import Evidence, Region, covered, evidence_of, token_weights
from senna_autoprune.survival.run import patch_boxes, shown_views
from tests.survival.twins import covered_twin

GRID = patch_boxes(100, 100, 2)  # four patches of a square image


def test_patches_of_a_wide_image_lie_on_it_and_in_its_padding():
    boxes = patch_boxes(200, 100, 4)  # padded above and below by a quarter of the square
    assert boxes[0].tolist() == [0, -0.5, 0.25, 0] and boxes[4].tolist() == [0, 0, 0.25, 0.5]
    assert GRID.tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]


def test_cover_is_exact():
    right_half = Region("front", 0.5, 0, 1, 1)
    assert covered(GRID, [right_half]).tolist() == [0, 1, 0, 1]
    assert covered(GRID, [Region("front", 0.25, 0.25, 0.75, 0.75, 0.5)]).tolist() == [0.125] * 4
    assert covered(GRID, [right_half, right_half]).max() == 1 and covered(np.zeros((1, 4)), [right_half]).tolist() == [0]


def test_cover_equals_counting_points():
    rng = np.random.default_rng(0)
    regions = [Region("front", *sorted(rng.random(2))[:1], 0.1 * i, 0.9, 0.1 * i + 0.07, 0.6) for i in range(3)]
    boxes = np.sort(rng.random((4, 2, 2)), 1).reshape(4, 4)
    assert covered(boxes, regions) == pytest.approx(covered_twin(boxes, regions), abs=0.02)


def test_tokens_that_are_patches_and_tokens_that_mix():
    person = Evidence("pedestrian", (Region("back", 0, 0, 0.5, 0.5), Region("front", 0.5, 0.5, 1, 1)))
    plain = token_weights(person, ("front", "back"), [GRID, GRID])
    assert plain.tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    mixing = np.array([[0.0, 0, 0, 2], [1, 1, 1, 1], [0, 0, 0, 0]])  # three tokens of four patches
    mixed = token_weights(person, ("front", "back"), [GRID, GRID], [mixing, mixing])
    assert mixed.tolist() == pytest.approx([1, 0.25, 0, 0, 0.25, 0])
    with pytest.raises(SennaPruneError, match="2 views"):
        token_weights(person, ("front", "back"), [GRID])


def test_bands():
    assert [Evidence("vehicle", (), d).band for d in (0.0, 9.9, 10.0, 39.0, 40.0, None)] == [
        "0-10 m",
        "0-10 m",
        "10-20 m",
        "20-40 m",
        "40+ m",
        "unknown",
    ]


@pytest.mark.parametrize(
    "record",
    [
        7,
        {"class": "pedestrian"},
        {"class": "unicorn", "regions": [["front", 0, 0, 1, 1]]},
        {"class": "light", "regions": [["front", 0.5, 0, 0.4, 1]]},
        {"class": "light", "regions": [["front", 0, 0, "x", 1]]},
        {"class": "light", "regions": [["front", 0, 0, float("nan"), 1]]},
        {"class": "light", "regions": [[]]},
        {"class": "light", "regions": [["front", 0, 0, 1, 1]], "distance_m": "far"},
        {"class": "light", "regions": [["front", 0, 0, 1, 1]], "decides_plan": "yes"},
    ],
)
def test_broken_records_are_one_line(record):
    with pytest.raises(SennaPruneError, match="here"):
        evidence_of(record, "here")


def test_views_by_path_or_by_the_prompts_order():
    assert shown_views(["a/CAM_BACK/1.jpg", "a/CAM_FRONT/1.jpg"]) == ("back", "front")
    assert shown_views([f"{i}.jpg" for i in range(6)])[:3] == ("front", "front left", "front right")
    with pytest.raises(SennaPruneError, match="no camera"):
        shown_views(["1.jpg"])
