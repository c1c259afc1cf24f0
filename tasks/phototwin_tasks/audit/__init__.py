"""Is a twin fit for simulation: measured, judged, and compared over physics engines."""
