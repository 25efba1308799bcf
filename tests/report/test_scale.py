"""Notes on scale are true of the rows that they stand below."""

import pytest
from study_rows import make_rows

from forecasting import presets
from forecasting.report import scale, study_page, study_tables
from forecasting.report.models import Study

# Names of the full-size models that the paper has.
FULL = {
  "4ds_tiny": "4ds_e",
  "videomae_tiny": "videomae_h",
  "vjepa_tiny": "vjepa_l",
  "walt_tiny": "walt_419m",
  "videoprism_tiny": "videoprism_g",
  "dinov2_tiny": "dinov2_l",
  "siglip_tiny": "siglip_g_opt",
}


def rows_of(backbones=None, data="simulated", steps=500):
  def change(row):
    row["backbone"] = (backbones or {}).get(row["backbone"], row["backbone"])
    dataset = scale.DATASETS[row["task"]] if data == "paper" else data
    row["dataset"] = scale.SIMULATED if data == "simulated" else dataset
    row["step"] = steps
    return row

  return make_rows(change=change, seeds=(0,))


def test_datasets_are_those_of_the_papers_preset():
  for task, fields in presets.PAPER.items():
    name = fields.get("data.eval_name", fields["data.name"])
    assert scale.DATASETS[task] == name


def test_tiny_models_on_simulated_clips():
  study = Study(rows_of())
  note = scale.note(study, "pixels")
  assert "same families, hundreds to thousands of times as large" in note
  assert (
    "simulated clips after trainings of at most 500 steps of 40,000" in note
  )
  assert "not values" in note
  assert note in study_tables.per_example_table(study, "pixels").footnotes


def test_the_papers_models_on_its_data():
  study = Study(rows_of(FULL, "paper", 40_000))
  for text in (
    scale.note(study, "depth"),
    study_page.to_html(study_page.Comparison(study.rows)),
    *study_tables.distribution_table(study, "depth").footnotes,
  ):
    assert "times as large" not in text and "simulated" not in text
    assert "small models" not in text and "trainings of at most" not in text
  note = scale.note(study, "depth")
  assert note.startswith("paper: the printed values of the same models;")
  assert "the paper's data (scannet)" in note


@pytest.mark.parametrize(
  ("backbones", "data", "expected"),
  [
    (FULL, "simulated", "same models; ours were scored on simulated clips"),
    (FULL | {"4ds_tiny": "4ds_b"}, "paper", "4ds_b of a model of the same"),
    (FULL | {"4ds_tiny": "4ds_tiny"}, "paper", "hundreds to thousands"),
    (FULL, "my_clips", "other clips (my_clips)"),
    (FULL, None, "scored on other clips;"),
  ],
)
def test_mixtures(backbones, data, expected):
  study = Study(rows_of(backbones, data, 40_000))
  assert expected in scale.note(study, "pixels")
  statement = scale.statement(study)
  assert statement.endswith(".") and ". Ours were scored on " in statement
