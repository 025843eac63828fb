"""The ego speed from CAN bus ``pose`` messages, where a scene has them.

Source: the devkit's CAN bus API. Missing messages are normal (a folder never downloaded, 21 scenes without any, no
steering feedback); why a scene has none is kept, so that no fallback is silent.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class CanBus:
    """CAN bus speeds scene by scene. ``missing`` says, for every scene asked for in vain, what is not there."""

    def __init__(self, dataroot: str) -> None:
        from nuscenes.can_bus.can_bus_api import NuScenesCanBus

        self.missing: dict[str, str] = {}
        self._api: Any = None
        try:
            self._api = NuScenesCanBus(dataroot=dataroot)
        except Exception:  # the devkit raises a bare Exception when DATAROOT/can_bus does not exist
            self._absent = f"no folder {dataroot}/can_bus"

    def speeds(self, scene: str, with_steering: bool) -> tuple[np.ndarray, np.ndarray] | None:
        """(utime in µs (n,), longitudinal speed in m/s (n,)) of a scene's pose messages; None if they are missing.

        Args:
            with_steering: ask for steering-angle messages too and give None without them, as the released converter
                does (it reads both in one ``try``).
        """
        try:
            if self._api is None:
                raise LookupError(self._absent)
            pose = self._messages(scene, "pose")
            if with_steering:
                self._messages(scene, "steeranglefeedback")
            return (
                np.array([message["utime"] for message in pose], dtype=np.int64),
                np.array([message["vel"][0] for message in pose], dtype=np.float64),
            )
        except LookupError as error:  # also a message without utime or vel
            self.missing[scene] = str(error)
        except Exception as error:  # the devkit's bare Exception (blacklisted scene), a broken file, an odd scene name
            self.missing[scene] = f"{type(error).__name__}: {error}"
        return None

    def _messages(self, scene: str, name: str) -> list[dict[str, Any]]:
        try:
            messages = self._api.get_messages(scene, name, print_warnings=False)
        except FileNotFoundError:
            raise LookupError(f"no {name} messages") from None
        if not messages or not isinstance(messages, list):
            raise LookupError(f"no {name} messages")
        return messages


def nearest_message(utimes: np.ndarray, utime: int) -> int:
    """Index of the message nearest in time; of two equally near the later one. utimes (n,) ascending, n >= 1."""
    after = int(np.searchsorted(utimes, utime))
    if after == len(utimes) or (after > 0 and utime - utimes[after - 1] < utimes[after] - utime):
        return after - 1
    return after
