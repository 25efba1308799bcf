"""Launch scripts: grids of runs, and running again after pre-emption."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"

_spec = importlib.util.spec_from_file_location("study", LAUNCH / "study.py")
study = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(study)


def test_grid_is_a_product_and_zip_advances_together():
  runs = study.combine(["a=1,2", "b.c=x,y"], ["d=5,6", "e=7,8"])
  values = [tuple(run.values()) for run in runs]
  assert values == [
    ("1", "x", "5", "7"),
    ("1", "x", "6", "8"),
    ("1", "y", "5", "7"),
    ("1", "y", "6", "8"),
    ("2", "x", "5", "7"),
    ("2", "x", "6", "8"),
    ("2", "y", "5", "7"),
    ("2", "y", "6", "8"),
  ]
  assert set(runs[0]) == {"a", "b.c", "d", "e"}
  assert study.combine([], []) == [{}]


def test_values_may_hold_commas_in_brackets_and_quotes():
  axis = study.parse_axis("""config.tasks=("pixels",),['a', "b)"],'x,y'""")
  assert [value for _, value in axis] == [
    '("pixels",)',
    """['a', "b)"]""",
    "'x,y'",
  ]
  assert axis[0][0] == "tasks"


@pytest.mark.parametrize(
  ("grid", "zipped", "message"),
  [
    (["seed"], [], "expected FIELD="),
    (["=1"], [], "expected FIELD="),
    (["a=1,,2"], [], "empty"),
    (["a=(1,2"], [], "not closed"),
    (["a=1", "a=2"], [], "twice: a"),
    (["a=1"], ["a=2"], "twice: a"),
    ([], ["a=1,2", "b=1"], "a: 2, b: 1"),
  ],
)
def test_wrong_axes_are_named(grid, zipped, message):
  with pytest.raises(ValueError, match=message):
    study.combine(grid, zipped)


def test_each_run_has_its_own_folder_and_flags(tmp_path):
  overrides = study.combine(["seed=0,1", "data.path=/a b/c"], [])
  runs = study.plan("c.py:smoke", tmp_path, overrides, rest=["--x"])
  assert len({run.workdir for run in runs}) == 2
  assert all(run.workdir.parent == tmp_path for run in runs)
  assert runs[1].command[1:] == [
    "-m",
    "forecasting.main",
    "--config=c.py:smoke",
    f"--workdir={runs[1].workdir}",
    "--config.seed=1",
    "--config.data.path=/a b/c",
    "--x",
  ]
  with pytest.raises(ValueError, match="same"):
    study.plan("c.py", tmp_path, [{"a": "1"}, {"a": "1"}])


def test_long_folder_names_are_cut_and_stay_different():
  names = {study.folder_name({"field": "v" * 300 + end}) for end in "ab"}
  assert len(names) == 2 and all(len(name) < 200 for name in names)


def test_dry_run_prints_and_starts_nothing(tmp_path, capsys):
  arguments = ["--config=c.py", f"--root={tmp_path / 'study'}"]
  study.main([*arguments, "--dry_run", "--grid=seed=0,1", "--", "--flag=a b"])
  lines = capsys.readouterr().out.splitlines()
  assert [shlex.split(line)[-1] for line in lines] == ["--flag=a b"] * 2
  assert not (tmp_path / "study").exists()


def _run(folder, code):
  """A run that appends a line to its log and executes `code`."""
  program = (
    "import os, pathlib, sys, time\n"
    f"folder = pathlib.Path({str(folder)!r})\n"
    "folder.mkdir(parents=True, exist_ok=True)\n"
    "log = folder / 'log'\n"
    "times = len(log.read_text()) if log.exists() else 0\n"
    "log.write_text('x' * (times + 1))\n"
  )
  return study.Run(folder, [sys.executable, "-c", program + code])


def _times(run):
  log = run.workdir / "log"
  return len(log.read_text()) if log.exists() else 0


def test_finished_runs_are_skipped_and_preempted_ones_run_again(tmp_path):
  runs = [
    _run(tmp_path / "a", "sys.exit(75 if times < 2 else 0)"),
    _run(tmp_path / "b", "sys.exit(3 if times == 0 else 0)"),
    _run(tmp_path / "c", ""),
  ]
  assert study.execute_all(runs) == 3
  assert [_times(run) for run in runs] == [3, 1, 0]
  assert study.execute_all(runs) == 0
  assert [_times(run) for run in runs] == [3, 2, 1]
  assert study.execute_all(runs) == 0
  assert [_times(run) for run in runs] == [3, 2, 1]


def test_keep_going_runs_what_comes_after_a_failure(tmp_path):
  runs = [_run(tmp_path / "a", "sys.exit(3)"), _run(tmp_path / "b", "")]
  assert study.execute_all(runs, keep_going=True) == 3
  assert [_times(run) for run in runs] == [1, 1]


def test_folder_of_another_command_is_refused(tmp_path):
  run = _run(tmp_path / "a", "")
  study.execute_all([run])
  other = study.Run(run.workdir, [*run.command, "--other"])
  with pytest.raises(ValueError, match="another command"):
    study.execute_all([other])


def test_a_config_that_is_a_study_goes_to_its_own_binary(monkeypatch, tmp_path):
  commands = []

  class Replaced(BaseException):
    """The process has become another."""

  def execv(path, command):
    commands.append(command)
    raise Replaced

  monkeypatch.setattr(study.os, "execv", execv)
  config = f"{ROOT}/configs/study_tiny.py:smoke"
  rest = ["--", "--config.skip_missing=True"]
  with pytest.raises(Replaced):
    study.main(
      [f"--config={config}", "--root=/r", "--shard=2/4", "--dry_run", *rest]
    )
  assert commands[0][1:] == [
    "-m",
    "forecasting.study",
    f"--config={config}",
    "--workdir=/r",
    "--shard=2/4",
    "--dry_run",
    "--config.skip_missing=True",
  ]
  with pytest.raises(SystemExit):
    study.main([f"--config={config}", "--grid=seed=0,1"])
  assert not study.is_study(f"{ROOT}/configs/quickstart.py:smoke")
  assert not study.is_study(str(tmp_path / "nowhere.py"))


def _fake_python(folder, body):
  """A stand-in for `python` that logs its arguments, then runs `body`."""
  fake = folder / "python"
  fake.write_text(f'#!/usr/bin/env bash\necho "$*" >> {folder}/log\n{body}\n')
  fake.chmod(0o755)
  return os.environ | {"PYTHON": str(fake)}


def test_run_script_restarts_after_preemption_only(tmp_path):
  environment = _fake_python(
    tmp_path, f"[[ $(wc -l < {tmp_path}/log) -lt 3 ]] && exit 75; exit 4"
  )
  done = subprocess.run(
    [LAUNCH / "run.sh", "main", "--config=a b"],
    env=environment,
    capture_output=True,
    check=False,
  )
  assert done.returncode == 4
  log = (tmp_path / "log").read_text().splitlines()
  assert log == ["-m forecasting.main --config=a b"] * 3
  usage = subprocess.run(
    [LAUNCH / "run.sh"], capture_output=True, text=True, check=False
  )
  assert usage.returncode == 2 and "usage" in usage.stderr


_SAVES = "import signal, sys, time\n" + (
  "def save(*_):\n"
  "  time.sleep(0.3)\n"
  "  open(FOLDER + '/saved', 'w').close()\n"
  "  sys.exit(75)\n"
  "signal.signal(signal.SIGTERM, save)\n"
  "open(FOLDER + '/started', 'w').close()\n"
  "time.sleep(60)\n"
)


def _terminate_once_started(process, folder):
  deadline = time.monotonic() + 20
  while not (folder / "started").exists():
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  return process.wait(timeout=20)


def test_run_script_passes_a_signal_on_and_waits(tmp_path):
  program = tmp_path / "program.py"
  program.write_text(f"FOLDER = {str(tmp_path)!r}\n" + _SAVES)
  environment = _fake_python(tmp_path, f"exec {sys.executable} {program}")
  process = subprocess.Popen([LAUNCH / "run.sh", "main"], env=environment)
  assert _terminate_once_started(process, tmp_path) == 75
  assert (tmp_path / "saved").exists()
  assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_study_passes_a_signal_on_and_starts_nothing_more(tmp_path):
  code = f"FOLDER = {str(tmp_path)!r}\n" + _SAVES
  runs = [_run(tmp_path / "a", code), _run(tmp_path / "b", "")]
  (tmp_path / "runs.json").write_text(
    json.dumps([[str(run.workdir), run.command] for run in runs])
  )
  driver = (
    "import importlib.util, json, pathlib, sys\n"
    f"spec = importlib.util.spec_from_file_location('study', "
    f"{str(LAUNCH / 'study.py')!r})\n"
    "study = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(study)\n"
    f"runs = json.load(open({str(tmp_path / 'runs.json')!r}))\n"
    "runs = [study.Run(pathlib.Path(w), c) for w, c in runs]\n"
    "sys.exit(study.execute_all(runs))\n"
  )
  process = subprocess.Popen([sys.executable, "-c", driver])
  assert _terminate_once_started(process, tmp_path) == 75
  assert (tmp_path / "saved").exists()
  assert [_times(run) for run in runs] == [1, 0]


def test_manifest_of_external_files_is_complete():
  path = LAUNCH.parent / "third_party" / "manifest.json"
  entries = json.loads(path.read_text())
  names = [entry["name"] for entry in entries]
  assert len(names) == len(set(names)) >= 14
  for entry in entries:
    assert entry.keys() == {
      *("name", "kind", "for", "owner", "license", "homepage", "files", "note")
    }
    assert entry["kind"] in ("weights", "dataset")
    assert entry["files"]
    for file in entry["files"]:
      assert file.keys() == {"name", "url", "size", "sha256"}
      assert file["url"] or entry["note"], "say why there is no address"


def test_sample_clips_are_pinned_to_the_digest_of_the_manifest():
  path = LAUNCH.parent / "third_party" / "manifest.json"
  (entry,) = [e for e in json.loads(path.read_text()) if "scikit" in e["name"]]
  script = (LAUNCH / "fetch_sample_videos.sh").read_text()
  assert entry["files"][0]["sha256"] in script
