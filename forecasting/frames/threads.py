"""Several files of a data set at a time, with a progress bar."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(
  function: Callable[[Item], Result],
  items: Iterable[Item],
  workers: int,
  title: str,
  unit: str,
) -> list[Result]:
  """Maps in threads: reading and decoding leave the interpreter lock.

  Args:
    function: Of one item.
    items: What to map.
    workers: Items at a time, at least one.
    title: Of the progress bar.
    unit: What an item is, for the progress bar.

  Returns:
    The results in the order of the items.

  Raises:
    Whatever `function` raises first.
  """
  items = list(items)
  with ThreadPoolExecutor(max(1, workers)) as pool:
    results = pool.map(function, items)
    return list(tqdm(results, title, len(items), unit=unit, disable=None))
