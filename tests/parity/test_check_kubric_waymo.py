"""The checks of MOVi and Waymo accept right samples and notice wrong ones."""

import json
import os
import shutil
from pathlib import Path

import check_formats_kubric_waymo as checks
import numpy as np
import pytest

GOLDENS = (
  Path(
    os.environ.get(
      "FORECASTING_GOLDENS",
      Path(__file__).parents[3] / "shared" / "reference" / "goldens",
    )
  )
  / "formats"
)
if not GOLDENS.is_dir():
  pytest.skip(
    f"no goldens in {GOLDENS}; set FORECASTING_GOLDENS",
    allow_module_level=True,
  )


def problems(check, folder):
  return {name: found for name, _, found in check(folder) if found}


@pytest.fixture
def copy(tmp_path):
  """A copy of a golden folder that may be changed."""

  def copy(name):
    shutil.copytree(
      GOLDENS / name, tmp_path / name, copy_function=shutil.copyfile
    )
    for path in [tmp_path / name, *(tmp_path / name).rglob("*")]:
      path.chmod(0o755)
    return tmp_path / name

  return copy


@pytest.mark.parametrize("name", ["movi", "waymo_v1", "waymo_v2"])
def test_goldens(name):
  assert not problems(getattr(checks, f"check_{name}"), GOLDENS / name)


def test_notices_other_tracks_and_images(copy):
  folder = copy("movi")
  for file, key, change in (
    ("tracks_train", "0__target_points", lambda x: x + 0.002),
    ("tracks_train", "1__occluded", lambda x: x ^ (np.arange(24) == 3)),
    ("decoded_validation_0", "normal_mean", lambda x: x * 1.001),
  ):
    path = folder / f"{file}.npz"
    with np.load(path) as stored:
      arrays = dict(stored)
    np.savez(path, **arrays | {key: change(arrays[key])})
  found = problems(checks.check_movi, folder)
  assert found.keys() == {"train/0", "train/1", "validation/0"}
  assert "off by up to 0.002" in found["train/0"][0]
  assert "96 of 2304 occlusion flags" in found["train/1"][0]
  assert found["validation/0"] == ["normal_mean differs"]


@pytest.mark.parametrize("name", ["waymo_v1", "waymo_v2"])
def test_notices_other_boxes(name, copy):
  folder = copy(name)
  path = folder / "expected.json"
  original = path.read_text()
  check = getattr(checks, f"check_{name}")

  def after(change):
    stored = json.loads(original)
    change(stored)
    path.write_text(json.dumps(stored))
    (found,) = problems(check, folder).values()
    return " ".join(found)

  def move(stored):
    next(iter(stored["boxes_normalised_full_frame"].values()))["5"][0] += 1e-6

  def keep(stored):
    row = next(iter(stored["first_clip_after_crop"].values()))
    row["kept"] = not row["kept"]

  assert "boxes are off" in after(move)
  assert "kept is True" in after(keep)
  assert "timestamps differ" in after(lambda s: s["front_timestamps"].pop())
  assert "not found" in after(lambda s: s.update(context="other"))


def test_notices_what_is_not_refused(copy):
  folder = copy("waymo_v1")
  (good,) = folder.glob("training/*.tfrecord")
  shutil.copyfile(good, folder / "malformed" / "bad_crc.tfrecord")
  assert problems(checks.check_waymo_v1, folder) == {
    "malformed/bad_crc.tfrecord": ["read without an error"]
  }
