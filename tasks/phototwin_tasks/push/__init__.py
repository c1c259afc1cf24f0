"""Push: move an object along the support without grasping it."""
