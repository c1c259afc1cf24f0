"""Recorded demonstrations once more: by state, exactly, and by action, in the same or another physics engine."""
