"""Isaac Lab tasks over a photo twin."""
