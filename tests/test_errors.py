"""Wrong input to `main` ends in one clear error."""

import re

import pytest
from binaries import SMALL, run


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--config.backbone.name=4ds_tinny"], "backbone.name.*4ds_tiny"),
    (["--config.tasks=('box',)"], "tasks.*'boxes'"),
    (["--config.trian.batch_size=4"], "trian"),
    (["--config.readout.optimizer.learning_rate=1e30"], "readout-boxes"),
  ],
)
def test_wrong_input_ends_in_one_clear_error(flags, words, tmp_path):
  done = run("main", tmp_path, *SMALL, *flags, check=False)
  assert done.returncode != 0
  last = " ".join(done.stderr.strip().splitlines()[-6:])
  assert re.search(words, last), done.stderr[-2000:]
