"""Tables -> HTML, Markdown and LaTeX; rows -> CSV.

A `Table` holds text ready to show; the writers only differ in markup. CSV has
the numbers behind it, unrounded.
"""

import base64
import csv
import html
import io
import unicodedata
from collections.abc import Sequence

from forecasting.report import columns as cols
from forecasting.report import tables
from forecasting.report.figures import Figure
from forecasting.report.results import Row
from forecasting.report.tables import Cell, Heading, Table


def to_html(table: Table, caption: bool = True) -> str:
  """Returns a `<table>` with its footnotes.

  Args:
    table: to write.
    caption: whether to show its title; otherwise only screen readers get it.
  """
  heads = "".join(_html_heading(heading) for heading in table.headings)
  body, previous = [], ""
  for line in table.lines:
    rule = " first" if previous and line.kind != previous else ""
    previous = line.kind
    cells = "".join(_html_cell(cell) for cell in line.cells)
    label = html.escape(line.label)
    name, bracket, samples = label.partition(" [S=")
    if bracket:
      label = f"{name}<small>S = {samples.rstrip(']')} · {line.kind}</small>"
    body.append(
      f'<tr class="{html.escape(line.kind)}{rule}">'
      f'<th scope="row">{label}</th>{cells}</tr>'
    )
  notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.footnotes)
  notes = f'<ul class="notes">{notes}</ul>' if notes else ""
  title = html.escape(table.title)
  shown = f"<caption>{title}</caption>" if caption else ""
  return (
    f'<div class="scroll"><table aria-label="{title}">{shown}'
    f'<thead><tr><th scope="col">{table.first}</th>{heads}</tr></thead>'
    f"<tbody>{''.join(body)}</tbody></table></div>{notes}"
  )


def _html_heading(heading: Heading) -> str:
  *words, last = heading.label.split(" ")
  arrow = (
    f' <span class="arrow">{heading.arrow}</span>' if heading.arrow else ""
  )
  # A lone arrow stays with the last word; "→truth" may have its own line.
  last = html.escape(last) + arrow
  if len(heading.arrow) == 1:
    last = f'<span class="keep">{last}</span>'
  unit = f"<small>{html.escape(heading.unit)}</small>" if heading.unit else ""
  label = " ".join([*map(html.escape, words), last])
  return f'<th scope="col">{label}{unit}</th>'


def _html_cell(cell: Cell) -> str:
  text = html.escape(cell.text)
  if cell.is_best:
    text = f"<b>{text}</b>"
  if cell.flag:
    text += f"<sup>{cell.flag}</sup>"
  note = f"<small>{html.escape(cell.note)}</small>" if cell.note else ""
  title = f' title="{html.escape(cell.reason)}"' if cell.reason else ""
  return f"<td{title}>{text}{note}</td>"


def figure_to_html(figure: Figure) -> str:
  """Returns a `<figure>` with its words."""
  encoded = base64.b64encode(figure.svg.encode()).decode()
  source = f"data:image/svg+xml;base64,{encoded}"
  return (
    f'<figure><img src="{source}" width="{figure.width}" '
    f'alt="{html.escape(figure.alt)}">'
    f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>"
  )


def to_markdown(table: Table) -> str:
  """Returns a Markdown table with its footnotes."""
  heads = [
    " ".join(part for part in (h.label, h.arrow, _bracket(h.unit)) if part)
    for h in table.headings
  ]
  lines = [
    f"### {table.title}",
    "",
    f"| {table.first} | " + " | ".join(heads) + " |",
    "| :-- |" + " --: |" * len(heads),
  ]
  for line in table.lines:
    cells = [_markdown_cell(cell) for cell in line.cells]
    lines.append(f"| {line.label} | " + " | ".join(cells) + " |")
  lines += ["", *(f"- {note}" for note in table.footnotes), ""]
  return "\n".join(lines)


def _markdown_cell(cell: Cell) -> str:
  text = f"**{cell.text}**" if cell.is_best else cell.text
  return " ".join(part for part in (text + cell.flag, cell.note) if part)


def _bracket(text: str) -> str:
  return f"({text})" if text else ""


