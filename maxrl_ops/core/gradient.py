"""The gradient norm held against its own past: spikes, and a drift that no spike tells."""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field

from maxrl_ops.core.policy import Unstable
from maxrl_ops.core.stats import robust_z


@dataclass(slots=True)
class Gradient:
    """Log gradient norms of one revision.

    Attributes:
        values: The newest ones, oldest first.
        ordered: The same, in order of size.
        z: How far the newest lay from those before it; None while there is no verdict.
        spikes: Whether each of the newest was one.
        spiking: How many of them were.
        drift: Cumulative sum of z above the slack (CUSUM). Source: Page, Continuous Inspection
            Schemes, Biometrika 41 (1954).
    """

    values: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)
    z: float | None = None
    spikes: deque[bool] = field(default_factory=deque)
    spiking: int = 0
    drift: float = 0.0

    def append(self, norm: float, policy: Unstable) -> None:
        """Take a gradient norm in; what is not finite, or not above 0, tells nothing."""
        if not 0 < norm < math.inf:
            return
        value = math.log(norm)
        if len(self.values) >= policy.least_baseline:
            z = self.z = robust_z(value, self.ordered, policy.least_scale)
            is_spike = z > policy.spike
            self.spikes.append(is_spike)
            self.spiking += is_spike
            while len(self.spikes) > policy.spikes_within:
                self.spiking -= self.spikes.popleft()
            clip = policy.drift_clip
            clipped = clip if z > clip else -clip if z < -clip else z
            drift = self.drift + (clipped - policy.drift_slack)
            self.drift = drift if drift > 0 else 0.0
        self.values.append(value)
        insort(self.ordered, value)
        if len(self.values) > policy.baseline:
            del self.ordered[bisect_left(self.ordered, self.values.popleft())]

    def is_unstable(self, policy: Unstable) -> bool:
        """Spikes, or a drift to act on."""
        return self.spiking >= policy.spikes or self.drift > policy.drift_act
