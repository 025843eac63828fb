"""The road's centre line: straight on, or straight - quarter circle - straight. Frenet (s, l) to world (x, y, yaw)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Path:
    """Straight for ``lead_in`` metres, then (if ``side`` is not 0) a quarter circle of ``radius`` to the left (+1) or right (-1)."""

    lead_in: float = 1e6
    side: int = 0
    radius: float = 10.0

    @property
    def arc_length(self) -> float:
        return self.radius * np.pi / 2 if self.side else 0.0

    def pose(self, s: np.ndarray | float, lateral: np.ndarray | float = 0.0) -> np.ndarray:
        """(…,) arc length and offset to the left in metres -> (…, 3) x, y, yaw of the road there."""
        s = np.asarray(s, dtype=np.float64)
        lateral = np.broadcast_to(np.asarray(lateral, dtype=np.float64), s.shape)
        yaw = np.zeros_like(s)
        x, y = s.copy(), np.zeros_like(s)
        if self.side:
            turned = np.clip((s - self.lead_in) / self.radius, 0.0, np.pi / 2)
            after = np.maximum(s - self.lead_in - self.arc_length, 0.0)
            yaw = self.side * turned
            x = np.minimum(s, self.lead_in) + self.radius * np.sin(turned)
            y = self.side * (self.radius * (1 - np.cos(turned)) + after)
        return np.stack([x - lateral * np.sin(yaw), y + lateral * np.cos(yaw), yaw], -1)
