"""phototwin: one photo into a robot's training ground."""

__version__ = "0.1.0"
