"""Resuming, stopping, refusing: what `fit` promises."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_run

from forecasting.training import checkpoint, profiler, workdir
from forecasting.training.log import METRICS, read_metrics


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """Returns the workdir and the final states of the run of `toy_run`."""
  path = tmp_path_factory.mktemp("uninterrupted")
  return path, toy_run.run(path)


def start(path):
  return subprocess.Popen(
    [sys.executable, toy_run.__file__, path],
    cwd=Path(__file__).parents[2],
    stderr=subprocess.PIPE,
    text=True,
  )


def wait_for_step(path, step, process):
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline and process.poll() is None:
    rows = read_metrics(path / METRICS)
    if rows and rows[-1]["step"] >= step:
      return
    time.sleep(0.002)
  raise AssertionError(f"never at step {step}: {process.communicate()[1]}")


def test_killed_runs_end_like_an_uninterrupted_one(uninterrupted, tmp_path):
  steps = np.sort(np.random.default_rng().integers(8, 50, size=3))
  how = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
  for step, number in zip(steps.tolist(), how):
    # A step that the killed run logged would be found before this one starts.
    logged = [row["step"] for row in read_metrics(tmp_path / METRICS)]
    step = max([step - 1, *logged]) + 1
    process = start(tmp_path)
    wait_for_step(tmp_path, step, process)
    process.send_signal(number)
    log = process.communicate(timeout=60)[1]
    expected = 75 if number == signal.SIGTERM else -signal.SIGKILL
    assert process.returncode == expected, log
    assert not checkpoint.is_complete(tmp_path)
  states = toy_run.run(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, states, uninterrupted[1])
  assert read_metrics(tmp_path / METRICS) == read_metrics(
    uninterrupted[0] / METRICS
  ), steps


class Interrupted(grain.DatasetIterator):
  """Batches that do something before the n-th fetch of this process."""

  def __init__(self, fetch, action):
    """Calls `action()` before fetch number `fetch`, counted from 1."""
    super().__init__()
    self._batches, self._left, self._action = toy_run.batches(), fetch, action

  def __next__(self):
    """Returns the next batch."""
    self._left -= 1
    batch = next(self._batches)
    return (self._action(batch) or batch) if self._left == 0 else batch

  def get_state(self):
    """Returns the position."""
    return self._batches.get_state()

  def set_state(self, state):
    """Sets the position."""
    self._batches.set_state(state)

  def start_prefetch(self):
    """Does nothing ahead."""


def steps_on_disk(path):
  return sorted(int(p.name) for p in (path / checkpoint.FOLDER).iterdir())


def terminate(batch):
  os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_saves_at_once_and_resumes(uninterrupted, tmp_path):
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(SystemExit) as stopped:
    toy_run.run(tmp_path, data=Interrupted(10, terminate))
  assert stopped.value.code == 75
  assert signal.getsignal(signal.SIGTERM) is before
  assert steps_on_disk(tmp_path) == [7, 10]  # 10 is no multiple of 7
  assert not checkpoint.is_complete(tmp_path)
  states = toy_run.run(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, states, uninterrupted[1])


def test_sigterm_in_the_last_step_completes_and_stops(tmp_path):
  trainees = [toy_run.trainee(steps=4)]
  with pytest.raises(SystemExit) as stopped:
    toy_run.run(tmp_path, trainees, Interrupted(4, terminate))
  assert stopped.value.code == 75
  assert checkpoint.is_complete(tmp_path)


def poison(batch):
  return {"x": np.full_like(batch["x"], np.nan)}


@pytest.mark.parametrize("fetch", [9, 14])
def test_nan_stops_and_leaves_the_last_good_checkpoint(
  uninterrupted, tmp_path, fetch
):
  trainees = [toy_run.trainee("long", 20), toy_run.trainee("short", 8)]
  message = rf"'long' stopped at step {fetch}: .*loss=nan.*grad_norm=nan"
  with pytest.raises(FloatingPointError, match=message):
    toy_run.run(tmp_path, trainees, Interrupted(fetch, poison))
  # The step of the failure is never saved, even where a save was due.
  last_good = 7 * ((fetch - 1) // 7)
  assert max(steps_on_disk(tmp_path)) == last_good
  assert read_metrics(tmp_path / METRICS)[-1]["step"] == fetch - 1
  assert not checkpoint.is_complete(tmp_path)
  for params in checkpoint.restore_ema(tmp_path)[1].values():
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_overflowing_update_is_not_saved(tmp_path):
  """A finite loss whose update breaks the parameters, at a save."""

  def loss(params, batch, key):
    del batch, key
    return params["w"], {}

  optimizer = {"learning_rate": 1e39, "warmup_steps": 0, "weight_decay": 0.0}
  trainee = toy_run.trainee(
    init=lambda key: {"w": jnp.zeros(())}, loss=loss, optimizer=optimizer
  )
  message = r"step 1: param_norm=(inf|nan)"
  with pytest.raises(FloatingPointError, match=message):
    toy_run.run(tmp_path, [trainee], checkpoint_every=1)
  assert steps_on_disk(tmp_path) == []


def test_trainees_stop_at_their_own_step_and_do_not_matter_to_each_other(
  uninterrupted, tmp_path
):
  path, states = uninterrupted
  for name, steps in toy_run.STEPS.items():
    assert int(states[name].step) == steps
    rows = [r for r in read_metrics(path / METRICS) if r["trainee"] == name]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
  alone = toy_run.run(tmp_path, [toy_run.trainee("short", 33)])["short"]
  jax.tree.map(np.testing.assert_array_equal, alone, states["short"])


def test_finished_run_is_returned_without_training(uninterrupted):
  path, states = uninterrupted
  before = (path / METRICS).read_text()
  data = Interrupted(1, lambda batch: pytest.fail("fetched a batch"))
  again = toy_run.run(path, data=data)
  jax.tree.map(np.testing.assert_array_equal, again, states)
  assert (path / METRICS).read_text() == before
  assert checkpoint.is_complete(path)


def test_rows_every_n_steps_and_at_both_ends(tmp_path):
  trainees = [toy_run.trainee("a", 11), toy_run.trainee("b", 6)]
  toy_run.run(tmp_path, trainees, log_every=4)
  rows = [(r["trainee"], r["step"]) for r in read_metrics(tmp_path / METRICS)]
  assert [s for name, s in rows if name == "a"] == [1, 4, 8, 11]
  assert [s for name, s in rows if name == "b"] == [1, 4, 6]
  for line in (tmp_path / METRICS).read_text().splitlines():
    assert {"loss", "mse", "grad_norm", "learning_rate"} <= set(
      json.loads(line)
    )


def test_steps_are_recorded_on_request(tmp_path):
  trainees = [toy_run.trainee(steps=14)]
  toy_run.run(tmp_path / "with", trainees, profile_steps=2)
  (trace,) = (tmp_path / "with" / profiler.FOLDER).rglob("*.xplane.pb")
  assert trace.stat().st_size > 0
  toy_run.run(tmp_path / "without", trainees)
  assert not (tmp_path / "without" / profiler.FOLDER).exists()


@pytest.mark.parametrize(
  ("trainees", "message"),
  [
    ([toy_run.trainee("a/b")], "name 'a/b': expected letters"),
    ([toy_run.trainee("a"), toy_run.trainee("a")], "'a' occurs twice"),
    ([toy_run.trainee("a", steps=0)], "a: steps=0, expected at least 1"),
  ],
)
def test_wrong_trainees_are_refused(tmp_path, trainees, message):
  with pytest.raises(ValueError, match=message):
    toy_run.run(tmp_path, trainees)


@pytest.mark.parametrize(
  ("before", "after", "words"),
  [
    # Fewer steps than were trained, of the last one or of another.
    ({"a": 6, "b": 4}, {"a": 5, "b": 4}, "'a' was trained for 6 .* are 5"),
    ({"a": 6, "b": 4}, {"a": 6, "b": 3}, "'b' was trained for 4 .* are 3"),
    # It was not trained while the other one went on.
    ({"a": 6, "b": 4}, {"a": 8, "b": 8}, "'b' was trained for 4 .* are 8"),
  ],
)
def test_steps_that_cannot_be_reached_are_refused(
  before, after, words, tmp_path
):
  def trainees(steps):
    return [toy_run.trainee(name, number) for name, number in steps.items()]

  toy_run.run(tmp_path, trainees(before))
  kept = steps_on_disk(tmp_path)
  with pytest.raises(ValueError, match=f"checkpoint of step 6.*{words}"):
    toy_run.run(tmp_path, trainees(after))
  assert steps_on_disk(tmp_path) == kept == [6]
  assert checkpoint.is_complete(tmp_path)


def test_training_longer_than_before_goes_on(tmp_path):
  toy_run.run(tmp_path, [toy_run.trainee("a", 4), toy_run.trainee("b", 4)])
  longer = [toy_run.trainee("a", 6), toy_run.trainee("b", 5)]
  states = toy_run.run(tmp_path, longer)
  assert [int(states[name].step) for name in "ab"] == [6, 5]


def test_unwritable_workdir_is_one_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match=r"cannot write into --workdir=.*file/run"):
    toy_run.run(tmp_path / "file" / "run")


def test_full_disk_is_one_error_before_training(tmp_path, monkeypatch):
  usage = type("Usage", (), {"free": 1_000_000})()
  monkeypatch.setattr(workdir.shutil, "disk_usage", lambda path: usage)
  data = Interrupted(1, lambda batch: pytest.fail("fetched a batch"))
  # Four float32 copies of 65,793 parameters, twice, kept twice and one more.
  with pytest.raises(OSError, match=r"0\.00 GB free, but checkpoints need"):
    toy_run.run(tmp_path, data=data)


def test_failing_checkpoint_is_one_error(tmp_path, monkeypatch):
  def fail(*args, **kwargs):
    raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

  manager = checkpoint.ocp.CheckpointManager
  monkeypatch.setattr(manager, "save", fail)
  message = r"cannot write a checkpoint in .*: RESOURCE_EXHAUSTED: No space"
  with pytest.raises(OSError, match=message):
    toy_run.run(tmp_path)
