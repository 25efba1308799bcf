"""The queue of a study: what it starts, what it kills, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forecasting.study import child
from forecasting.study import queue as run_queue
from forecasting.training import checkpoint

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")

# Python starts slowly on a busy machine.
PATIENCE = 300.0

# A run that says its process, holds its folder as training does, and on
# SIGTERM saves; `-I -S` starts fast.
HOLDS = """
import fcntl, os, signal, sys, time
folder = sys.argv[1]
def save(*_):
  open(folder + '/saved', 'w').close()
  sys.exit(75)
signal.signal(signal.SIGTERM, save)
lock = open(folder + '/.running', 'a')
fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
with open(folder + '/pid.tmp', 'w') as file:
  file.write(str(os.getpid()))
os.rename(folder + '/pid.tmp', folder + '/pid')
time.sleep(600)
"""

DRIVER = """
import json, pathlib, sys
from forecasting.study import queue as run_queue
runs = json.loads(sys.argv[1])
runs = [run_queue.Run(pathlib.Path(w), c) for w, c in runs]
sys.exit(run_queue.execute_all(runs, workers=int(sys.argv[2])))
"""


def _python(code, *arguments):
  return [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]


def _drive(runs, workers=1):
  """Starts a queue in a process of its own."""
  listed = json.dumps([[str(run.workdir), run.command] for run in runs])
  command = [sys.executable, "-c", DRIVER, listed, str(workers)]
  return subprocess.Popen(command, cwd=ROOT)


def _wait_for(condition):
  deadline = time.monotonic() + PATIENCE
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def _is_alive(pid):
  status = Path(f"/proc/{pid}/status")
  return status.exists() and "\nState:\tZ" not in status.read_text()


def _holding(folder):
  return run_queue.Run(folder, _python(HOLDS, folder))


def _logging(folder, log, what="time.sleep(0)", after=()):
  """A run that notes its begin and its end."""
  code = (
    "import os, sys, time\n"
    "def note(text):\n"
    "  with open(sys.argv[1], 'a') as log: log.write(text + '\\n')\n"
    "note('+' + sys.argv[2])\n"
    f"{what}\n"
    "note('-' + sys.argv[2])\n"
  )
  return run_queue.Run(folder, _python(code, log, folder.name), None, after)


@LINUX
def test_a_killed_queue_takes_its_runs_with_it(tmp_path):
  """A rerun would find their folders in use otherwise."""
  runs = [_holding(tmp_path / "a"), _holding(tmp_path / "b")]
  process = _drive(runs, workers=2)
  files = [run.workdir / "pid" for run in runs]
  _wait_for(lambda: all(file.exists() for file in files))
  children = [int(file.read_text()) for file in files]
  process.send_signal(signal.SIGKILL)
  process.wait()
  _wait_for(lambda: not any(map(_is_alive, children)))
  assert not (tmp_path / "a" / "saved").exists()


def test_a_terminated_queue_lets_all_its_runs_save(tmp_path):
  runs = [_holding(tmp_path / name) for name in "abc"]
  process = _drive(runs, workers=2)
  _wait_for(lambda: all((run.workdir / "pid").exists() for run in runs[:2]))
  process.terminate()
  assert process.wait(PATIENCE) == run_queue.PREEMPTED
  assert all((run.workdir / "saved").exists() for run in runs[:2])
  assert not runs[2].workdir.exists()


@LINUX
def test_a_child_whose_parent_is_gone_never_starts():
  command = child.wrap(["touch", "/nowhere"])
  at = command.index(str(os.getpid()))
  command[at] = "1"
  done = subprocess.run(command, cwd=ROOT, check=False)
  assert done.returncode == run_queue.PREEMPTED


def test_runs_go_side_by_side_but_not_before_what_they_need(tmp_path, capsys):
  """`b` needs `a`, so `c` goes ahead of it, and has to see `a` running."""
  log, both = tmp_path / "log", tmp_path / "c-was-here"
  waits = f"while not os.path.exists({str(both)!r}): time.sleep(0.01)"
  runs = [
    _logging(tmp_path / "a", log, waits),
    _logging(tmp_path / "b", log, after=(tmp_path / "a",)),
    _logging(tmp_path / "c", log, f"open({str(both)!r}, 'w').close()"),
  ]
  assert run_queue.execute_all(runs, workers=2) == 0
  lines = log.read_text().split()
  assert sorted(lines) == ["+a", "+b", "+c", "-a", "-b", "-c"]
  assert lines.index("+c") < lines.index("-a") < lines.index("+b")
  told = capsys.readouterr().out
  for number, name in enumerate("abc", 1):
    assert told.count(f"[{number}/3]") == 2
    assert f"[{number}/3] finished: {tmp_path / name}\n" in told
  assert all(map(run_queue.is_done, runs))


def test_side_by_side_a_failure_lets_the_running_finish(tmp_path, capfd):
  failed = tmp_path / "failed"
  fails = (
    f"with open({str(failed)!r}, 'w') as file: file.write(str(os.getpid()))\n"
    "print('no', 'luck')\n"
    "sys.exit(3)"
  )
  # Until the queue has taken notice of the end of the other.
  waits = (
    "try:\n"
    "  while True:\n"
    "    time.sleep(0.01)\n"
    f"    text = open({str(failed)!r}, 'a+')\n"
    "    text.seek(0)\n"
    "    os.kill(int(text.read() or os.getpid()), 0)\n"
    "except ProcessLookupError:\n"
    "  pass"
  )
  log = tmp_path / "log"

  def runs(*names):
    whats = {"a": fails, "b": waits}
    return [
      _logging(tmp_path / name, log, whats.get(name, "pass")) for name in names
    ]

  assert run_queue.execute_all(runs(*"abcd"), workers=2) == 3
  # `c` may not begin after the failure, in whichever order these two ended.
  assert sorted(log.read_text().split()) == ["+a", "+b", "-b"]
  assert (tmp_path / "a" / run_queue.LOG).read_text() == "no luck\n"
  told = capfd.readouterr().out
  assert "no luck" not in told
  assert f"failed with code 3: {tmp_path / 'a'}, see" in told
  log.unlink()
  assert run_queue.execute_all(runs(*"acd"), keep_going=True, workers=2) == 3
  assert sorted(log.read_text().split()) == ["+a", "+c", "+d", "-c", "-d"]


@LINUX
def test_each_worker_has_its_share_of_the_cores(tmp_path, monkeypatch):
  code = "import os, sys; print(sorted(os.sched_getaffinity(0)))"
  runs = [run_queue.Run(tmp_path / n, _python(code)) for n in ("a", "b")]
  assert run_queue.execute_all(runs, workers=2) == 0
  found = [
    json.loads((run.workdir / run_queue.LOG).read_text()) for run in runs
  ]
  assert all(cores in child.shares(2) for cores in found)
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 1, 2, 7, 9})
  assert child.shares(2) == [[1, 2], [4, 7, 9]]
  assert child.shares(6) == [[1], [1], [2], [4], [7], [9]]


def _run(folder, identity=None, command=("true",)):
  identify = None if identity is None else lambda: identity
  return run_queue.Run(folder, ["python", *command], identify)


def _finish(run):
  run_queue._mark_started(run)
  run_queue._mark_done(run)


def test_a_run_is_what_it_depends_on_not_its_command(tmp_path):
  identity = {"seed": 1, "readout.steps": 500, "weights": "ab12"}
  _finish(_run(tmp_path, identity))
  moved = _run(tmp_path, identity, ("--config.backbone.checkpoint=x",))
  assert run_queue.is_done(moved)
  changed = identity | {"readout.steps": 600, "weights": "cd34"}
  with pytest.raises(ValueError) as error:
    run_queue.is_done(_run(tmp_path, changed))
  text = str(error.value)
  assert "readout.steps: 500 there, 600 now" in text
  assert "weights: 'ab12' there, 'cd34' now" in text
  assert "seed" not in text
  assert f"Delete {tmp_path}" in text and "another folder" in text


def test_an_unfinished_run_of_other_settings_is_not_resumed(tmp_path):
  run_queue._mark_started(_run(tmp_path / "b", {"steps": 500}))
  assert not run_queue.is_done(_run(tmp_path / "b", {"steps": 500}))
  first = _run(tmp_path / "a", {"steps": 600})
  # It has trained nothing yet.
  assert not run_queue.is_done(_run(tmp_path / "b", {"steps": 600}))
  (tmp_path / "b" / checkpoint.FOLDER).mkdir()
  with pytest.raises(ValueError, match="steps: 500 there, 600 now"):
    run_queue.execute_all([first, _run(tmp_path / "b", {"steps": 600})])
  assert not first.workdir.exists()  # Told before anything starts.


def test_records_of_before_are_told_by_their_commands(tmp_path):
  record = {"command": ["other/python", "-m", "x", "--seed=1"]}
  (tmp_path / run_queue.DONE).write_text(json.dumps(record))
  same = _run(tmp_path, {"seed": 1}, ("-m", "x", "--seed=1"))
  assert run_queue.is_done(same) and not run_queue.differences(same)
  with pytest.raises(ValueError, match=r"another command: .* --seed=1\n"):
    run_queue.is_done(_run(tmp_path, {"seed": 1}, ("-m", "x", "--seed=2")))


def test_a_run_is_recorded_as_it_was_when_it_started(tmp_path):
  """Weights may be replaced while it runs."""
  identity = {"weights": "old"}
  run = run_queue.Run(tmp_path, ["x"], lambda: dict(identity))
  run_queue._mark_started(run)
  identity["weights"] = "new"
  run_queue._mark_done(run)
  assert run_queue.differences(run) == ["weights: 'old' there, 'new' now"]


def test_a_field_that_a_version_added_does_not_make_it_another_run(tmp_path):
  old = _run(tmp_path, {"steps": 5, "gone": 1})
  run_queue._mark_started(old)
  run_queue._mark_done(old)
  assert run_queue.is_done(_run(tmp_path, {"steps": 5, "added": 0}))
  different = run_queue.differences(_run(tmp_path, {"steps": 6, "added": 0}))
  assert different == ["steps: 5 there, 6 now"]
