"""Work folders -> one self-contained page, and the tables as files."""

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from forecasting.report import (
  columns,
  figures,
  header,
  leads,
  markup,
  missing_variance,
  paper,
  qualitative,
  settings_tables,
  study_page,
  tables,
)
from forecasting.report.results import Row
from forecasting.report.runs import Run, read_run
from forecasting.report.stylesheet import CSS

MANY = 4  # runs; of more, one seed of each is shown in full


def write_report(workdir: Path) -> Path:
  """Writes the report of one run into its folder.

  Args:
    workdir: with `results.jsonl` and, if there are any, `metrics.jsonl`,
      `panels/*.npz`, `config.json` and `calibration.json`.

  Returns:
    Path of `report.html`; `results.md`, `.csv` and `.tex` lie beside it, and
    `per_frame.csv`.

  Raises:
    FileNotFoundError: there are no result rows.
    ValueError: a file cannot be understood; names it.
  """
  return write_comparison([workdir], workdir)


def write_comparison(
  workdirs: Sequence[Path], output: Path, notes: Sequence[str] = ()
) -> Path:
  """Writes one report of several runs.

  Args:
    workdirs: of the runs.
    output: folder of the report.
    notes: what to say first, such as which runs are not in it.

  Returns:
    Path of `report.html`.
  """
  runs = [read_run(Path(workdir)) for workdir in workdirs]
  rows = [row for run in runs for row in run.rows]
  output.mkdir(parents=True, exist_ok=True)
  shown = tables.all_tables(rows) + leads.all_tables(rows)
  shown += _variance_tables(runs)
  comparison = None
  if study_page.is_study(rows):
    comparison = study_page.Comparison(rows)
    shown = comparison.tables + shown
    for name, text in comparison.files().items():
      _write(output / name, text)
  if settings_tables.is_settings(rows):
    shown = settings_tables.settings_tables(rows) + shown
  told = [f"> {note}\n".replace("\n  ", "\n>     ") for note in notes]
  texts = [*told, *map(markup.to_markdown, shown)]
  _write(output / "results.md", "\n".join(texts))
  _write(output / "results.tex", "\n".join(map(markup.to_latex, shown)))
  _write(output / "results.csv", markup.to_csv(rows))
  _write(output / "per_frame.csv", leads.to_csv(rows))
  path = output / "report.html"
  _write(path, page(runs, comparison, notes))
  return path


def page(
  runs: Sequence[Run],
  comparison: study_page.Comparison | None = None,
  notes: Sequence[str] = (),
) -> str:
  """Returns the text of the page.

  Args:
    runs: shown ones.
    comparison: of their backbones, if there are several.
    notes: what to say first.
  """
  rows = [row for run in runs for row in run.rows]
  names = list(dict.fromkeys(row["name"] for row in rows))
  what = ", ".join(names)
  if len(names) > MANY:
    what = f"{len(names)} models in {len(runs)} runs"
  title = f"Forecasting with frozen video models: {what}"
  study = _study(rows, comparison) + _settings(rows)
  # Those of every seed count in the comparisons.
  broken = header.broken_forecasts(runs)
  runs = _one_seed(runs)
  rows = [row for run in runs for row in run.rows]
  sections = [
    *study,
    ("results", "Results", _results(rows)),
    ("frames", "Scores by frame", _frames(rows)),
    ("calibration", "Calibration and known futures", _calibration(runs)),
    ("curves", "Training curves", _curves(runs)),
    ("clips", "Forecasts of single clips", _clips(runs)),
    ("paper", "The paper's numbers", _paper(rows, bool(study))),
  ]
  links = "".join(f'<a href="#{id_}">{name}</a>' for id_, name, _ in sections)
  body = "".join(
    f'<section id="{id_}"><h2>{name}</h2>{text}</section>'
    for id_, name, text in sections
  )
  told = "".join(
    f'<p class="warning" role="note">{html.escape(note)}</p>' for note in notes
  ).replace("\n", "<br>")
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{html.escape(title)}</title><style>{CSS}</style></head><body>"
    f"<h1>{html.escape(title)}</h1><nav>{links}</nav>"
    f"{told}{broken}{header.header(runs)}{body}</body></html>\n"
  )


def _one_seed(runs: Sequence[Run]) -> list[Run]:
  """Returns all runs, or of many those with the smallest seed of each name."""
  if len(runs) <= MANY:
    return list(runs)
  chosen: dict[str, Run] = {}
  for run in sorted(runs, key=lambda run: run.rows[0]["seed"]):
    chosen.setdefault(run.rows[0]["name"], run)
  return list(chosen.values())


def _study(
  rows: Sequence[Row], comparison: study_page.Comparison | None
) -> list[tuple[str, str, str]]:
  """Returns the section that compares backbones, if there are several."""
  if comparison is None:
    return []
  text = study_page.to_html(comparison)
  if len({(row["name"], row["seed"]) for row in rows}) > MANY:
    text += (
      "<p>The sections below show one seed of each model; results.csv has"
      " every row.</p>"
    )
  return [("study", "Across backbones", text)]


