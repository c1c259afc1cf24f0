"""Report and preview."""
