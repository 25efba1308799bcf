"""Frozen video models: frames -> latents."""
