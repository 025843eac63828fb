"""The way driven before a keyframe, against the devkit's own boxes moved step by step."""

from __future__ import annotations

import numpy as np
import pytest
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion

from senna_autoprune import SennaPruneError
from senna_autoprune.nuscenes.futures import future_of
from senna_autoprune.nuscenes.history import history_of, history_words
from senna_autoprune.nuscenes.scenes import keyframes_of
from tests.adapters.twins import into_lidar, lidar_of


def test_positions_are_the_devkits_and_the_oldest_comes_first(mini):
    samples = keyframes_of(mini, next(row for row in mini.scene if row["name"] == "scene-0103"))
    for index in (0, 1, 3, 20):
        ours = history_of(mini, samples[index]["token"])
        theirs = []
        for sample in samples[max(0, index - 4) : index]:
            pose, mount = lidar_of(mini, sample)
            place = Quaternion(pose["rotation"]).rotate(np.array(mount["translation"])) + np.array(pose["translation"])
            theirs.append(into_lidar(Box(list(place), [1, 1, 1], Quaternion()), mini, samples[index]).center[:2])
        np.testing.assert_allclose(ours, np.reshape(theirs, (-1, 2)), atol=1e-9)
    assert (np.diff(history_of(mini, samples[20]["token"])[:, 1]) > 0).all()  # it drove ahead


def test_a_history_ends_where_a_future_begins(mini):
    """Seen from each other, two neighbouring keyframes are as far apart."""
    samples = keyframes_of(mini, mini.scene[0])
    back = history_of(mini, samples[11]["token"], 1)[0]
    ahead = future_of(mini, samples[10]["token"], 1).path[0]
    assert np.linalg.norm(back) == pytest.approx(np.linalg.norm(ahead), rel=1e-3)


def test_words_and_faults(mini):
    assert history_words(np.array([[-0.001, -9.314], [0.5, -4.6]])) == "[0.00, -9.31], [0.50, -4.60]"
    assert history_words(history_of(mini, keyframes_of(mini, mini.scene[0])[0]["token"])) == "none"
    with pytest.raises(SennaPruneError, match="sample nowhere needs a row"):
        history_of(mini, "nowhere")
