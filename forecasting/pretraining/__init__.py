"""Objectives that the embedded backbones were pretrained with."""
