"""Pour: tilt a vessel over another."""