_LATEX = {
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "&": r"\&",
  "%": r"\%",
  "_": r"\_",
  "#": r"\#",
  "$": r"\$",
  "{": r"\{",
  "}": r"\}",
  "<": "$<$",
  ">": "$>$",
  "|": "$|$",
  "↑": r"$\uparrow$",
  "↓": r"$\downarrow$",
  "→": r"$\to$ ",
  "×": r"$\times$",
  "±": r"$\pm$",
  "≤": r"$\leq$",
  "≥": r"$\geq$",
  "≈": r"$\approx$",
  "−": "$-$",
  "∞": r"$\infty$",
  "†": r"$^\dagger$",
  "–": "--",
  "—": "---",
  "…": r"\dots{}",
  "·": r"$\cdot$",
  "°": r"$^\circ$",
  "δ": r"$\delta$",
  "Δ": r"$\Delta$",
  "µ": r"$\mu$",
  "μ": r"$\mu$",
  "σ": r"$\sigma$",
  "⁻": r"$^{-}$",
  "‘": "`",
  "’": "'",
  "“": "``",
  "”": "''",
  "\u00a0": "~",
}
_LATEX |= {c: rf"$^{n}$" for n, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_LATEX |= {c: rf"$_{n}$" for n, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
# Marks that Unicode puts behind a letter and LaTeX before it.
_ACCENTS = {
  "\u0300": "`",
  "\u0301": "'",
  "\u0302": "^",
  "\u0303": "~",
  "\u0308": '"',
  "\u030a": "r",
  "\u030c": "v",
  "\u0327": "c",
}


def latex_text(text: str) -> str:
  """Returns text in ASCII with what LaTeX would trip over replaced.

  Characters without a replacement become their number, as in [U+4E2D]: names
  of runs may have any.
  """
  return "".join(map(_latex_character, text))


def _latex_character(character: str) -> str:
  if character in _LATEX:
    return _LATEX[character]
  if character.isascii():
    return character
  letter, *marks = unicodedata.normalize("NFD", character)
  if letter.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
    return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"
  return f"[U+{ord(character):04X}]"


def to_latex(table: Table) -> str:
  """Returns a booktabs `table`; intervals stand below values."""
  heads = [
    " ".join(part for part in (h.label, h.arrow, _bracket(h.unit)) if part)
    for h in table.headings
  ]
  rows = []
  for line in table.lines:
    cells = [_latex_cell(cell) for cell in line.cells]
    rows.append(" & ".join([latex_text(line.label), *cells]) + r" \\")
  notes = "; ".join(table.footnotes)
  return "\n".join(
    [
      r"\begin{table}",
      r"\centering\tiny",
      rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
      r"\toprule",
      " & ".join(map(latex_text, [table.first, *heads])) + r" \\",
      r"\midrule",
      *rows,
      r"\bottomrule",
      r"\end{tabular}",
      rf"\caption{{{latex_text(table.title)}. {latex_text(notes)}}}",
      r"\end{table}",
      "",
    ]
  )


def _latex_cell(cell: Cell) -> str:
  text = latex_text(cell.text)
  text = rf"\textbf{{{text}}}" if cell.is_best else text
  text += latex_text(cell.flag)
  if not cell.note:
    return text
  # The braces keep a bracket that follows from being read as a distance.
  return rf"\shortstack[r]{{{text}\\{{}}{latex_text(cell.note)}}}"


def to_csv(rows: Sequence[Row]) -> str:
  """Returns every score of every row, unrounded, one line per row."""
  ordered = [
    row
    for task in cols.order_tasks(rows)
    for row in cols.order_rows(r for r in rows if r["task"] == task)
  ]
  fixed = ("name", "backbone", "seed", "task", "forecaster", "kind", "metric")
  fixed += ("num_samples", "num_examples", "num_excluded", "num_nonfinite")
  fixed += ("num_rows",)
  fixed += ("rank_deficient", "calls_per_sample", "context_mode")
  entries = [_flat_scores(row) for row in ordered]
  names = dict.fromkeys(name for entry in entries for name in entry)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow([*fixed, *names])
  for row, entry in zip(ordered, entries):
    writer.writerow(
      [*(row.get(f) for f in fixed), *(entry.get(name) for name in names)]
    )
  return text.getvalue()


def _flat_scores(row: Row) -> dict[str, float | None]:
  sources = {"": row["scores"]}
  if row.get("futures"):
    sources["futures_"] = tables.futures_scores(row)
  if row.get("dressed"):
    sources["dressed_"] = row["dressed"]["scores"]
  if row.get("horizon"):
    sources["horizon_"] = row["horizon"]["scores"]
  ends = {"value": "", "low": "_low", "high": "_high"}
  return {
    f"{prefix}{name}{end}": entry.get(part)
    for prefix, scores in sources.items()
    for name, entry in scores.items()
    for part, end in ends.items()
    if part in entry
  }
