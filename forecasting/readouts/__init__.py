"""Readouts: frozen latents to pixels, depth, point tracks and boxes."""
