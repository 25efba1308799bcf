"""What is scored of a forecast, what is not finite, which clips are shown."""

import dataclasses
import json

import numpy as np
import pytest
from box_clips import (
  CLIPS,
  FRAMES,
  NOTHING,
  SAMPLES,
  START,
  perception,
  predictor,
  settings,
  write,
)

from forecasting import evaluator, known_futures, main, scoring
from forecasting.metrics import conditional
from forecasting.report import results, tables
from forecasting.samples import panels
from forecasting.tasks import TASKS


@pytest.fixture(scope="module", name="clips")
def fixture_clips(tmp_path_factory):
  return write(tmp_path_factory.mktemp("clips") / "eval")


def row_of(clips, made, seen=None):
  (row,) = evaluator.evaluate([made], seen or perception(), clips, settings())
  return row | {"name": "n", "backbone": "b", "seed": 0}


def hardest(value, frame=9):
  """Spoils one number of one sample of the hardest clip."""

  def spoil(boxes, index):
    boxes[index == 4, 1, frame, 0, 2] = value

  return spoil


SAMPLE_SCORES = {"mean", "std", "best"}
OF_FIRST = {"fd_1", "perception", "perception_all"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_takes_every_score_that_uses_it(clips, value):
  clean, row = (
    row_of(clips, predictor()),
    row_of(clips, predictor(hardest(value))),
  )
  assert clean["num_nonfinite"] == 0 and clean["num_nan"] == SAMPLES
  assert row["num_nonfinite"] == 1 and row["num_nan"] == SAMPLES + 1
  # Clips with nothing to score are counted as before.
  for found in (clean, row):
    assert (found["num_examples"], found["num_excluded"]) == (CLIPS - 1, 1)
  for name, entry in clean["scores"].items():
    assert np.isfinite(entry["value"]) and "reason" not in entry, name
  for name, entry in row["scores"].items():
    if name in OF_FIRST or name.startswith("truth"):
      assert entry == clean["scores"][name], name
      continue
    assert np.isnan([entry["value"], entry["low"], entry["high"]]).all(), name
    what = "clips" if name in SAMPLE_SCORES else "rows"
    assert entry["reason"].endswith(f"forecasts of {what} are not finite"), name
    assert entry["reason"].startswith("1 of "), name
  # No comparison may leave out the clips that a forecaster failed on.
  assert np.isnan(row["clips"]["mean"]).all()
  assert np.isnan(row["clips"]["best"]).all()


def test_rows_tell_of_the_members_of_ensembles(clips):
  made = dataclasses.replace(predictor(), members=2)
  row = row_of(clips, made)
  assert row["members"] == 2
  found = [row["scores"][f"spread_{part}"] for part in ("between", "within")]
  assert np.isfinite([entry["value"] for entry in found]).all()
  alone = row_of(clips, predictor())
  assert "members" not in alone and "spread_within" not in alone["scores"]
  broken = row_of(
    clips, dataclasses.replace(made, predict=predictor(hardest(np.nan)).predict)
  )
  assert "not finite" in broken["scores"]["spread_between"]["reason"]


def test_frames_that_are_finite_keep_their_scores(clips):
  clean = row_of(clips, predictor())
  row = row_of(clips, predictor(hardest(np.nan, frame=9)))
  names = [name for name in clean if name.endswith("_per_lead")]
  assert len(names) == 5
  for name in names:
    assert np.isnan(row[name][9 - START]), name
    others = np.arange(FRAMES - START) != 9 - START
    np.testing.assert_array_equal(
      np.array(row[name])[others], np.array(clean[name])[others], name
    )


def test_what_is_not_scored_may_be_anything(clips):
  def spoil(boxes, index):
    boxes[:, :, :START] = np.nan
    boxes[index == NOTHING] = np.nan

  clean, row = row_of(clips, predictor()), row_of(clips, predictor(spoil))
  for name in ("wall_seconds",):
    del clean[name], row[name]
  assert json.dumps(row) == json.dumps(clean)


def test_a_readout_that_fails_on_observed_clips_has_no_perception(clips):
  row = row_of(clips, predictor(), perception(lambda b, i: b.fill(np.nan)))
  assert row["num_nonfinite"] == 0 and np.isfinite(
    row["scores"]["mean"]["value"]
  )
  for name in ("perception", "perception_all"):
    entry = row["scores"][name]
    assert np.isnan(entry["value"])
    # The clip with nothing to score has nothing to fail on.
    expected = (
      f"{CLIPS - 1} of {CLIPS} readouts of observed clips are not finite"
    )
    assert entry["reason"] == expected
  assert np.isnan(row["clips"]["perception"]).all()


def test_the_report_and_the_console_name_forecaster_and_count(
  clips, tmp_path, capsys
):
  row = row_of(clips, predictor(hardest(np.nan)))
  results.write_rows(tmp_path / "results.jsonl", [row])
  (read,) = results.read_rows(tmp_path / "results.jsonl")
  assert read["scores"]["energy_score"]["value"] is None
  total = CLIPS * SAMPLES
  notes = tables.task_table([read]).footnotes
  assert any("not finite" in n and f"made 1 of {total}" in n for n in notes)
  assert any("nothing to score: made 1" in n for n in notes)
  main._announce(read)
  told = capsys.readouterr().out
  assert "WARNING: boxes: forecasts that are not finite" in told
  assert f"made 1 of {total}" in told
  sound = row_of(clips, predictor())
  assert results.nonfinite(sound) == ""
  assert not any(
    "not finite" in n for n in tables.task_table([sound]).footnotes
  )
  main._announce(sound)
  assert "WARNING" not in capsys.readouterr().out


def test_rows_alone_are_those_beside_values(clips):
  both = scoring.score(predictor(), clips, settings(2))["boxes"]
  alone = scoring.score(predictor(), clips, settings(2), only_rows=True)
  assert both.values and not alone["boxes"].values
  np.testing.assert_array_equal(alone["boxes"].rows.pred, both.rows.pred)
  np.testing.assert_array_equal(alone["boxes"].rows.example, both.rows.example)


@pytest.mark.parametrize("spoilt", [False, True])
def test_scores_against_known_futures_are_void_too(clips, spoilt):
  rng = np.random.default_rng(2)
  pred = rng.normal(size=(5, SAMPLES, 8))
  if spoilt:
    pred[3, 1, 0] = np.nan
  rows = conditional.Conditional(
    pred,
    rng.normal(size=(5, 4, 8)),
    np.ones((5, 4), bool),
    np.arange(5),
    num_frames=4,
  )
  known = known_futures.KnownFutures(clips, settings(), None)
  floor = conditional.true_energy_score(rows)
  assert np.isfinite(floor).all()
  fields = known._scores(rows, floor)
  for name in ("energy_score", "relative_energy_score", "spread_skill"):
    assert np.isnan(fields[name]["value"]) == spoilt, name
    assert fields[name].get("reason", "").startswith("1 of 15") == spoilt, name
  assert np.isnan(fields["spread_skill_per_lead"]).tolist() == [
    spoilt,
    *[False] * 3,
  ]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9])
