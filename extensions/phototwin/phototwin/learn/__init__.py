"""Policies from demonstrations: data to batches, training, driving a robot with what was learned, and how sure a success rate is."""
