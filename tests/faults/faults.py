"""What may go wrong, and that runs survive it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import suite as suite_lib
import tiny_run
from suite import NotSurvived

from forecasting.latents import pipeline, store
from forecasting.training import checkpoint


class NotPossible(Exception):
  """A fault that this machine does not allow to cause."""


def kills(binary, processes, count):
  """Returns the fault: killed so often at random times, then run to its end."""

  def fault(suite, name):
    workdir = suite.folder / name
    suite.prepare(binary, workdir, processes)
    seconds = suite.seconds(binary, processes)
    delivered = attempts = 0
    while delivered < count:
      attempts += 1
      if attempts > 5 * count:
        raise NotSurvived(f"{binary} ended before it could be killed")
      process = suite.start(binary, workdir, processes)
      delay = suite.rng.uniform(0.0, 0.7 * seconds)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
      if process.poll() is None:
        delivered += 1
        victims = suite_lib.workers(process) if processes > 1 else []
        victim = int(suite.rng.choice(victims)) if victims else None
        suite_lib.end(process, victim)
      elif process.returncode == 0:
        suite.compare(binary, workdir, processes)
        suite.prepare(binary, workdir, processes)
      else:
        raise NotSurvived(f"{binary} ended with {process.returncode}")
    suite.finish(binary, workdir, processes)
    suite.compare(binary, workdir, processes)

  return fault


def spoilt_checkpoint(spoil):
  """Returns the fault: the newest checkpoint of a finished run is spoilt."""

  def fault(suite, name):
    workdir = suite.copy(name)
    spoil(workdir / checkpoint.FOLDER / str(suite_lib.STEPS))
    suite.finish("main", workdir)
    suite.compare("main", workdir)

  return fault


def spoilt_for_eval(suite, name):
  """Evaluation takes the checkpoint before, and says its step."""
  workdir = suite.copy(name)
  _flip(workdir / checkpoint.FOLDER / str(suite_lib.STEPS))
  suite.finish("eval", workdir)
  steps = [v for k, v in tiny_run.scores(workdir).items() if k == "/flow/step"]
  if steps != [suite_lib.STEPS - 3]:
    raise NotSurvived(f"{workdir}: scored step {steps}")


def _flip(folder):
  """Flips one bit of the largest file."""
  files = [path for path in folder.rglob("*") if path.is_file()]
  file = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


def _delete_position(folder):
  for file in (folder / "data").iterdir():
    file.unlink()


def _garble_position(folder):
  for file in (folder / "data").iterdir():
    file.write_text('{"next_ind')


def _cut(folder):
  for file in folder.glob("state/**/d/*"):
    os.truncate(file, file.stat().st_size // 2)


def all_checkpoints_gone(suite, name):
  """Training starts over and comes to the same end."""
  workdir = suite.copy(name)
  shutil.rmtree(workdir / checkpoint.FOLDER)
  suite.finish("main", workdir)
  suite.compare("main", workdir)


def _extracted(suite, name):
  workdir = suite.folder / name
  shutil.copytree(suite.undisturbed("extract"), workdir)
  (shard, *_) = sorted(workdir.glob("latents/*/*/eval/*.array_record"))
  return workdir, shard


def spoilt_shard(spoil):
  """Returns the fault: a shard of latents is damaged; extraction mends it."""

  def fault(suite, name):
    workdir, shard = _extracted(suite, name)
    spoil(shard)
    suite.finish("extract", workdir)
    suite.compare("extract", workdir)

  return fault


def spoilt_shard_in_training(spoil, words):
  """Returns the fault: training refuses a damaged shard by name."""

  def fault(suite, name):
    latents = suite.folder / f"{name}-latents"
    shutil.copytree(suite.latents, latents)
    shard = latents / "train" / "shard-00000.array_record"
    spoil(shard)
    workdir = suite.folder / name
    suite.refuse("main", workdir, words, **{"latents.path": latents})
    shutil.copy(suite.latents / "train" / shard.name, shard)
    suite.finish("main", workdir, **{"latents.path": latents})
    suite.compare("main", workdir)

  return fault


def _flip_file(file):
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


def _cut_file(file):
  os.truncate(file, file.stat().st_size - 7)


def manifest_deleted(suite, name):
  """Extraction keeps the shards and writes the manifest again."""
  workdir, shard = _extracted(suite, name)
  (shard.parent / "manifest.json").unlink()
  suite.finish("extract", workdir)
  suite.compare("extract", workdir)


def manifest_garbled(suite, name):
  """Extraction names the file; without it, it keeps the shards."""
  workdir, shard = _extracted(suite, name)
  file = shard.parent / "manifest.json"
  file.write_text(file.read_text()[:100])
  suite.refuse("extract", workdir, r"manifest\.json is not JSON.*Delete it")
  file.unlink()
  suite.finish("extract", workdir)
  suite.compare("extract", workdir)


def manifest_of_other_latents(suite, name):
  """Extraction refuses by the field that differs."""
  workdir, shard = _extracted(suite, name)
  file = shard.parent / "manifest.json"
  content = file.read_text()
  file.write_text(json.dumps(json.loads(content) | {"num_context": 2}))
  suite.refuse("extract", workdir, "num_context: the store has 2, expected 4")
  file.write_text(content)
  suite.finish("extract", workdir)
  suite.compare("extract", workdir)


def _on_small_disk(suite, name):
  """Returns a folder on a disk of its own of 16 MB."""
  folder = suite.folder / name
  folder.mkdir()
  done = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder],
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise NotPossible(f"mount: {done.stderr.strip()}")
  return folder


def full_disk(binary, words):
  """Returns the fault: the disk fills up during a run, then has room again."""

  def fault(suite, name):
    disk = _on_small_disk(suite, name)
    try:
      workdir, ballast = disk / name, disk / "ballast"
      process = suite.start(binary, workdir)
      if binary == "main":
        suite.wait_for_step(workdir, 4, process)
      else:
        while process.poll() is None and not list(workdir.rglob("*.json")):
          time.sleep(0.01)
      os.killpg(process.pid, signal.SIGSTOP)
      with contextlib.suppress(OSError), open(ballast, "wb", 0) as file:
        while True:
          file.write(bytes(1 << 12))
      os.killpg(process.pid, signal.SIGCONT)
      process.wait(600)
      last = " ".join(suite.log(workdir).read_text().splitlines()[-4:])
      if process.returncode == 0 or not re.search(
        f"No space left|{words}", last
      ):
        raise NotSurvived(f"{binary} ended on a full disk with {last!r}")
      suite.refuse(binary, workdir, words)
      ballast.unlink()
      suite.finish(binary, workdir)
      suite.compare(binary, workdir)
    finally:
      subprocess.run(["umount", disk], check=False)

  return fault


def not_a_number(suite, name):
  """Training stops, names trainee and step, and goes on with mended data."""
  latents = suite.folder / f"{name}-latents"
  tiny_run.write_latents(latents, poisoned=[_clip_of_step(suite, 4)])
  workdir = suite.folder / name
  words = r"training of '.*' stopped at step \d+: loss=nan"
  suite.refuse("main", workdir, words, **{"latents.path": latents})
  steps = [path.name for path in (workdir / checkpoint.FOLDER).iterdir()]
  if steps != ["3"]:
    raise NotSurvived(f"checkpoints after NaN in step 4: {steps}")
  # The same place holds good latents now.
  suite.finish("main", workdir)
  suite.compare("main", workdir)


def _clip_of_step(suite, step):
  """Returns a clip for training that is read first in a step, from 1."""
  latents = store.LatentStore(suite.latents / "train")
  ids = [latents.read(i, ("example_id",))["example_id"] for i in range(16)]
  batches = pipeline.train_batches(latents, 4, 0, ("example_id",))
  seen = [next(batches)["example_id"] for _ in range(step)]
  return next(i for i, x in enumerate(ids) if x == seen[-1][0])


def stalled(seconds):
  """Returns the fault: one of two processes stands still for a while."""

  def fault(suite, name):
    workdir = suite.folder / name
    process = suite.start("main", workdir, 2)
    suite.wait_for_step(workdir, 2, process)
    victim = suite_lib.workers(process)[1]
    os.kill(victim, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(victim, signal.SIGCONT)
    if process.wait(600):
      raise NotSurvived(f"ended with {process.returncode} after a stall")
    suite.compare("main", workdir, 2)

  return fault


def preempted(processes):
  """Returns the fault: SIGTERM in training; the run saves, says 75, resumes."""

  def fault(suite, name):
    workdir = suite.folder / name
    process = suite.start("main", workdir, processes)
    suite.wait_for_step(workdir, 2, process)
    process.terminate()
    if process.wait(600) != 75:
      raise NotSurvived(f"ended with {process.returncode} after SIGTERM")
    if not any((workdir / checkpoint.FOLDER).iterdir()):
      raise NotSurvived("nothing saved after SIGTERM")
    suite.finish("main", workdir, processes)
    suite.compare("main", workdir, processes)

  return fault


def all_faults(num_kills):
  """Returns the name, function and count of every fault.

  Args:
    num_kills: at random times, spread over binaries and numbers of processes.
  """
  places = [(b, n) for b in ("extract", "main", "eval") for n in (1, 2)]
  shares = [
    num_kills // len(places) + (i < num_kills % len(places))
    for i in range(len(places))
  ]
  faults = [
    (f"kill-{binary}-{n}", kills(binary, n, share), share)
    for (binary, n), share in zip(places, shares)
    if share
  ]
  single = {
    "checkpoint-flipped-bit": spoilt_checkpoint(_flip),
    "checkpoint-cut": spoilt_checkpoint(_cut),
    "checkpoint-deleted": spoilt_checkpoint(shutil.rmtree),
    "checkpoints-all-deleted": all_checkpoints_gone,
    "checkpoint-flipped-bit-eval": spoilt_for_eval,
    "position-deleted": spoilt_checkpoint(_delete_position),
    "position-garbled": spoilt_checkpoint(_garble_position),
    "shard-flipped-bit": spoilt_shard(_flip_file),
    "shard-cut": spoilt_shard(_cut_file),
    "shard-deleted": spoilt_shard(os.unlink),
    "shard-flipped-bit-main": spoilt_shard_in_training(
      _flip_file, r"shard-00000\.array_record: record \d+ cannot be read"
    ),
    "shard-deleted-main": spoilt_shard_in_training(
      os.unlink, r"shard-00000\.array_record is missing"
    ),
    "manifest-deleted": manifest_deleted,
    "manifest-garbled": manifest_garbled,
    "manifest-other": manifest_of_other_latents,
    "disk-full-main": full_disk("main", "[Ff]ree"),
    "disk-full-extract": full_disk("extract", "[Ff]ree"),
    "not-a-number": not_a_number,
    "stalled-2": stalled(20.0),
    "preempted-1": preempted(1),
    "preempted-2": preempted(2),
  }
  return faults + [(name, fault, 1) for name, fault in single.items()]
