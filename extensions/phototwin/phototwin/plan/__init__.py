"""Instruction -> task -> grasps -> tool waypoints -> joint paths."""
