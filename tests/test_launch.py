"""Launchers of several hosts, with stand-ins for clusters and binaries."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from forecasting.training import distributed, preemption

LAUNCH = Path(__file__).parents[1] / "launch"

_spec = importlib.util.spec_from_file_location(
  "local_processes", LAUNCH / "local_processes.py"
)
local = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(local)


def test_local_processes_get_the_variables_that_binaries_read():
  variables = local.environments({"XLA_FLAGS": "--a", "X": "1"}, 3, 2, 4321)
  for index, environment in enumerate(variables):
    assert distributed.settings(environment) == {
      "coordinator_address": "localhost:4321",
      "num_processes": 3,
      "process_id": index,
    }
    assert environment["XLA_FLAGS"].startswith("--a ")
    assert environment["XLA_FLAGS"].endswith("device_count=2")
    assert environment["X"] == "1"


def test_preemption_outweighs_other_failures():
  assert local.exit_code([0, 0]) == 0
  assert local.exit_code([0, 3]) == 3
  assert local.exit_code([-9, 75]) == 75


def _processes(folder, program, count=2, grace_seconds=30.0):
  """Runs a program as several processes; they know which they are."""
  variables = local.environments(os.environ, count, 1, 1)
  source = f"import os, pathlib, sys, time\nfolder = pathlib.Path({folder!r})\n"
  source += f"index = os.environ[{distributed.PROCESS_ID!r}]\n{program}"
  return local.run([sys.executable, "-c", source], variables, grace_seconds)


def test_all_processes_run_and_the_code_is_the_runs(tmp_path):
  program = "(folder / index).touch()\nsys.exit(4 if index == '1' else 0)"
  assert _processes(str(tmp_path), program) == 4
  assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]


def test_a_failure_ends_processes_that_wait_for_it(tmp_path):
  start = time.monotonic()
  program = "sys.exit(4) if index == '1' else time.sleep(120)"
  code = _processes(str(tmp_path), program, grace_seconds=0.3)
  assert code in (4, -signal.SIGKILL)
  assert time.monotonic() - start < 60


def _stand_in(folder, name, body):
  path = folder / name
  path.write_text(f'#!/usr/bin/env bash\necho "$*" >> {folder}/log\n{body}\n')
  path.chmod(0o755)
  return str(path)


def _run_script(name, environment, *arguments):
  return subprocess.run(
    [LAUNCH / name, *arguments],
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )


def _tpu_vm(tmp_path, ssh, state="READY", **variables):
  """Runs tpu_vm.sh with a gcloud that logs; returns it and the log."""
  gcloud = _stand_in(
    tmp_path,
    "gcloud",
    f"runs=$(grep -c 'python -m' {tmp_path}/log)\n"
    f'case "$4" in\n'
    f"describe) {state} ;;\n"
    f'ssh) [[ "$*" == *install* ]] && exit 0\n{ssh} ;;\n'
    "esac",
  )
  done = _run_script(
    "tpu_vm.sh",
    {
      "GCLOUD": gcloud,
      "PAUSE_SECONDS": "0",
      "TPU_NAME": "slice",
      "ZONE": "z",
      "PROJECT": "p",
      "TYPE": "v5litepod-16",
      "VERSION": "v",
      **variables,
    },
    *("main", "--config=configs/a.py", "--workdir=a b"),
  )
  return done, (tmp_path / "log").read_text()


def test_tpu_vm_runs_again_after_preemption_only(tmp_path):
  ssh = "[[ $runs -lt 2 ]] && exit 75; exit 4"
  done, log = _tpu_vm(tmp_path, ssh, "echo READY")
  assert done.returncode == 4, done.stderr
  assert log.count("python -m forecasting.main") == 2
  assert r"--workdir=a\ b" in log and "--worker=all" in log
  assert f"{distributed.COORDINATOR}=auto" in log
  assert "create" not in log and "delete" not in log


def test_tpu_vm_makes_a_slice_anew_that_was_taken_away(tmp_path):
  state = (
    "if [[ $runs -eq 1 ]] && ! grep -q delete "
    f"{tmp_path}/log; then echo PREEMPTED; else echo READY; fi"
  )
  ssh = "[[ $runs -lt 2 ]] && exit 255; exit 0"
  done, log = _tpu_vm(tmp_path, ssh, state, SPOT="1")
  assert done.returncode == 0, done.stderr
  assert log.count("python -m forecasting.main") == 2
  lines = [line.split()[3] for line in log.splitlines() if "tpu-vm" in line]
  assert lines.index("delete") < lines.index("create")
  assert "--accelerator-type=v5litepod-16" in log and "--spot" in log


def test_tpu_vm_says_what_is_missing_and_gives_up(tmp_path):
  done = _run_script("tpu_vm.sh", {"TPU_NAME": "x", "ZONE": ""}, "main")
  assert done.returncode == 2 and "set ZONE" in done.stderr
  done, _ = _tpu_vm(tmp_path, "exit 75", "echo READY", MAX_RUNS="2")
  assert done.returncode == 75


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (3, False)])
def test_slurm_requeues_after_preemption_only(tmp_path, code, requeued):
  environment = {
    "SRUN": _stand_in(tmp_path, "srun", f"exit {code}"),
    "SCONTROL": _stand_in(tmp_path, "scontrol", ""),
    "SLURM_JOB_ID": "17",
    "PYTHON": "python",
    "VENV": "/none",
  }
  done = _run_script("slurm.sh", environment, "main", "--config=a b")
  assert done.returncode == code
  log = (tmp_path / "log").read_text()
  assert "python -m forecasting.main --config=a b" in log
  assert ("requeue 17" in log) == requeued


def test_slurm_kills_and_requeues_what_does_not_end_in_time(tmp_path):
  # As processes that extract latents and have nothing to save.
  deaf = "trap '' TERM; touch $(dirname $0)/started; exec sleep 120"
  environment = {
    "SRUN": _stand_in(tmp_path, "srun", deaf),
    "SCONTROL": _stand_in(tmp_path, "scontrol", ""),
    "SLURM_JOB_ID": "17",
    "GRACE_SECONDS": "0.2",
    "VENV": "/none",
  }
  job = subprocess.Popen(
    [LAUNCH / "slurm.sh", "extract"], env=os.environ | environment
  )
  while not (tmp_path / "started").exists():
    time.sleep(0.02)
  job.terminate()
  assert job.wait(60) == 128 + signal.SIGKILL
  assert "requeue 17" in (tmp_path / "log").read_text()


def test_binaries_end_as_preempted_outside_of_training(monkeypatch):
  codes = []
  monkeypatch.setattr(preemption.os, "_exit", codes.append)
  before = signal.getsignal(signal.SIGTERM)
  try:
    preemption.exit_when_terminated()
    os.kill(os.getpid(), signal.SIGTERM)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert codes == [local.PREEMPTED]


def test_gke_manifest_agrees_with_itself_and_with_the_binaries():
  text = (LAUNCH / "gke_jobset.yaml").read_text()
  spec = yaml.safe_load(text)["spec"]
  (job,) = spec["replicatedJobs"]
  job = job["template"]["spec"]
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  chips = container["resources"]["limits"]["google.com/tpu"]
  topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
  rows, columns = map(int, topology.split("x"))
  assert rows * columns == chips * job["parallelism"]
  assert job["completions"] == job["parallelism"]
  rule = job["podFailurePolicy"]["rules"][0]
  assert rule["onExitCodes"]["values"] == [local.PREEMPTED]
  assert rule["onExitCodes"]["containerName"] == container["name"]
  assert container["command"][:3] == ["python", "-m", "forecasting.main"]
  (config,) = re.findall(r"--config=(\S+)", " ".join(container["command"]))
  assert (LAUNCH.parent / config).is_file()
  variables = {item["name"]: item["value"] for item in container["env"]}
  assert distributed.settings(variables) == {}
