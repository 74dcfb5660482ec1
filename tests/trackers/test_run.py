"""The name that a training's run has in trackers."""

from __future__ import annotations

import re
from pathlib import Path

from flyte_llama.trackers import Tracking, new_run_id

LOCAL = Tracking(trackers=["wandb"], name="small", tags={}, config={}, folder=Path("trackers"))
IN_POD = LOCAL.model_copy(update={"execution": "f3kx0q9w2a", "tags": {"project": "llama", "domain": "development"}})
MADE_FROM = {"training.learning_rate": "0.1"}


def test_all_attempts_of_an_execution_have_the_same_run():
    run_id = new_run_id(IN_POD, MADE_FROM)
    assert re.fullmatch(r"small-f3kx0q9w2a-[0-9a-f]{8}", run_id)
    assert new_run_id(IN_POD, dict(MADE_FROM)) == run_id


def test_another_training_of_the_execution_and_the_same_one_in_another_domain_have_other_runs():
    elsewhere = IN_POD.model_copy(update={"tags": IN_POD.tags | {"domain": "production"}})
    runs = [
        new_run_id(IN_POD, MADE_FROM),
        new_run_id(IN_POD, {"training.learning_rate": "0.2"}),
        new_run_id(elsewhere, MADE_FROM),
    ]
    assert len(set(runs)) == 3


def test_a_local_training_that_starts_again_from_scratch_is_another_run():
    assert new_run_id(LOCAL, MADE_FROM) != new_run_id(LOCAL, MADE_FROM)


def test_the_longest_names_fit_wandb_which_takes_128_characters():
    longest = IN_POD.model_copy(update={"name": "n" * 100, "execution": "e" * 63})
    assert len(new_run_id(longest, MADE_FROM)) <= 128
