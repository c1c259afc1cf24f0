"""Upright: set an object that lies on its foot."""
