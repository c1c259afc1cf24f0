"""Place: put an object on, in or next to another."""
