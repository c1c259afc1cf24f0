"""Scene <-> USD, MJCF and robots; the only room that imports pxr."""
