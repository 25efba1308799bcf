"""What the report says on pretraining."""

import json

import pytest
from study_rows import make_rows

from forecasting.backbones.weights import file_digest
from forecasting.report import provenance
from forecasting.report.models import Study


def shipped(name):
  return json.loads((provenance.RELEASED / f"{name}.json").read_text())


def lines_of(study):
  table = provenance.training_table(study)
  lines = {line.label: line.cells for line in table.lines}
  return lines, " ".join(table.footnotes)


def test_shipped_weights_say_how_they_were_made():
  digests = {
    name: file_digest(provenance.RELEASED / f"{name}.safetensors")
    for name in ("4ds_tiny", "siglip_tiny")
  }

  def change(row):
    if not row["weights_digest"].startswith("random"):
      digest = digests.get(row["backbone"], row["weights_digest"])
      row["weights_digest"] = digest
    return row

  lines, notes = lines_of(Study(make_rows(change=change)))
  signals, parameters, clips, data = lines["4ds_tiny"]
  assert signals.text == "video, masking"
  assert parameters.text == "1.7M"
  assert (clips.text, clips.note) == ("80,000", "5,000 × 16")
  assert data.text == "mujoco_scenes"
  assert data.note == f"{shipped('4ds_tiny')['clips']}, 3,072 clips"
  assert lines["siglip_tiny"][0].text == "images, language"
  assert lines["siglip_tiny"][2].text == "256,000"
  assert "differ by a factor of 3.2" in notes
  # No weights of these are shipped, or not those that ran.
  for name in ("walt_tiny", "dinov2_tiny"):
    assert [cell.text for cell in lines[name][1:]] == ["–", "–", "–"]
  assert lines["walt_tiny"][0].text == "video, synthesis, language"
  assert len(lines) == 7  # none of random weights


def test_the_papers_models_have_its_parameters():
  def change(row):
    row["backbone"] = {"4ds_tiny": "4ds_h"}.get(row["backbone"], "dinov2_l")
    return row

  lines, notes = lines_of(Study(make_rows(change=change)))
  assert lines["4ds_h"][1].text == "639M"
  assert lines["dinov2_l"][1].text == "303M"
  assert "factor" not in notes


@pytest.mark.parametrize("path", sorted(provenance.RELEASED.glob("*.json")))
def test_every_record_is_of_the_weights_beside_it(path):
  weights = path.with_suffix(".safetensors")
  assert json.loads(path.read_text())["sha256"] == file_digest(weights)
  assert provenance.count_parameters(weights) > 1e5
