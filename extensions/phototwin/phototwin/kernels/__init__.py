"""Warp kernels, one algorithm per file."""
