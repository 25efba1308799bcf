"""The page as a reader's browser gets it."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from forecasting.report import page

VOID = {"meta", "img", "br", "input"}


class Parsed(HTMLParser):
  """Checks nesting; keeps texts, images and table cells."""

  def __init__(self, text):
    super().__init__()
    self.open, self.errors, self.images = [], [], []
    self.text, self.attributes = [], []
    self.feed(text)
    self.errors += [f"never closed: {tag}" for tag in self.open]

  def handle_starttag(self, tag, attrs):
    self.attributes += attrs
    if tag == "img":
      self.images.append(dict(attrs))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if not self.open or self.open.pop() != tag:
      self.errors.append(f"unexpected </{tag}>")

  def handle_data(self, data):
    self.text.append(data)


def report(workdir):
  path = page.write_report(workdir)
  text = path.read_text()
  return Parsed(text), text


def test_page_holds_everything_and_needs_nothing_else(make_workdir):
  workdir, rows = make_workdir(tasks=("boxes", "depth"))
  parsed, text = report(workdir)
  assert parsed.errors == []
  words = " ".join(parsed.text)
  for name in (
    *(row["forecaster"] for row in rows),
    "boxes",
    "depth",
    "abc1234",
    "crop_pos",
  ):
    assert name in words
  assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", text))
  for name, value in parsed.attributes:
    if name in ("src", "href", "srcset"):
      assert value.startswith(("data:", "#")), value
  assert all(image["alt"] for image in parsed.images)
  assert "prefers-reduced-motion" in text
  assert "WARNING" not in text
  assert not list(workdir.glob("*.tmp"))


def test_animations_have_all_frames(make_workdir):
  workdir, _ = make_workdir(tasks=("points", "pixels"))
  parsed, _ = report(workdir)
  moving = [i for i in parsed.images if i.get("class") == "moving"]
  assert len(moving) == 4  # flow, and one future; two tasks
  for image in moving:
    data = base64.b64decode(image["src"].split(",", 1)[1])
    assert Image.open(io.BytesIO(data)).n_frames == 16


def test_page_without_panels_futures_curves_or_config(make_workdir):
  def change(row):
    row.pop("futures")
    row.pop("dressed", None)
    row.pop("rank_histogram", None)
    row.pop("spread_skill_per_lead", None)
    return row

  workdir, _ = make_workdir(tasks=("pixels",), panels=0, change=change)
  (workdir / "metrics.jsonl").unlink()
  (workdir / "config.json").unlink()
  parsed, text = report(workdir)
  assert parsed.errors == []
  assert parsed.images == []
  for reason in ("No clips were kept", "no record of training", "no context"):
    assert reason in text


def test_leaking_context_is_shouted(make_workdir):
  workdir, _ = make_workdir(
    tasks=("boxes",),
    panels=0,
    change=lambda row: row | {"context_mode": "leaky_full_clip"},
  )
  _, text = report(workdir)
  assert 'role="alert"><b>WARNING' in text


def test_names_are_escaped(make_workdir):
  workdir, _ = make_workdir(
    tasks=("boxes",),
    panels=0,
    change=lambda row: row | {"name": "<script>a&b</script>"},
  )
  parsed, text = report(workdir)
  assert parsed.errors == []
  assert "<script>" not in text


def test_backbone_without_a_row_in_the_paper_is_said(make_workdir):
  workdir, _ = make_workdir(tasks=("boxes",), panels=0)
  _, text = report(workdir)
  assert "The paper has no row for <b>4ds_tiny</b>" in text


def test_backbone_of_the_paper_stands_beside_it(make_workdir):
  workdir, _ = make_workdir(
    tasks=("points",),
    panels=0,
    change=lambda row: row | {"backbone": "4ds_e"},
  )
  _, text = report(workdir)
  assert "paper: 4DS-e, regression" in text
  assert "0.00068" in text  # FD, printed as 0.68 in units of 1e-3
  assert "222.92 in Table 2" in text


def test_several_runs_share_tables(make_workdir, tmp_path):
  one, _ = make_workdir("one", tasks=("boxes",), panels=0)
  two, _ = make_workdir(
    "two",
    tasks=("boxes",),
    panels=0,
    change=lambda row: row | {"name": "other"},
  )
  path = page.write_comparison([one, two], tmp_path / "both")
  text = path.read_text()
  assert "flow (other · 4ds_tiny · seed 0)" in text
  assert "flow (made_up · 4ds_tiny · seed 0)" in text


def test_empty_rows_and_bad_panels_are_named(make_workdir):
  workdir, _ = make_workdir(tasks=("boxes",), panels=0)
  (workdir / "config.json").write_text("{")
  with pytest.raises(ValueError, match=r"config\.json"):
    page.write_report(workdir)
  (workdir / "results.jsonl").write_text("")
  with pytest.raises(ValueError, match="empty"):
    page.write_report(workdir)


def test_same_folder_gives_the_same_page(make_workdir):
  workdir, _ = make_workdir(tasks=("boxes",), panels=0)
  assert report(workdir)[1] == report(workdir)[1]


def test_two_processes_write_their_own_files_on_the_way(
  make_workdir, monkeypatch
):
  """As the hosts of a study may, both at once."""
  workdir, _ = make_workdir()
  seen = set()
  rename = page.Path.rename

  def noted(path, target):
    seen.add(path.name)
    return rename(path, target)

  monkeypatch.setattr(page.Path, "rename", noted)
  for pid in (1, 2):
    monkeypatch.setattr(page.os, "getpid", lambda pid=pid: pid)
    page.write_report(workdir)
  own = [name for name in seen if name.startswith("report.html")]
  assert len(own) == 2

  def fails(path, target):
    raise OSError("disk full")

  monkeypatch.setattr(page.Path, "rename", fails)
  with pytest.raises(OSError, match="disk full"):
    page.write_report(workdir)
  assert not list(workdir.glob("*.tmp"))


def test_importing_draws_nothing_in():
  code = (
    "import sys, forecasting.report.page\n"
    "assert not {'matplotlib', 'PIL'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
