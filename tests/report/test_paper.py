"""Which of the paper's numbers stand beside ours."""

import pytest

from forecasting import presets
from forecasting.report import paper
from forecasting.report.models import Model


@pytest.mark.parametrize(
  ("backbone", "name"),
  [
    # Table 6 has both sizes of 4DS.
    ("4ds_h", "4DS-h"),
    ("4ds_e", "4DS-e"),
    ("videomae_h", "VideoMAE"),
    ("videomaev2_g", "VideoMAEv2"),
    ("videoprism_g", "VideoPrism"),
    ("walt_419m", "WALT 500M"),
    # None of the paper's: that of the family.
    ("4ds_tiny", "4DS-e"),
    ("dinov2_b", "DINOv2"),
    ("videomaev2_tiny", "VideoMAEv2"),
    ("next_vid_l", None),
  ],
)
def test_a_models_own_numbers_come_before_its_familys(backbone, name):
  model = Model(backbone, "pretrained", "flow")
  assert paper.paper_model(model) == name


def test_4ds_h_has_its_own_row_of_table_6():
  for backbone, best in (("4ds_h", 19.64), ("4ds_e", 19.66)):
    model = Model(backbone, "pretrained", "flow")
    printed = paper.printed_value("per_example", model, "pixels", "best")
    assert printed == best


def test_what_learned_nothing_or_forecasts_itself():
  assert paper.paper_model(Model("4ds_h", "random", "flow")) is None
  native = Model("walt_tiny", "pretrained", "native")
  assert paper.paper_model(native) == "N-WALT 500M"


def test_every_backbone_of_table_1_is_known_by_its_own_name():
  found = {
    paper.paper_name(backbone) for backbone, _, _ in presets.MODELS.values()
  }
  assert set(paper.read_paper()["table1"]) <= found
