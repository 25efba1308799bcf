"""The pipeline end to end, in its smoke form, through the real binaries."""

import json

import pytest
from binaries import rows, run


def flat(value, path=""):
  """Numbers of nested JSON by path."""
  if isinstance(value, dict):
    items = value.items()
  elif isinstance(value, list):
    items = enumerate(value)
  else:
    return {path: value} if isinstance(value, (int, float)) else {}
  return {
    k: v for key, item in items for k, v in flat(item, f"{path}/{key}").items()
  }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("quickstart")
  run("main", workdir, "--config=configs/quickstart.py:smoke")
  return workdir


def test_main_scores_everything_it_promises(finished):
  found = {(row["task"], row["forecaster"]) for row in rows(finished).values()}
  everywhere = {
    "flow",
    "regression",
    "persistence_latent",
    "persistence_output",
    "climatology",
    "oracle_future",
  }
  expected = {
    (task, name)
    for task in ("pixels", "depth", "points", "boxes")
    for name in everywhere
  }
  expected |= {(task, "constant_velocity") for task in ("points", "boxes")}
  assert found == expected
  assert (finished / "report.html").stat().st_size > 10_000
  assert json.loads((finished / "config.json").read_text())["seed"] == 0


def test_every_row_has_intervals_around_its_scores(finished):
  for row in rows(finished).values():
    entry = row["scores"]["mean"]
    if entry["value"] is not None:
      assert entry["low"] <= entry["value"] <= entry["high"]
    assert row["scores"]["perception"]["value"] is not None
    for name, values in row["clips"].items():
      known = [value for value in values if value is not None]
      mean = row["scores"][name]["value"]
      assert len(values) == 8
      # Rows keep six digits of each clip.
      average = sum(known) / len(known) if known else None
      assert average == pytest.approx(mean, rel=5e-6)


def test_trained_rows_say_how_long(finished):
  for row in rows(finished).values():
    trained = row["kind"] == "trained"
    assert (row["step"] or 0) > 0 if trained else row["step"] is None


def test_eval_repeats_the_numbers_of_main(finished):
  before = rows(finished)
  # What draws at random, what does not, and the readouts alone.
  run(
    "eval",
    finished,
    "--config=configs/quickstart.py:smoke",
    '--config.forecasters=("flow",)',
    '--config.baselines=("climatology","constant_velocity","oracle_future")',
  )
  assert rows(finished) == before


@pytest.mark.parametrize(
  ("flag", "name"),
  [
    ("batch_size=3", "batch"),
    pytest.param("num_samples=6", "samples", marks=pytest.mark.slow),
  ],
)
def test_results_depend_on_neither_batch_nor_samples(finished, flag, name):
  before = rows(finished)
  # What draws at random, and one that draws nothing.
  drawn = ("flow", "climatology", "persistence_latent")
  run(
    "eval",
    finished,
    "--config=configs/quickstart.py:smoke",
    '--config.forecasters=("flow",)',
    '--config.baselines=("climatology","persistence_latent")',
    f"--config.eval.{flag}",
    f"--config.name={name}",
  )
  after = rows(finished)
  compared = 0
  for identity, row in before.items():
    if row["forecaster"] not in drawn:
      continue
    compared += 1
    other = after[(name, *identity[1:])]
    if name == "samples":
      # Scores of the first sample; more of them change the others.
      row, other = (r["scores"]["fd_1"] for r in (row, other))
    other = flat(other)
    for path, value in flat(row).items():
      # Ranks are counts, of 472 values in a frame: rounding moves a sample past
      # the truth now and then.
      within = 5e-3 if "/rank_" in path else 1e-5
      assert other[path] == pytest.approx(value, rel=2e-4, abs=within), path
  assert compared == 12
