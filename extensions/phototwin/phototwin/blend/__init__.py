"""Rendered buffers + photo -> photoreal frames."""
