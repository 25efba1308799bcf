r"""Runs a binary as N processes on this machine, as a cluster runs it.

python launch/local_processes.py --num_processes=2 -- \
  main --config=configs/quickstart.py:smoke --workdir=runs/two

Each process has --devices CPU devices; they meet through jax.distributed and
gloo, the code path of several hosts. A SIGTERM is passed on to all. The exit
code is that of the first process that failed, 75 before others: run the same
command again. When one fails the others are ended.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

PREEMPTED = os.EX_TEMPFAIL  # 75, as in forecasting.training
GRACE_SECONDS = 30.0


def free_port() -> int:
  """Returns a port that nobody listens on at the moment."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def environments(
  base: Mapping[str, str], num_processes: int, devices: int, port: int
) -> list[dict[str, str]]:
  """Returns the variables of every process.

  Args:
    base: variables that all get.
    num_processes: how many.
    devices: CPU devices of each.
    port: of the first.
  """
  flags = base.get("XLA_FLAGS", "")
  count = f"--xla_force_host_platform_device_count={devices}"
  shared = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{flags} {count}".strip(),
    "FORECASTING_COORDINATOR": f"localhost:{port}",
    "FORECASTING_NUM_PROCESSES": str(num_processes),
  }
  return [
    {**base, **shared, "FORECASTING_PROCESS_ID": str(index)}
    for index in range(num_processes)
  ]


def exit_code(codes: Sequence[int]) -> int:
  """Returns the code of a whole run: pre-emption before any other failure."""
  failures = [code for code in codes if code]
  return PREEMPTED if PREEMPTED in failures else next(iter(failures), 0)


def run(
  command: Sequence[str],
  variables: Sequence[dict[str, str]],
  grace_seconds: float = GRACE_SECONDS,
) -> int:
  """Runs a command once per set of variables, all at the same time.

  Args:
    command: of every process.
    variables: of each process.
    grace_seconds: that the others have to end by themselves when one failed.

  Returns:
    The exit code, see `exit_code`.
  """
  processes: list[subprocess.Popen] = []

  def stop(*_):
    for process in processes:
      process.terminate()

  previous = signal.signal(signal.SIGTERM, stop)
  try:
    for environment in variables:
      processes.append(subprocess.Popen(command, env=environment))
    while any(process.poll() is None for process in processes):
      if any(process.poll() for process in processes):
        _end(processes, grace_seconds)
      time.sleep(0.05)
  finally:
    _end(processes, grace_seconds)
    signal.signal(signal.SIGTERM, previous)
  return exit_code([process.returncode for process in processes])


def _end(processes: Sequence[subprocess.Popen], seconds: float) -> None:
  """Gives processes time to end by themselves, then ends them."""
  deadline = time.monotonic() + seconds
  for process in processes:
    try:
      process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def main(argv: Sequence[str]) -> int:
  """Parses the arguments and runs."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--num_processes", type=int, default=2)
  parser.add_argument("--devices", type=int, default=1, help="of each process")
  parser.add_argument(
    "--grace_seconds",
    type=float,
    default=GRACE_SECONDS,
    help="for the others to end by themselves when one failed",
  )
  parser.add_argument("binary", help="module of the package, such as main")
  parser.add_argument("rest", nargs=argparse.REMAINDER, help="its flags")
  arguments = parser.parse_args(argv)
  if min(arguments.num_processes, arguments.devices) < 1:
    parser.error("--num_processes and --devices must be at least 1")
  command = [sys.executable, "-m", f"forecasting.{arguments.binary}"]
  variables = environments(
    os.environ, arguments.num_processes, arguments.devices, free_port()
  )
  command += arguments.rest
  return run(command, variables, arguments.grace_seconds)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
