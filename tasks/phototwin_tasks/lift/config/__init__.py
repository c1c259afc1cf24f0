"""Lift, by robot."""
