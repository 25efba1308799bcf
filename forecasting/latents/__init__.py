"""Stored frozen latents: written once by `extract`, read by everything after.

`manifest` says what made a store, `store` reads and writes it, `pipeline`
feeds training and evaluation, `normalize` computes statistics, `leakcheck`
proves that the context latents do not see the future.
"""
