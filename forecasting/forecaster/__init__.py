"""Past latents -> samples of future latents."""
