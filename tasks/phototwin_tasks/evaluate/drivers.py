"""Who drives: a policy that was trained here."""

from __future__ import annotations

from typing import Any

import numpy as np

from phototwin.learn.config import PolicyFacts
from phototwin.learn.policy import act


class PolicyDriver:
    """A policy of ``learn.policy``.

    Args:
        policy: As ``load_policy`` gives it.
        facts: What comes with it.
    """

    def __init__(self, policy: Any, facts: PolicyFacts) -> None:
        self._policy, self._facts = policy, facts

    @property
    def execute(self) -> int:
        """So many actions of a chunk are done before it looks again."""
        return self._facts.config.execute

    def begin(self, attempts: int) -> None:
        """It remembers nothing."""

    def actions(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> np.ndarray:
        """Actions (B, H, A)."""
        return act(self._policy, self._facts, rgb, state)
