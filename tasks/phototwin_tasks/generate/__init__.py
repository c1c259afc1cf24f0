"""Twins -> demonstrations, at scale. Names that other rooms use; nothing heavier is imported."""

from phototwin_tasks.generate.config import OWN_RENDERER, PHYSICS, POSED, RENDERERS, GenerateConfig, versions

__all__ = ["OWN_RENDERER", "PHYSICS", "POSED", "RENDERERS", "GenerateConfig", "versions"]
