"""Runs survive what may go wrong; see `survive.py`."""

import pytest
import survive

QUICK = "^(checkpoint-flipped-bit|not-a-number|preempted-1)$"


@pytest.mark.slow
def test_a_few_faults_are_survived(tmp_path):
  survived, total = survive.survive(tmp_path, only=QUICK)
  assert survived == total == 3


@pytest.mark.slow
def test_all_faults_are_survived(tmp_path):
  survived, total = survive.survive(tmp_path)
  assert survived == total >= 30
