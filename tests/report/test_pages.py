"""The decks of the training and tuning tasks."""

from __future__ import annotations

from xml.etree import ElementTree

from flyte_llama.report import training_page, trials_page
from flyte_llama.training import LossPoint
from tests.report.test_plots import POINTS
from tests.report.test_report import TRAINING


def test_the_training_deck_is_well_formed_and_fetches_nothing():
    html = training_page(TRAINING.model_copy(update={"device": "<CPU>", "losses": POINTS}))
    body = ElementTree.fromstring(html[html.index("<body>") : html.index("</html>")])  # noqa: S314  # HTML made by this test
    assert len(body.findall(".//figure/svg")) == 5
    assert "&lt;CPU&gt;" in html
    assert "http" not in html.replace("http-equiv", "")


def test_the_training_deck_names_the_validation_loss_and_the_step_that_was_kept():
    assert "Validation loss" not in training_page(TRAINING)
    points = [LossPoint(step=step, loss=2.0, validation_loss=1.0 + step / 8, learning_rate=0.1) for step in (1, 2)]
    last = training_page(TRAINING.model_copy(update={"losses": points}))
    assert "Validation loss 1.2500 nats per token after step 2." in last
    assert "validation</span>" in last
    kept = training_page(TRAINING.model_copy(update={"losses": points, "exported_step": 1}))
    assert "after step 1, the lowest of all: the model has the weights of this step." in kept


def test_the_trials_deck_shows_the_table_escaped():
    html = trials_page("Sweep <1>", "rate  rank\n1e-4  <8>")
    ElementTree.fromstring(html[html.index("<body>") : html.index("</html>")])  # noqa: S314  # HTML made by this test
    assert "<h1>Sweep &lt;1&gt;</h1>" in html
    assert "<pre>rate  rank\n1e-4  &lt;8&gt;</pre>" in html
