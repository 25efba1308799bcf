"""Optimization: state, steps, loop, checkpoints; knows no model."""