@pytest.mark.parametrize("wanted", [3, 5, 99])
def test_panels_have_the_first_clips_whatever_the_batches(
  clips, tmp_path, batch_size, wanted
):
  kept = panels.Panels(wanted, START)
  compared = {"many": predictor(), "one": predictor(samples=1)}
  for name, made in compared.items():
    made = dataclasses.replace(made, name=name)
    scoring.score(made, clips, settings(batch_size), kept)
  kept.write(tmp_path)
  count = min(wanted, CLIPS)
  with np.load(tmp_path / "boxes.npz") as file:
    for name in set(file.files) - {"num_context"}:
      assert len(file[name]) == count, name
    np.testing.assert_array_equal(file["video"][:, 0, 0, 0, 0], range(count))
    truth = [clips[i]["boxes"] for i in range(count)]
    np.testing.assert_array_equal(file["truth"], truth)
    whole = {"index": np.arange(count), "boxes": np.stack(truth)}
    for name, made in compared.items():
      boxes = made.predict(("boxes",), whole)["boxes"]["boxes"]
      shown = file[f"{name}/mean"]
      np.testing.assert_array_equal(shown, boxes.mean(axis=1).astype("f2"))
    assert file["num_context"] == START


def test_panels_are_of_the_first_process(clips, tmp_path, monkeypatch):
  monkeypatch.setattr(scoring.jax, "process_count", lambda: 2)
  monkeypatch.setattr(
    scoring.sharing.distributed, "gather_arrays", lambda arrays: []
  )
  for process, expected in ((0, [0, 1, 4]), (1, [])):
    monkeypatch.setattr(scoring.jax, "process_index", lambda p=process: p)
    kept = panels.Panels(3, START)
    monkeypatch.setattr(scoring, "join", lambda parts: {})
    scoring.score(predictor(), clips, settings(2), kept)
    kept.write(tmp_path / str(process))
    found = []
    for path in (tmp_path / str(process)).iterdir():
      with np.load(path) as file:
        found += file["video"][:, 0, 0, 0, 0].tolist()
    assert found == expected


