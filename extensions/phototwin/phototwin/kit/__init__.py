"""The Kit extension; the only room that imports omni."""
