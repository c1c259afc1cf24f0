"""Episode -> HDF5 (Isaac Lab / robomimic layout) and LeRobot v3."""
