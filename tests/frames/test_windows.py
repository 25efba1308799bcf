import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.frames import windows


@settings(deadline=None)
@given(
  num_frames=st.integers(0, 3000),
  span=st.integers(1, 64),
  count=st.integers(1, 20),
)
def test_even_windows_lie_inside_and_apart(num_frames, span, count):
  starts = windows.even_starts(num_frames, span, count)
  assert len(starts) == min(count, num_frames // span)
  assert np.all(np.diff(starts) >= span)
  if starts:
    assert starts[0] >= 0 and starts[-1] + span <= num_frames
    gaps = np.diff([-span, *starts, num_frames]) - span
    # The room before the first and after the last is half of that between.
    assert np.ptp(gaps[1:-1], axis=0) <= 1 if len(gaps) > 2 else True
    assert abs(gaps[0] - gaps[-1]) <= 1


def test_even_windows_by_hand():
  assert windows.even_starts(20, 16, 8) == [2]
  assert windows.even_starts(100, 16, 2) == [17, 67]
  assert windows.even_starts(128, 16, 8) == list(range(0, 128, 16))


def test_spread_keeps_all_or_every_nth():
  assert windows.spread([1, 2, 3], 5) == [1, 2, 3]
  assert windows.spread(list(range(10)), 5) == [0, 2, 4, 6, 8]


def test_eval_list_is_written_once_and_hashed_as_result_rows_are(tmp_path):
  ids = ["a:0", "b:64"]
  value = windows.write_eval_list(tmp_path, "made", ids)
  (path,) = (tmp_path / "eval_lists").iterdir()
  assert path.name == f"made-{value}.txt"
  assert path.read_text() == "a:0\nb:64\n"
  digest = hashlib.blake2b(digest_size=8)
  for clip_id in ids:
    digest.update(np.array(clip_id).tobytes() + b"\n")
  assert value == digest.hexdigest()
  assert windows.write_eval_list(tmp_path, "made", ids[::-1]) != value


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match=r"cannot write .*config\.data\.root"):
    windows.write_eval_list(tmp_path / "file", "made", ["a"])
