"""Every finding holds, fails or stays undecided where rows were made to."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from study_rows import CLIPS, MODELS, RANDOM, make_row, make_rows

from forecasting.report import (
  findings,
  groups,
  hypotheses,
  paper,
  study_csv,
  study_tables,
)
from forecasting.report.models import Model, Study
from forecasting.report.study_page import Comparison

CLAIMS = {
  "tracks": "Forecasting performance tracks",
  "video": "Video-trained",
  "synthesis": "Synthesis-trained",
  "language": "Language supervision",
  "frechet": "Diffusion beats regression on Fréchet",
  "best": "Diffusion beats regression on best-of-10",
  "dispersion": "Forecasts are under-dispersed",
  "pretraining": "Pretraining pays",
}
# In order of perception, as `study_rows.MODELS` has them.
NAMES = tuple(sorted(MODELS, key=MODELS.get))


def find(rows, name):
  found = hypotheses.all_findings(Study(rows))
  assert len(found) == len(CLAIMS)
  (finding,) = [f for f in found if f.claim.startswith(CLAIMS[name])]
  return finding


def is_random(row):
  return row["weights_digest"].startswith("random")


def put(row, name, quality, noise=0.01):
  """Gives a row this quality in a score, clip by clip."""
  rng = np.random.default_rng(sum(map(ord, row["backbone"])) + row["seed"])
  sign = 1.0 if row["higher_is_better"] else -1.0
  clips = 5.0 + sign * (quality + noise * rng.normal(size=CLIPS))
  row["clips"][name] = clips.tolist()
  row["scores"][name] = {"value": float(clips.mean())}
  return row


def of_best(qualities, noise=0.01):
  """Rows whose best-of-S has these qualities; else that of `MODELS`."""

  def change(row):
    quality = MODELS[row["backbone"]]
    quality = qualities.get(row["backbone"], quality)
    if is_random(row):
      quality = RANDOM[row["backbone"]]
    return put(row, "best", quality, noise)

  return make_rows(change=change)


def of_score(name, values):
  """Rows of diffusion with these scores, regression with 1."""

  def change(row):
    is_flow = row["forecaster"] == "flow"
    value = values[NAMES.index(row["backbone"])] if is_flow else 1.0
    row["scores"][name] = {"value": value}
    return row

  return make_rows(change=change)


def of_perception(value, noise=0.01):
  def change(row):
    quality = 0.5 if is_random(row) else value
    return put(row, "perception", quality, noise)

  return make_rows(change=change)


def of_regression(gain, noise=0.01):
  """Rows of regression that is worse by this than diffusion."""

  def change(row):
    is_flow = row["forecaster"] == "flow"
    return put(row, "best", 0.5 if is_flow else 0.5 - gain, noise)

  rng = np.random.default_rng(5)

  def shaken(row):
    row = change(row)
    if row["forecaster"] == "regression":
      clips = np.array(row["clips"]["best"])
      shift = rng.normal(size=CLIPS)
      clips += noise * (shift - shift.mean())
      row["clips"]["best"] = clips.tolist()
    return row

  return make_rows(change=shaken)


ORDER = {name: rank / 10 for rank, name in enumerate(NAMES)}
BACKWARDS = {name: 0.9 - rank / 10 for rank, name in enumerate(NAMES)}
# Without relation to perception.
MIXED = dict(zip(NAMES, (0.4, 0.1, 0.6, 0.2, 0.5, 0.3, 0.4), strict=True))
VIDEO = [n for n in NAMES if n not in ("dinov2_tiny", "siglip_tiny")]
MASKED = [n for n in VIDEO if n != "walt_tiny"]


def level(value, *names, other=0.5):
  return {name: value if name in names else other for name in NAMES}


CASES = {
  ("tracks", "held"): lambda: of_best(ORDER),
  ("tracks", "not held"): lambda: of_best(BACKWARDS),
  ("tracks", "undecided"): lambda: of_best(MIXED),
  ("video", "held"): lambda: of_best(level(0.8, *VIDEO)),
  ("video", "not held"): lambda: of_best(level(0.2, *VIDEO)),
  ("video", "undecided"): lambda: of_best(level(0.5), noise=0.5),
  # Pretraining gains 0.4 here: a match is at most 0.1 below.
  ("synthesis", "held"): lambda: of_best(level(0.45, "walt_tiny")),
  ("synthesis", "not held"): lambda: of_best(level(0.3, "walt_tiny")),
  ("synthesis", "undecided"): lambda: of_best(level(0.4, "walt_tiny"), 0.1),
  ("language", "held"): lambda: of_best(
    level(0.5, "siglip_tiny", "videoprism_tiny")
  ),
  ("language", "not held"): lambda: of_best(
    level(0.8, "siglip_tiny", "videoprism_tiny")
  ),
  # 0.15 above the others, which is a quarter of what pretraining gains.
  ("language", "undecided"): lambda: of_best(
    level(0.5 + 0.4 / 3, "siglip_tiny", "videoprism_tiny"), 0.1
  ),
  ("frechet", "held"): lambda: of_score(
    "fd_1", (0.5, 0.6, 0.7, 0.6, 0.5, 0.8, 0.7)
  ),
  ("frechet", "not held"): lambda: of_score(
    "fd_1", (1.5, 1.6, 1.7, 1.6, 1.5, 1.8, 1.7)
  ),
  ("frechet", "undecided"): lambda: of_score(
    "fd_1", (0.5, 1.6, 0.7, 1.6, 0.5, 1.8, 1.0)
  ),
  ("best", "held"): lambda: of_regression(0.1),
  ("best", "not held"): lambda: of_regression(-0.1),
  ("best", "undecided"): lambda: of_regression(0.0, noise=0.3),
  ("dispersion", "held"): lambda: of_score(
    "spread_skill", (0.5, 0.6, 0.7, 0.6, 0.5, 0.8, 0.7)
  ),
  ("dispersion", "not held"): lambda: of_score(
    "spread_skill", (1.5, 1.6, 1.7, 1.6, 1.5, 1.8, 1.7)
  ),
  ("dispersion", "undecided"): lambda: of_score(
    "spread_skill", (0.5, 1.6, 0.7, 1.6, 0.5, 1.8, 1.0)
  ),
  ("pretraining", "held"): lambda: of_perception(0.8),
  ("pretraining", "not held"): lambda: of_perception(0.2),
  ("pretraining", "undecided"): lambda: of_perception(0.5, noise=0.5),
}


@pytest.mark.parametrize(("name", "verdict"), CASES)
def test_verdicts_with_their_statistic(name, verdict):
  finding = find(CASES[name, verdict](), name)
  assert finding.verdict == verdict, finding.statistics
  assert len(finding.known) >= 2
  for statistic in finding.known:
    assert statistic.low <= statistic.value <= statistic.high
    assert statistic.number in str(statistic)
    assert statistic.verdict in str(statistic)


def test_one_model_against_is_named_and_does_not_undo_the_finding():
  """What 79 of 80 numbers say is no longer undecided by the last one."""
  finding = find(
    of_score("fd_1", (0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 1.1)), "frechet"
  )
  assert finding.verdict == "held"
  assert [s.what for s in finding.statistics] == ["pixels", "depth"]
  for statistic in finding.statistics:
    assert [model.backbone for model in statistic.against] == [NAMES[-1]]
    assert f"6 of 7 models in favor; against: {NAMES[-1]}" in str(statistic)


def test_frechet_statistic_is_the_mean_log_ratio():
  values = (0.5, 0.6, 0.7, 0.6, 0.5, 0.8, 0.7)
  statistic = find(of_score("fd_1", values), "frechet").statistics[0]
  logs = -np.log(values)
  assert statistic.value == pytest.approx(100 * np.expm1(logs.mean()))
  half = 2.4469 * logs.std(ddof=1) / np.sqrt(7)  # Student's t of 6 degrees
  ends = (logs.mean() - half, logs.mean() + half)
  assert (statistic.low, statistic.high) == pytest.approx(
    tuple(100 * np.expm1(ends)), rel=1e-3
  )


def test_margin_is_a_share_of_what_pretraining_gains():
  """0.8 dB of 20 are 4 %: the old margin of 5 % called anything a match."""
  rows = of_best(level(0.3, "walt_tiny"))
  study = Study(rows)
  gain = hypotheses.gain_of_pretraining(study, "pixels")
  assert gain == pytest.approx(0.4, abs=0.02)
  for row in rows:
    if row["task"] == "pixels":
      row["clips"]["best"] = [x + 15 for x in row["clips"]["best"]]
      row["scores"]["best"]["value"] += 15
  statistic = find(rows, "synthesis").statistics[0]
  assert statistic.value == pytest.approx(-0.5, abs=0.05)
  assert statistic.verdict == "not held"


def test_no_reference_leaves_a_match_undecided():
  rows = [
    row for row in of_best(level(0.45, "walt_tiny")) if not is_random(row)
  ]
  for name in ("synthesis", "language"):
    finding = find(rows, name)
    assert finding.verdict == "undecided"
    assert "no reference that pretraining improves on" in str(
      finding.statistics[0]
    )
  # Raw patches are one where no model has random weights.
  raw = [
    put(row | {"backbone": "raw_tiny", "clips": {}, "scores": {}}, "best", 0.1)
    for row in rows
    if row["backbone"] == "4ds_tiny"
  ]
  assert find([*rows, *raw], "synthesis").verdict == "held"
  # Nor is one that pretrained models are below.
  good = [put(row, "best", 2.0) for row in raw]
  assert find([*rows, *good], "synthesis").verdict == "undecided"


def test_groups_are_those_of_table_1():
  letters = {
    backbone: "".join(
      sorted(groups.signals(Model(backbone, "pretrained", "flow")))
    )
    for backbone in (*NAMES, "next_vid_tiny", "videomaev2_g", "4ds_h")
  }
  assert letters == {
    "dinov2_tiny": "I",
    "siglip_tiny": "IL",
    "videoprism_tiny": "LMV",
    "vjepa_tiny": "MV",
    "videomae_tiny": "MV",
    "videomaev2_g": "MV",
    "4ds_tiny": "MV",
    "4ds_h": "MV",
    "walt_tiny": "LSV",
    "next_vid_tiny": "MV",
  }
  assert not groups.signals(Model("4ds_tiny", "random", "flow"))
  assert len(paper.read_paper()["table1"]) == 9


def test_compared_groups_do_not_overlap():
  study = Study(make_rows())
  named = lambda models: {model.backbone for model in models}  # noqa: E731
  assert named(groups.members(study, "M", without="S")) == set(MASKED)
  assert named(groups.members(study, "L")) == {
    *("siglip_tiny", "videoprism_tiny", "walt_tiny")
  }
  pairs = {
    (*sorted(named(a)), "|", *sorted(named(b)))
    for a, b in groups.by_language(study)
  }
  assert pairs == {
    ("siglip_tiny", "|", "dinov2_tiny"),
    ("videoprism_tiny", "|", "4ds_tiny", "videomae_tiny", "vjepa_tiny"),
  }
  test = find(study.rows, "language").test
  assert "nothing differs from walt_tiny in language alone" in test


def with_references(random=("4ds_tiny", "dinov2_tiny")):
  """Rows with random networks of these backbones, and raw patches."""
  rng = np.random.default_rng(1)
  rows = [row for row in make_rows(tasks=("pixels",)) if not is_random(row)]
  quality = {"4ds_tiny": 0.1, "dinov2_tiny": 0.5}
  for seed in (0, 1):
    for backbone in random:
      rows.append(
        make_row(
          "pixels", backbone, quality[backbone], seed, rng, "flow", "random-0"
        )
      )
    rows.append(make_row("pixels", "raw_tiny", 2, seed, rng, "flow", "none"))
  return rows


def test_perception_stands_beside_the_same_network_with_random_weights():
  same, other, raw = find(with_references(), "pretraining").statistics
  assert "the same network: 4ds_tiny (random weights), dinov2_tiny" in same.what
  # 4ds is far above its own, dinov2 below: not each above the first one.
  assert [m.backbone for m in same.models] == ["4ds_tiny", "dinov2_tiny"]
  assert [m.backbone for m in same.against] == ["dinov2_tiny"]
  # The others have no random weights of their own: the best there is.
  assert "other architecture: dinov2_tiny (random weights)" in other.what
  assert [m.backbone for m in other.against] == ["siglip_tiny"]
  # Raw patches see everything; they do not decide the finding.
  assert "raw_tiny" in raw.what and raw.is_reference
  assert raw.value < 0 and len(raw.against) == 7
  finding = find(with_references(), "pretraining")
  assert finding.verdict == "held" and raw not in finding.known


def test_readouts_alone_are_a_reference_of_perception():
  rows = with_references(random=("4ds_tiny",))
  rng = np.random.default_rng(2)
  for seed in (0, 1):
    for backbone, digest in (("siglip_tiny", "random-0"), ("4ds_tiny", "abc")):
      row = make_row("pixels", backbone, 0.2, seed, rng, "flow", digest)
      rows.append({**row, "forecaster": "oracle_future"})
  same, other, _ = find(rows, "pretraining").statistics
  assert [m.label for m in same.models] == ["4ds_tiny", "siglip_tiny"]
  assert "siglip_tiny (random weights)" in same.what
  assert "siglip_tiny (random weights)" in other.what  # the best there is
  table = study_tables.per_example_table(Comparison(rows).study, "pixels")
  (line,) = [ln for ln in table.lines if ln.label.startswith("siglip_tiny (ra")]
  assert [cell.text for cell in line.cells[:3]] == ["–"] * 3
  assert float(line.cells[3].text) == pytest.approx(20.2, abs=0.05)
  text = study_csv.tables_csv(Comparison(rows).study)
  found = [ln for ln in text.splitlines() if ",random,oracle_future," in ln]
  assert len(found) == 1 and "6,pixels,siglip_tiny" in found[0]
  # The oracle of pretrained weights is no model of its own.
  assert [ln.label for ln in table.lines].count("4ds_tiny") == 1


def test_findings_are_lines_above_their_tasks():
  comparison = Comparison(with_references())
  table = study_tables.findings_table(comparison.findings)
  kinds = [line.kind for line in table.lines]
  assert kinds.count("finding") == len(CLAIMS) and kinds[0] == "finding"
  labels = [line.label for line in table.lines]
  place = labels.index("Diffusion beats regression on best-of-10.")
  assert labels[place + 1] == "· pixels"
  assert "models in favor" in table.lines[place + 1].cells[2].text
  for line in table.lines:
    verdicts = {findings.HELD, findings.NOT_HELD, findings.UNDECIDED}
    is_raw = "raw_tiny" in line.label
    assert line.cells[0].text in ({"–"} if is_raw else verdicts)


def test_findings_csv_has_every_statistic_and_finding():
  found = hypotheses.all_findings(Study(with_references()))
  empty = dataclasses.replace(found[0], claim="nothing", statistics=())
  lines = list(
    csv.DictReader(io.StringIO(study_csv.findings_csv([*found, empty])))
  )
  assert {line["finding"] for line in lines} == {
    *(finding.claim for finding in found),
    "nothing",
  }
  for finding in found:
    mine = [line for line in lines if line["finding"] == finding.claim]
    for statistic, line in zip(finding.statistics, mine, strict=False):
      assert line["what"] == statistic.what
      assert line["verdict"] == finding.verdict
      assert line["against"].count("tiny") == len(statistic.against)
      assert float(line["low"]) == pytest.approx(statistic.low, nan_ok=True)
