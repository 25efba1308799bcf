"""What is drawn where."""

import numpy as np
import pytest

from forecasting.report import drawing, figures, panels, qualitative


def overlay(values, shown=True, solid=True):
  values = np.asarray(values, np.float32)
  return drawing.Overlay(
    values, np.full(values.shape[:2], shown), np.full(values.shape[:2], solid)
  )


def test_box_lies_where_it_is():
  frame = np.zeros((8, 8, 3), np.uint8)
  box = overlay([[[0.25, 0.5, 0.75, 1.0]]])  # ymin, xmin, ymax, xmax
  image = np.asarray(drawing.overlay(frame, 0, 64, box, None))
  rows, cols = np.nonzero(image.any(-1))
  assert abs(rows.min() - 16) <= 1
  assert abs(rows.max() - 48) <= 1
  assert abs(cols.min() - 32) <= 1
  assert cols.max() == 63
  assert not image[20:44, 36:58].any()


def test_point_is_x_y():
  frame = np.zeros((8, 8, 3), np.uint8)
  point = overlay([[[0.25, 0.75]]])
  image = np.asarray(drawing.overlay(frame, 0, 64, point, None))
  rows, cols = np.nonzero(image.any(-1))
  assert abs(rows.mean() - 48) < 1
  assert abs(cols.mean() - 16) < 1


def test_hidden_truth_is_not_drawn():
  frame = np.zeros((8, 8, 3), np.uint8)
  point = overlay([[[0.25, 0.75]]], shown=False)
  assert not np.asarray(drawing.overlay(frame, 0, 64, point, None)).any()


def test_forecast_dims_the_video_and_survives_nonsense():
  frame = np.full((8, 8, 3), 200, np.uint8)
  truth = overlay([[[0.1, 0.1]]], shown=False)
  wild = overlay([[[np.nan, 0.5]]])
  image = np.asarray(drawing.overlay(frame, 0, 64, truth, wild))
  assert (image == 90).all()
  far = overlay([[[1e6, -1e6, -1e6, 1e6]]])
  drawing.overlay(frame, 0, 64, overlay([[[0, 0, 1, 1]]]), far)


def test_depth_colors():
  depth = np.array([[[0.0], [1.0], [5.0], [9.0]]], np.float32)
  colors = drawing.depth_picture(depth, 1.0, 5.0, is_truth=True)[0]
  scale = drawing.colormap()
  assert (colors[0] == colors[0][0]).all()  # gray
  assert (colors[1] == scale[0]).all()
  assert (colors[2:] == scale[255]).all()
  forecast = drawing.depth_picture(depth, 1.0, 5.0, is_truth=False)[0]
  assert (forecast[0] == scale[0]).all()


def test_depth_range_ignores_what_is_not_measured():
  depth = np.full((2, 4, 4, 1), 3.0, np.float32)
  depth[0] = 0
  low, high = drawing.depth_range(depth)
  assert low == pytest.approx(3.0)
  assert high > low
  assert drawing.depth_range(np.zeros((1, 2, 2, 1), np.float32)) == (0, 1)


def test_border_tells_observed_from_forecast():
  from PIL import Image

  tile = Image.new("RGB", (40, 40), "black")
  observed = np.asarray(drawing.framed(tile, True))
  forecast = np.asarray(drawing.framed(tile, False))
  blue, orange = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
  assert (observed[0] == blue).all()
  on = (forecast[1] == orange).all(-1)
  assert 0.3 < on.mean() < 0.8  # dashed: told apart without color


def test_blocks_of_each_kind(make_workdir):
  workdir, rows = make_workdir(tasks=("boxes",), panels=2)
  kinds = {row["forecaster"]: row["kind"] for row in rows}
  path = workdir / "panels" / "boxes.npz"
  first, second = qualitative.blocks(path, kinds)
  assert first.columns == ["truth", "sample 1", "sample 2", "sample 3", "mean"]
  assert second.columns == [
    "truth",
    "regression",
    "oracle_future",
    "persistence_output",
  ]
  assert first.clips == ["scene/0", "scene/1"]
  assert len(first.stills) == 2


def test_padding_is_not_shown_and_points_are_thinned(make_workdir, tmp_path):
  workdir, _ = make_workdir(tasks=("points",))
  path = workdir / "panels" / "points.npz"
  clips = panels.Clips(path)
  chosen = clips._chosen(0)
  assert len(chosen) == panels.NUM_POINTS
  assert 19 not in chosen  # the last is padding
  with np.load(path) as file:
    arrays = {name: file[name] for name in file.files if name != "truth"}
  np.savez(tmp_path / "points.npz", **arrays)
  with pytest.raises(ValueError, match=r"points\.npz lacks truth"):
    panels.Clips(tmp_path / "points.npz")


def test_curves_survive_gaps():
  rows = [{"step": s, "trainee": "flow", "loss": 1.0 / s} for s in (1, 2, 9)]
  rows.insert(1, {"step": 1, "trainee": "flow", "loss": None})
  figure = figures.curves(rows, "run")
  assert "flow 1 to 0.111" in figure.alt
  assert figures.curves([{"step": 1, "trainee": "a"}], "run") is None
