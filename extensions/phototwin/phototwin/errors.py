"""The one family of errors a user sees: what happened, what was expected, what to do."""

from __future__ import annotations


class TwinError(Exception):
    """Something the user can mend. The message is one or two sentences that say what, got, expected, and the next step."""


class InputError(TwinError):
    """A file or an argument is not what it must be."""


class PerceptionError(TwinError):
    """The photo does not show enough evidence; the message names the hint that would help."""


class InstructionError(TwinError):
    """The instruction names nothing in the scene, more than one thing, or asks for what no task can do."""


class PlanError(TwinError):
    """No motion was found; the message names the step and why."""


class OutputError(TwinError):
    """The output folder cannot be used: in use, not empty, not writable, or the disk is full."""
