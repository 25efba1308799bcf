"""How the tests compile: most of their time would be XLA's otherwise.

Programs that run for milliseconds need no optimization, and XLA's older
emitters, which write one module of code, take half as long as its own choice.
Whoever sets XLA_FLAGS, to nothing even, tests what those flags give.
"""

import os

FLAGS = (
  "--xla_backend_optimization_level=0"
  " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
  " --xla_cpu_parallel_codegen_split_count=1"
)


def environment(num_devices=1, **variables):
  """Returns the variables of a process that sees so many CPU devices."""
  flags = os.environ.get("XLA_FLAGS", FLAGS)
  if num_devices > 1:
    flags += f" --xla_force_host_platform_device_count={num_devices}"
  return os.environ | {
    "XLA_FLAGS": flags,
    "JAX_PLATFORMS": "cpu",
    **variables,
  }
