"""Sampled futures, decoded by the frozen readouts."""
