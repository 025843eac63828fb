"""The ego speed from CAN bus ``pose`` messages, where a scene has them and they can be believed.

Missing messages are normal (a folder never downloaded, 21 scenes without any, no steering feedback); why a scene has none is kept, so
that no fallback is silent. A message is believed if it is near in time and says what the poses say: on v1.0-mini the two differ by
0.64 m/s at most. Source of file names and of the list of scenes without messages: the devkit's CAN bus API.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json

NEAR_S = 0.5  # a message farther away says nothing about the keyframe
PLAUSIBLE_MPS, PLAUSIBLE_SHARE = 1.0, 0.05  # of the poses' own speed; twice as much where that is from one side only

LISTED = "the devkit's list says: does not have any CAN bus data"
FAR = "no CAN message within 0.5 s"
CONTRADICTED = "CAN message contradicts the poses"
OTHER_DRIVE = "most CAN messages contradict the poses (another drive's file?)"
ABSENT = "no CAN messages"


class CanBus:
    """CAN bus speeds scene by scene. ``missing`` says, for every scene asked for in vain, what is not there."""

    def __init__(self, dataroot: str | os.PathLike[str]) -> None:
        from nuscenes.can_bus.can_bus_api import NuScenesCanBus

        self.missing: dict[str, str] = {}
        self._folder = os.path.join(os.path.expanduser(dataroot), "can_bus")
        self._listed: set[str] = set()
        if os.path.isdir(self._folder):
            self._listed = {f"scene-{number:04d}" for number in NuScenesCanBus(os.path.dirname(self._folder)).can_blacklist}

    def speeds(self, scene: str, with_steering: bool) -> tuple[np.ndarray, np.ndarray] | None:
        """(utime in µs (n,) ascending, longitudinal speed in m/s (n,)) of a scene's pose messages; None if they are missing.

        Args:
            with_steering: ask for steering-angle messages too and give None without them, as the released converter
                does (it reads both in one ``try``).
        """
        try:
            if not os.path.isdir(self._folder):
                raise LookupError(f"no folder {self._folder}")
            if scene in self._listed:
                raise LookupError(LISTED)
            pose = self._messages(scene, "pose")
            if with_steering:
                self._messages(scene, "steeranglefeedback")
            utimes = np.array([message["utime"] for message in pose], dtype=np.int64)
            speeds = np.array([message["vel"][0] for message in pose], dtype=np.float64)
        except LookupError as error:  # also a message without utime or vel
            self.missing[scene] = str(error)
            return None
        except (SennaPruneError, TypeError, ValueError, OverflowError) as error:  # a broken file
            self.missing[scene] = f"{type(error.__cause__ or error).__name__}: {error}"
            return None
        order = np.argsort(utimes, kind="stable")
        order = order[np.isfinite(speeds[order])]
        if len(order) == 0:
            self.missing[scene] = "no pose message holds a speed"
            return None
        return utimes[order], speeds[order]

    def _messages(self, scene: str, name: str) -> list[dict[str, Any]]:
        if not re.fullmatch(r"[\w.-]+", scene):
            raise LookupError("a scene's name that no CAN file can have")
        path = os.path.join(self._folder, f"{scene}_{name}.json")
        if not os.path.isfile(path):
            raise LookupError(f"no {name} messages")
        messages = read_json(path)
        if not messages or not isinstance(messages, list):
            raise LookupError(f"no {name} messages")
        return messages


def nearest_message(utimes: np.ndarray, utime: int) -> int:
    """Index of the message nearest in time; of two equally near the later one. utimes (n,) ascending, n >= 1."""
    after = int(np.searchsorted(utimes, utime))
    if after == len(utimes) or (after > 0 and utime - utimes[after - 1] < utimes[after] - utime):
        return after - 1
    return after


def believed(
    messages: tuple[np.ndarray, np.ndarray] | None, utimes: np.ndarray, moved_mps: np.ndarray, one_sided: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """The CAN speed at each keyframe, NaN where there is none to be believed, and why not ("" where it is).

    Args:
        messages: of ``CanBus.speeds``.
        utimes: (N,) of the keyframes. moved_mps: (N,) speed by the poses, NaN where unknown. one_sided: (N,) bool, where that is from
            one neighbour only and lags behind a change of speed.
    """
    count = len(utimes)
    if messages is None:
        return np.full(count, np.nan), [ABSENT] * count
    nearest = np.array([nearest_message(messages[0], int(utime)) for utime in utimes], dtype=np.int64)
    speeds = messages[1][nearest].copy()
    far = np.abs(messages[0][nearest] - utimes) > NEAR_S * 1e6
    allowed = (PLAUSIBLE_MPS + PLAUSIBLE_SHARE * moved_mps) * np.where(one_sided, 2.0, 1.0)
    contradicted = ~far & (np.abs(np.abs(speeds) - moved_mps) > allowed)  # NaN: nothing to compare with
    why = [FAR if f else CONTRADICTED if c else "" for f, c in zip(far, contradicted, strict=True)]
    if 2 * contradicted.sum() > (~far).sum():
        why = [FAR if f else OTHER_DRIVE for f in far]
    speeds[[reason != "" for reason in why]] = np.nan
    return speeds, why
