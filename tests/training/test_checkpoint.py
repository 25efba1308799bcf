"""What is restored, and what happens to checkpoints that cannot be."""

import shutil

import jax
import numpy as np
import pytest
import toy_run

from forecasting.training import checkpoint, integrity


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """Returns the workdir and final states of a run of 20 and 9 steps."""
  workdir = tmp_path_factory.mktemp("finished")
  trainees = [toy_run.trainee("a", 20), toy_run.trainee("b", 9)]
  return workdir, toy_run.run(workdir, trainees)


@pytest.fixture
def workdir(finished, tmp_path):
  """Returns a copy of the finished run that a test may spoil."""
  shutil.copytree(finished[0], tmp_path / "run")
  return tmp_path / "run"


def spoil(step_folder, how):
  state, data = step_folder / "state", step_folder / "data"
  if how == "truncated arrays":
    for file in (state / "ocdbt.process_0" / "d").iterdir():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  elif how == "zeroed arrays":
    for file in (state / "ocdbt.process_0" / "d").iterdir():
      file.write_bytes(bytes(file.stat().st_size))
  elif how == "a flipped bit":
    file = max(state.glob("**/d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
  elif how == "no arrays":
    shutil.rmtree(state)
  elif how == "garbled metadata":
    (state / "_METADATA").write_text('{"tree_metadata": {')
  elif how == "no data position":
    next(data.glob("*.json")).unlink()
  elif how == "garbled checksums":
    (step_folder / integrity.FILE_NAME).write_text('{"state/')
  elif how == "garbled data position":
    next(data.glob("*.json")).write_text('{"next_ind')


WAYS = (
  "a flipped bit",
  "truncated arrays",
  "zeroed arrays",
  "garbled metadata",
  "garbled data position",
  "no data position",
  "garbled checksums",
)


def test_newest_are_kept_and_completion_is_marked(finished):
  folder = finished[0] / checkpoint.FOLDER
  assert sorted(int(p.name) for p in folder.iterdir()) == [14, 20]
  assert checkpoint.is_complete(finished[0])
  assert (finished[0] / checkpoint.COMPLETE).read_text() == "20\n"


def test_every_k_th_is_kept_too(tmp_path):
  trainees = [toy_run.trainee("a", 20)]
  toy_run.run(tmp_path, trainees, keep=1, keep_every=6, checkpoint_every=3)
  folder = tmp_path / checkpoint.FOLDER
  assert sorted(int(p.name) for p in folder.iterdir()) == [6, 12, 18, 20]


def test_checkpoints_without_checksums_are_read_unchecked(workdir):
  folder = workdir / checkpoint.FOLDER / "20"
  (folder / integrity.FILE_NAME).unlink()
  assert checkpoint.restore_ema(workdir)[0] == 20


def test_restore_ema_needs_no_optimizer(finished):
  workdir, states = finished
  params = checkpoint.restore_ema(workdir)[1]
  assert set(params) == {"a", "b"}
  for name, state in states.items():
    jax.tree.map(np.testing.assert_array_equal, params[name], state.ema)
    assert not np.array_equal(
      params[name]["dense"]["kernel"], state.params["dense"]["kernel"]
    )
  leaf = checkpoint.restore_ema(workdir, ["b"])[1]["b"]["dense"]["bias"]
  assert isinstance(leaf, np.ndarray)


def test_restore_ema_names_what_is_missing(finished, tmp_path):
  with pytest.raises(FileNotFoundError, match=str(tmp_path / "checkpoints")):
    checkpoint.restore_ema(tmp_path)
  with pytest.raises(KeyError, match=r"holds \['a', 'b'\], not \['flow'\]"):
    checkpoint.restore_ema(finished[0], ["a", "flow"])


def test_evaluation_reads_what_is_undamaged_or_falls_back(finished, workdir):
  spoil(workdir / checkpoint.FOLDER / "20", "truncated arrays")
  params = checkpoint.restore_ema(workdir, ["b"])[1]["b"]
  jax.tree.map(np.testing.assert_array_equal, params, finished[1]["b"].ema)


@pytest.mark.parametrize("how", WAYS)
def test_unreadable_newest_falls_back(finished, workdir, how, caplog):
  """Trains again from step 14 to the same end, and says so."""
  spoil(workdir / checkpoint.FOLDER / "20", how)
  trainees = [toy_run.trainee("a", 20), toy_run.trainee("b", 9)]
  states = toy_run.run(workdir, trainees)
  assert "checkpoints/20 cannot be read" in caplog.text
  assert "continuing from step 14" in caplog.text
  assert (workdir / checkpoint.UNREADABLE / "20").is_dir()
  jax.tree.map(np.testing.assert_array_equal, states, finished[1])


def test_evaluation_falls_back_too(finished, workdir, caplog):
  spoil(workdir / checkpoint.FOLDER / "20", "zeroed arrays")
  params = checkpoint.restore_ema(workdir)[1]
  # b ended at step 9: its average at step 14 is the final one; that of a isn't.
  final = {name: state.ema for name, state in finished[1].items()}
  jax.tree.map(np.testing.assert_array_equal, params["b"], final["b"])
  kernel = params["a"]["dense"]["kernel"]
  assert not np.array_equal(kernel, final["a"]["dense"]["kernel"])
  assert "checkpoints/20/state cannot be read" in caplog.text
  assert (workdir / checkpoint.FOLDER / "20").is_dir()  # left where it was


def test_no_readable_checkpoint_is_one_error(workdir):
  for step in ("14", "20"):
    spoil(workdir / checkpoint.FOLDER / step, "no arrays")
  trainees = [toy_run.trainee("a", 20), toy_run.trainee("b", 9)]
  expected = "none of the checkpoints in .* can be read .*step 20.*step 14"
  with pytest.raises(OSError, match=expected):
    toy_run.run(workdir, trainees)
  with pytest.raises(OSError, match=expected):
    checkpoint.restore_ema(workdir)
  assert (workdir / checkpoint.FOLDER / "20").is_dir()


def test_half_written_checkpoint_is_ignored_and_removed(workdir):
  folder = workdir / checkpoint.FOLDER
  partial = folder / "21.orbax-checkpoint-tmp"
  shutil.copytree(folder / "20", partial)
  trainees = [toy_run.trainee("a", 20), toy_run.trainee("b", 9)]
  assert int(toy_run.run(workdir, trainees)["a"].step) == 20
  assert sorted(p.name for p in folder.iterdir()) == ["14", "20"]


@pytest.mark.parametrize(
  ("trainees", "message"),
  [
    ([toy_run.trainee("a")], r"b\.step: stored \(\), expected nothing"),
    (
      [
        toy_run.trainee("a", init=lambda key: {"scale": toy_run.jnp.ones(2)}),
        toy_run.trainee("b"),
      ],
      r"a\.ema\.scale: stored \(\), expected \(2,\)",
    ),
  ],
)
def test_another_configuration_is_refused(workdir, trainees, message):
  with pytest.raises(ValueError, match="another configuration") as caught:
    toy_run.run(workdir, trainees)
  caught.match("checkpoints/20")
  caught.match("--workdir")
  assert len(str(caught.value)) < 700
  # Named in full when few differ; here the first in order.
  if "scale" in message:
    caught.match("a.ema.dense.bias")
  else:
    caught.match("b.ema.dense.bias: stored")
