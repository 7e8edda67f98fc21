"""Hyperparameters that creep to their fixed point are led there: Aitken's delta-squared, for each by itself.

Where nearly all annotators agree, the strengths' scale and how well each strength is known feed each other, and a round
of learning takes off only two or three hundredths of what is left: it looks settled long before it is. A leap goes
where the rounds go, never back, so that it cannot end where plain rounds would run away from.
"""

from __future__ import annotations

import numpy as np

from prefdata.stats.joint_data import FloatArray

_WAIT = 4
"""Rounds after a leap before the next: the quick changes that it stirs up have to die down."""
_FARTHEST = 0.3
"""The longest leap, in logarithms."""
_MOST = 50.0
"""The longest leap, in rounds."""
_NOISE = 1e-7


class Settling:
    """The last rounds of the logarithms of tau and of the deviations."""

    def __init__(self) -> None:
        self.changes: list[FloatArray] = []
        self.at = np.zeros(0)
        self.before: tuple[FloatArray, FloatArray] | None = None
        self.trust = np.ones(1)

    def heard(self, at: FloatArray, change: FloatArray) -> float:
        """Take down a round.

        Args:
            at: [q] where it ended.
            change: [q] what it changed.

        Returns:
            How far the farthest is still from where it goes to, as far as that can be told; infinite while it cannot.
        """
        self.at = at
        self.changes = [*self.changes, change][-_WAIT:]
        if len(self.changes) < 3:
            return np.inf
        return float((np.abs(change) * np.maximum(self._rounds(), 1.0)).max(initial=0.0))

    def leap(self) -> FloatArray | None:
        """How far to go [q], in logarithms, beyond the last round; None where it is too early."""
        if len(self.changes) < _WAIT:
            return None
        change = self.changes[-1]
        made: FloatArray = np.clip(change * self._rounds(), -_FARTHEST, _FARTHEST)
        if self.before is not None:
            at, then = self.before
            past = change * then < 0  # the last leap went too far: the end is between the two, where a line says
            self.trust = np.where(past, self.trust / 2, np.minimum(1.5 * self.trust, 1.0))
            share = np.abs(change) / np.where(past, np.abs(change) + np.abs(then), 1.0)
            made = np.where(past, share * (at - self.at), made)
        self.before, self.changes = (self.at, change), []
        made = made * self.trust
        return made

    def _rounds(self) -> FloatArray:
        """[q] to how many rounds like the last one all those to come add up; 0 where they go back and forth."""
        earlier, middle, last = self.changes[-3:]
        steady = (np.sign(earlier) == np.sign(last)) & (np.sign(middle) == np.sign(last)) & (np.abs(last) > _NOISE)
        ratio = np.sqrt(np.abs(last) / np.where(steady, np.abs(earlier), 1.0))
        ratio = np.minimum(ratio, _MOST / (1 + _MOST))
        made: FloatArray = np.where(steady, ratio / (1 - ratio), 0.0)
        return made
