"""Attention over many tokens, which CPUs compute head by head."""

import jax
import numpy as np
import pytest

from forecasting.backbones import vit


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_many_tokens_agree_with_float64(cap, monkeypatch):
  monkeypatch.setattr(vit, "MANY_TOKENS", 8)
  rng = np.random.default_rng(0)
  query, key, value = rng.normal(size=(3, 2, 3, 9, 4)).astype(np.float32)
  mask = np.tri(9, dtype=bool)
  run = jax.jit(lambda *x: vit.attend(*x, cap, mask))
  assert "while" in run.lower(query, key, value).compile().as_text()
  logits = np.einsum("bknd,bkmd->bknm", *np.float64([query, key]))
  logits = cap * np.tanh(logits / cap) if cap else logits
  weights = np.exp(np.where(mask, logits, -np.inf))
  weights /= weights.sum(-1, keepdims=True)
  expected = np.einsum("bknm,bkmd->bknd", weights, value)
  np.testing.assert_allclose(run(query, key, value), expected, atol=1e-5)
