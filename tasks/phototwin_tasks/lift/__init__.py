"""Lift: pick an object up and hold it."""
