"""Processor time of a simulated clip, by size and stage.

python tests/benchmarks/scenes.py [--clips 20] [--rays 1]
"""

import argparse
import statistics
import time
from collections import defaultdict

from forecasting.frames import mujoco_scenes
from forecasting.frames.clip import encode_clip
from forecasting.frames.scenes import labels, physics, shading

SIZES = (64, 128, 224)
STAGES = {
  "build": (physics, "build"),
  "physics": (physics, "simulate"),
  "camera rays": (shading, "look"),
  "shading": (shading, "shade"),
  "points": (labels, "pick_points"),
  "tracks": (labels, "track"),
  "boxes": (labels, "bound"),
}


def measure(size: int, rays: int, clips: int) -> dict[str, float]:
  """Median processor milliseconds per clip of every stage and in all."""
  config = mujoco_scenes.SceneConfig(size=size, rays=rays)
  mujoco_scenes.generate(config, 0, 0, 0)
  spent: dict[str, list[float]] = defaultdict(list)
  originals = {name: getattr(*place) for name, place in STAGES.items()}

  def timed(name):
    def run(*args, **kwargs):
      start = time.process_time()
      result = originals[name](*args, **kwargs)
      spent[name][-1] += 1e3 * (time.process_time() - start)
      return result

    return run

  for name, (module, function) in STAGES.items():
    setattr(module, function, timed(name))
  try:
    for index in range(clips):
      for name in STAGES:
        spent[name].append(0.0)
      start = time.process_time()
      clip = mujoco_scenes.generate(config, 0, 0, index)
      spent["total"].append(1e3 * (time.process_time() - start))
      start = time.process_time()
      encode_clip(clip)
      spent["encode"].append(1e3 * (time.process_time() - start))
  finally:
    for name, (module, function) in STAGES.items():
      setattr(module, function, originals[name])
  return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--clips", type=int, default=20)
  parser.add_argument("--rays", type=int, default=1)
  args = parser.parse_args()
  columns = {size: measure(size, args.rays, args.clips) for size in SIZES}
  print("CPU ms     " + "".join(f"{size:>9}" for size in SIZES))
  for name in columns[SIZES[0]]:
    row = "".join(f"{columns[size][name]:9.1f}" for size in SIZES)
    print(f"{name:<11}{row}")


if __name__ == "__main__":
  main()