def _outputs(task):
  shapes = {
    "pixels": {"video": (28, 28, 3)},
    "depth": {"depth": (28, 28, 1)},
    "points": {
      "tracks": (5, 2),
      "visible_logit": (5,),
      "certainty_logit": (5,),
    },
    "boxes": {"boxes": (5, 4)},
  }
  return {
    name: np.full((2, SAMPLES, FRAMES, *shape), 0.5, np.float32)
    for name, shape in shapes[task].items()
  }


def _labels():
  depth = np.full((2, FRAMES, 28, 28, 1), 2.0, np.float32)
  depth[:, :, 3, 3] = np.nan
  mask = np.ones((2, 5), bool)
  mask[:, 4] = False
  present = np.ones((2, FRAMES, 5), bool)
  present[:, 7, 2] = False
  return {
    "video": np.zeros((2, FRAMES, 28, 28, 3), np.uint8),
    "depth": depth,
    "tracks": np.full((2, FRAMES, 5, 2), 0.5, np.float32),
    "visible": present,
    "track_mask": mask,
    "boxes": np.full((2, FRAMES, 5, 4), 0.5, np.float32),
    "box_mask": present,
    "object_mask": mask,
  }


@pytest.mark.parametrize(
  ("task", "name", "place", "counts"),
  [
    ("pixels", "video", (9, 0, 0, 0), True),
    ("pixels", "video", (3, 0, 0, 0), False),
    ("depth", "depth", (9, 5, 5, 0), True),
    ("depth", "depth", (9, 3, 3, 0), False),  # no valid truth
    ("points", "tracks", (9, 1, 0), True),
    ("points", "tracks", (7, 2, 0), True),  # hidden, but scored as hidden
    ("points", "tracks", (9, 4, 0), False),  # padding
    ("points", "visible_logit", (9, 1), True),
    ("points", "certainty_logit", (9, 1), True),
    ("points", "visible_logit", (9, 4), False),
    ("boxes", "boxes", (9, 1, 3), True),
    ("boxes", "boxes", (7, 2, 3), False),  # absent
    ("boxes", "boxes", (9, 4, 3), False),
  ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_finiteness_is_asked_of_what_is_scored(
  task, name, place, counts, value
):
  outputs, labels = _outputs(task), _labels()
  assert TASKS[task].is_finite(outputs, labels, START).all()
  outputs[name][1, 2][place] = value
  found = TASKS[task].is_finite(outputs, labels, START)
  expected = np.ones((2, SAMPLES, FRAMES - START), bool)
  if counts:
    expected[1, 2, place[0] - START] = False
  np.testing.assert_array_equal(found, expected)
