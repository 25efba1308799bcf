"""Programs run at the same time on a CPU, one after the other elsewhere."""

import threading

import jax
import jax.numpy as jnp
import pytest

from forecasting.training import lanes, mesh


@pytest.fixture
def opened(monkeypatch):
  """Returns lanes on cores of a backend."""
  made = []

  def open_lanes(backend, cores=2):
    mine = set(range(cores))
    monkeypatch.setattr(
      lanes.os, "sched_getaffinity", lambda _: mine, raising=False
    )
    monkeypatch.setattr(lanes.jax, "default_backend", lambda: backend)
    made.append(lanes.Lanes(mesh.make_mesh(1)))
    return made[-1]

  yield open_lanes
  for each in made:
    each.close()


def test_a_cpu_runs_as_many_at_a_time_as_it_has_cores(opened):
  both = threading.Barrier(2)

  def meet(number):
    both.wait(timeout=30)  # raises if the other never comes
    return jnp.full(3, number)

  found = opened("cpu").map(meet, range(4))
  assert [int(x[0]) for x in found] == [0, 1, 2, 3]


def test_results_are_waited_for(opened, monkeypatch):
  seen = []
  monkeypatch.setattr(
    lanes.jax, "block_until_ready", lambda x: seen.append(x) or x
  )
  assert opened("cpu").map(lambda x: x + 1, [1, 2]) == [2, 3]
  assert sorted(seen) == [2, 3]


def test_a_lone_one_is_not_waited_for(opened, monkeypatch):
  monkeypatch.setattr(lanes.jax, "block_until_ready", lambda x: 1 / 0)
  assert opened("cpu").map(lambda x: x + 1, [1]) == [2]


@pytest.mark.parametrize(("backend", "cores"), [("tpu", 2), ("cpu", 1)])
def test_else_one_follows_the_other_in_order(opened, backend, cores):
  caller, calls = threading.get_ident(), []

  def call(number):
    calls.append((number, threading.get_ident()))
    return number

  assert opened(backend, cores).map(call, range(3)) == [0, 1, 2]
  assert calls == [(number, caller) for number in range(3)]


def test_what_fails_is_raised(opened):
  def fail(number):
    raise ValueError(f"trainee {number}")

  for backend in ("cpu", "tpu"):
    with pytest.raises(ValueError, match="trainee 0"):
      opened(backend).map(fail, range(2))


def test_several_devices_share_programs_in_one_order(opened, monkeypatch):
  two = jax.sharding.Mesh(jax.devices() * 2, "data")
  monkeypatch.setattr(mesh, "make_mesh", lambda _: two)
  caller = threading.get_ident()
  found = opened("cpu").map(lambda _: threading.get_ident(), range(3))
  assert set(found) == {caller}
