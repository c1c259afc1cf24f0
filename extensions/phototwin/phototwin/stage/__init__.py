"""Scene <-> USD, MJCF and robots; the only room that imports pxr."""

# Registers Newton's API schemas. USD reads its plugins once per process, so this must come before the first stage is opened.
import newton_usd_schemas  # noqa: F401
