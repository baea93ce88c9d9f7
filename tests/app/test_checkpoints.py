from dataclasses import replace

import pytest

from rcnn_tutorial.app.checkpoints import history_of, stretch
from rcnn_tutorial.cache import read_archive
from rcnn_tutorial.training import TrainSettings
from tests.training.job import run

COSINE = TrainSettings(2, batch_size=2, lr=0.1, schedule="cosine")


def test_the_history_of_a_checkpoint(tmp_path):
    assert history_of(tmp_path).steps == 0
    assert run(settings=COSINE, folder=tmp_path) == history_of(tmp_path)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_checkpoint_is_changed_where_the_rate_depends_on_the_steps(tmp_path, schedule):
    settings, path = replace(COSINE, schedule=schedule), tmp_path / "checkpoint.pt"
    stretch(tmp_path, settings)  # there is none yet
    first = run(settings=settings, folder=tmp_path)
    before = path.read_bytes()
    stretch(tmp_path, settings)
    assert path.read_bytes() == before
    stretch(tmp_path, replace(settings, steps=4))
    assert read_archive(path)["identity"]["settings"]["steps"] == (4 if schedule == "cosine" else 2)
    longer = run(settings=replace(settings, steps=4), folder=tmp_path)
    assert longer.losses["all"][:2] == first.losses["all"] and longer.steps == 4
