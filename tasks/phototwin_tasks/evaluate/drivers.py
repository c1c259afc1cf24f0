"""Who drives: a policy that was trained here, or a student that was distilled here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from phototwin.learn.config import PolicyFacts
from phototwin.learn.policy import act


class PolicyDriver:
    """A policy of ``learn.policy``.

    Args:
        policy: As ``load_policy`` gives it.
        facts: What comes with it.
    """

    def __init__(self, policy: Any, facts: PolicyFacts) -> None:
        self._policy, self._facts, self._seed = policy, facts, 0

    @property
    def execute(self) -> int:
        """So many actions of a chunk are done before it looks again."""
        return self._facts.config.execute

    def begin(self, attempts: int, seed: int) -> None:
        """It remembers nothing; Diffusion Policy draws noise."""
        self._seed = seed

    def actions(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> np.ndarray:
        """Actions (B, H, A)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._seed += 1
            return act(self._policy, self._facts, rgb, state)


class StudentDriver:
    """A student of ``distill``: it looks at every control step and does what it means to, without the noise it has learned with.

    Args:
        program: As ``load_student`` gives it.
    """

    execute = 1

    def __init__(self, program: Any) -> None:
        self._program = program
        self._first: np.ndarray | None = None

    def begin(self, attempts: int, seed: int) -> None:
        """What it sees next it remembers for the whole of the attempts."""
        self._first = None

    def actions(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> np.ndarray:
        """Actions (B, 1, A) for frames and what ``proprioception`` says (B, S)."""
        from phototwin_tasks.mdp.frames import frame_input

        if self._first is None:
            self._first = rgb
        with torch.inference_mode():
            told = self._program(torch.from_numpy(state), [frame_input(rgb, self._first)])
        return told.clamp(-1.0, 1.0).numpy()[:, None]
