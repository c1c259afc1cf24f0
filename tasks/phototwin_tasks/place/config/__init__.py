"""Place, by robot."""
