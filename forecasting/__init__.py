"""Forecasting with frozen video models via latent diffusion.

The folders follow the data: frames -> backbones -> latents -> readouts and
forecaster -> samples -> metrics -> report. Imports point only to the left.
"""
