"""Closed-loop evaluation: a policy drives the twin on blended frames, and how often that does the task, with how sure one can be."""
