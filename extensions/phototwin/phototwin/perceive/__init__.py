"""Photo -> Maps: camera, gravity, scale, support and object masks."""
