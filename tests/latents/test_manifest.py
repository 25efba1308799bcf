"""Manifests are read back as written and refuse what they are not."""

import json
import re

import pytest
from noise_store import make_manifest

from forecasting.latents import manifest as manifest_lib
from forecasting.latents.manifest import ManifestError, Shard


def test_round_trip(tmp_path):
  manifest = make_manifest(shards=(Shard("a", 3, 7, "cafe"),))
  manifest.save(tmp_path)
  assert manifest_lib.load(tmp_path) == manifest


def test_a_mismatch_names_field_found_expected_and_remedy(tmp_path):
  manifest = make_manifest()
  manifest.verify(
    {"backbone": "toy", "labels": list(manifest.labels)}, tmp_path
  )
  with pytest.raises(ManifestError) as error:
    manifest.verify(
      {"backbone": "4ds_e", "num_context": 6, "split": "train"}, tmp_path
    )
  message = str(error.value)
  assert "backbone: the store has 'toy', expected '4ds_e'" in message
  assert "num_context: the store has 4, expected 6" in message
  assert "split" not in message
  assert "forecasting.extract" in message and "config" in message


def test_an_unknown_expectation_is_an_error(tmp_path):
  with pytest.raises(ManifestError, match="no field 'backbones'"):
    make_manifest().verify({"backbones": "toy"}, tmp_path)


def test_a_store_without_context_mode_is_refused(tmp_path):
  make_manifest().save(tmp_path)
  file = tmp_path / "manifest.json"
  fields = json.loads(file.read_text())
  del fields["context_mode"]
  file.write_text(json.dumps(fields))
  with pytest.raises(ManifestError, match=r"context_mode.*without the future"):
    manifest_lib.load(tmp_path)


@pytest.mark.parametrize(
  ("field", "value"),
  [("context_mode", "joint"), ("dtype", "float8"), ("format_version", 99)],
)
def test_a_value_of_another_version_is_refused(field, value):
  with pytest.raises(ManifestError, match=f"{field} is {value!r}"):
    make_manifest(**{field: value})


def test_a_missing_or_damaged_manifest_says_what_to_do(tmp_path):
  file = re.escape(str(tmp_path / "manifest.json"))
  with pytest.raises(ManifestError, match=f"{file} does not exist.*extract"):
    manifest_lib.load(tmp_path)
  (tmp_path / "manifest.json").write_text('{"backbone": ')
  with pytest.raises(ManifestError, match=f"{file} is not JSON"):
    manifest_lib.load(tmp_path)


def test_identity_covers_what_determines_the_records():
  base = make_manifest()
  assert make_manifest(num_clips=99).identity == base.identity
  for field, value in [
    ("weights_digest", "abd"),
    ("context_mode", "pad_last"),
    ("dtype", "int8"),
    ("fingerprint", "beef"),
    ("layer", "block 2 of 2"),
  ]:
    assert make_manifest(**{field: value}).identity != base.identity
