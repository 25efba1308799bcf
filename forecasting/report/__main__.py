r"""Binary: result rows -> report.

python -m forecasting.report runs/quickstart
python -m forecasting.report runs/a runs/b --output=runs/a_and_b
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from forecasting.report import page

_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "Folder of the report; the run's own if there is one, else required.",
)


def main(argv: Sequence[str]) -> None:
  """Parses flags and writes the report."""
  workdirs = [Path(argument) for argument in argv[1:]]
  if not workdirs:
    raise app.UsageError("name one WORKDIR or several")
  if _OUTPUT.value is None and len(workdirs) > 1:
    raise app.UsageError("several runs need --output=FOLDER for their report")
  output = Path(_OUTPUT.value) if _OUTPUT.value else workdirs[0]
  print(f"report: {page.write_comparison(workdirs, output)}")


if __name__ == "__main__":
  app.run(main)