def _settings(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
  """Returns the section that compares settings, if there are several."""
  if not settings_tables.is_settings(rows):
    return []
  drawn = map(markup.to_html, settings_tables.settings_tables(rows))
  return [("settings", "Across settings", "".join(drawn))]


def _results(rows: Sequence[Row]) -> str:
  parts = [header.HOW_TO_READ]
  for task, chosen in _by_task(rows):
    metric = columns.METRIC_NAMES.get(chosen[0]["metric"], chosen[0]["metric"])
    frames = chosen[0].get("frames", "after the context")
    parts.append(
      f"<div><h3>{html.escape(task.capitalize())}</h3>"
      f"<p>Metric: {html.escape(metric)}, frames {html.escape(frames)}.</p>"
    )
    table = markup.to_html(tables.task_table(chosen), caption=False)
    parts.append(f"{table}</div>")
  return "".join(parts)


def _frames(rows: Sequence[Row]) -> str:
  drawn = leads.drawn(rows)
  longer = leads.horizon_tables(rows)
  if not drawn and not longer:
    return "<p>These rows have no scores of single frames.</p>"
  parts = [header.ABOUT_LEADS, *map(markup.figure_to_html, drawn)]
  if longer:
    parts += [header.ABOUT_HORIZON, *map(markup.to_html, longer)]
  return "".join(parts)


def _variance_tables(runs: Sequence[Run]) -> list[tables.Table]:
  """Returns the diagnoses of missing variance, and what ensembles say."""
  found = [
    missing_variance.table(run.calibration, run.name if len(runs) > 1 else "")
    for run in runs
  ]
  rows = [row for run in runs for row in run.rows]
  found.append(missing_variance.ensemble_table(rows))
  return [table for table in found if table is not None]


def _calibration(runs: Sequence[Run]) -> str:
  rows = [row for run in runs for row in run.rows]
  parts = [header.ABOUT_CALIBRATION]
  known = [tables.futures_table(chosen) for _, chosen in _by_task(rows)]
  known = [table for table in known if table is not None]
  if known:
    parts.append(header.ABOUT_FUTURES)
    parts += [markup.to_html(table) for table in known]
  else:
    parts.append(
      "<p>This evaluation has no context with several known futures, so "
      "forecasts cannot be held against the true conditional distribution.</p>"
    )
  dressed = [tables.dressed_table(chosen) for _, chosen in _by_task(rows)]
  dressed = [table for table in dressed if table is not None]
  if dressed:
    parts += [header.ABOUT_DRESSED, *map(markup.to_html, dressed)]
  drawn = figures.calibration(rows)
  parts += [markup.figure_to_html(figure) for figure in drawn]
  if not drawn:
    parts.append("<p>No forecaster drew two samples or more: no figure.</p>")
  parts += map(markup.to_html, _variance_tables(runs))
  return "".join(parts)


def _curves(runs: Sequence[Run]) -> str:
  drawn = [figures.curves(run.metrics, run.name) for run in runs]
  drawn = [figure for figure in drawn if figure is not None]
  if not drawn:
    return "<p>There is no record of training (metrics.jsonl).</p>"
  return "".join(markup.figure_to_html(figure) for figure in drawn)


def _clips(runs: Sequence[Run]) -> str:
  parts = []
  for run in runs:
    for task, path in run.panels.items():
      kinds = {
        row["forecaster"]: row.get("kind", "")
        for row in run.rows
        if row["task"] == task
      }
      label = task.capitalize()
      label += f" · {run.name}" if len(runs) > 1 else ""
      parts.append(f"<h3>{html.escape(label)}</h3>")
      parts += [
        qualitative.to_html(block) for block in qualitative.blocks(path, kinds)
      ]
  if not parts:
    return "<p>No clips were kept (panels/*.npz).</p>"
  return (
    header.ABOUT_CLIPS + '<input type="checkbox" id="still" class="toggle">'
    '<label for="still" class="toggle"> still frames instead of animation'
    f'</label><div class="panels">{"".join(parts)}</div>'
  )


def _paper(rows: Sequence[Row], has_study: bool) -> str:
  backbones = list(dict.fromkeys(row["backbone"] for row in rows))
  parts, strange = [], []
  for backbone in backbones:
    if paper.paper_name(backbone) is None:
      strange.append(f"<b>{html.escape(backbone)}</b>")
      continue
    mine = [row for row in rows if row["backbone"] == backbone]
    found = [paper.paper_table(chosen) for _, chosen in _by_task(mine)]
    parts += [markup.to_html(table) for table in found if table is not None]
  if strange:
    parts.append(
      f"<p>The paper has no row for {', '.join(strange)}: absolute values here "
      "cannot be compared with it. What can be compared is the order of "
      "forecasters and how far sampling moves each score.</p>"
    )
  if has_study or len(strange) < len(backbones):
    notes = paper.read_paper()["known_inconsistencies"]
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    parts.append(
      "<p>Absolute values depend on the evaluation clips, which the paper does "
      "not list. Known inconsistencies of the printed numbers:</p>"
      f'<ul class="notes">{items}</ul>'
    )
  return "".join(parts)


def _by_task(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
  for task in columns.order_tasks(rows):
    yield task, [row for row in rows if row["task"] == task]


def _write(path: Path, text: str) -> None:
  """Writes through a rename, so that a killed run leaves the old file whole."""
  # Several processes may report on one study.
  partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  try:
    with open(partial, "w", encoding="utf-8") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    partial.rename(path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise
