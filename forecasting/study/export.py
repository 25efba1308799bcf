r"""Binary: of a study's finished cells, what their report needs.

python -m forecasting.study.export runs/study_tiny FOLDER

A tenth of a megabyte a cell: its rows, its config and the mark that it is done.
`python -m forecasting.report FOLDER/cells/* --output=REPORT` draws the tables
and figures again, beside runs of your own; in a copy of the folder as its
--workdir, the study skips these cells and runs the others.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import app

from forecasting import same_run
from forecasting.latents.manifest import write_atomically
from forecasting.report import results
from forecasting.study.queue import DONE, has_finished

_WITH_PLACES = (same_run.CONFIG, DONE)  # The mark comes last.


def export(workdir: Path, folder: Path) -> list[str]:
  """Copies what a report needs of every finished cell.

  Args:
    workdir: of the study. Where it lies does not show in what is copied: there
      it is `runs/<name>`.
    folder: gets `cells/<cell>/`; cells that it has are replaced.

  Returns:
    Names of the cells.

  Raises:
    FileNotFoundError: no cell is finished, or one has lost a file.
    ValueError: the rows of a cell cannot be read; names file and line.
  """
  cells = sorted(filter(has_finished, (workdir / "cells").glob("*")))
  if not cells:
    raise FileNotFoundError(
      f"{workdir} has no finished cell: expected the --workdir of"
      " forecasting.study, with cells/<cell>/" + DONE
    )
  for cell in cells:
    results.read_rows(cell / results.FILE)  # Nothing half-written.
    target = folder / "cells" / cell.name
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / results.FILE, (cell / results.FILE).read_bytes())
    for name in _WITH_PLACES:
      text = (cell / name).read_text()
      for place in (str(workdir.resolve()), str(workdir)):
        text = text.replace(place, f"runs/{workdir.resolve().name}")
      fields = json.loads(text)
      if "command" in fields:
        fields["command"][0] = "python"
      text = json.dumps(fields, indent=1) + "\n"
      write_atomically(target / name, text.encode())
  return [cell.name for cell in cells]


def main(argv: Sequence[str]) -> None:
  """Exports and says what."""
  if len(argv) != 3:
    raise app.UsageError("expected the study's WORKDIR and a FOLDER")
  cells = export(Path(argv[1]), Path(argv[2]))
  print(f"{len(cells)} cells in {argv[2]}: {', '.join(cells)}")


if __name__ == "__main__":
  app.run(main)
