"""Models that see more than the weightless perception; each runs only where it and its weights are installed."""
