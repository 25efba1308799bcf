"""What the launchers' variables mean."""

import pytest

from forecasting.training import distributed

FULL = {
  distributed.COORDINATOR: "host:1234",
  distributed.NUM_PROCESSES: "4",
  distributed.PROCESS_ID: "3",
}


def test_without_variables_a_process_is_alone(monkeypatch):
  assert distributed.settings({"PATH": "x"}) is None
  for name in FULL:
    monkeypatch.delenv(name, raising=False)

  def refuse(**_):
    raise AssertionError("joined others")

  monkeypatch.setattr(distributed.jax.distributed, "initialize", refuse)
  distributed.initialize()
  with distributed.first_process_first("nothing"):
    pass


def test_variables_become_arguments(monkeypatch):
  expected = {
    "coordinator_address": "host:1234",
    "num_processes": 4,
    "process_id": 3,
  }
  assert distributed.settings(FULL) == expected
  assert distributed.settings({distributed.COORDINATOR: "auto"}) == {}
  for name, value in FULL.items():
    monkeypatch.setenv(name, value)
  calls, updates = [], []
  monkeypatch.setattr(
    distributed.jax.distributed, "initialize", lambda **a: calls.append(a)
  )
  monkeypatch.setattr(
    distributed.jax.config, "update", lambda *a: updates.append(a)
  )
  distributed.initialize()
  assert calls == [expected]
  assert updates == [("jax_cpu_collectives_implementation", "gloo")]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({distributed.COORDINATOR: ""}, "COORDINATOR is not"),
    ({distributed.COORDINATOR: "host"}, "host:port"),
    ({distributed.PROCESS_ID: "4"}, "from 0 to 3"),
    ({distributed.PROCESS_ID: "-1"}, "from 0 to 3"),
    ({distributed.NUM_PROCESSES: "many"}, "whole numbers"),
    ({distributed.NUM_PROCESSES: ""}, "whole numbers"),
  ],
)
def test_half_a_setting_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    distributed.settings(FULL | change)
