"""Maps -> Scene: shapes, textures, background, names, physics."""
