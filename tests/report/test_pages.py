"""The pages: what the report draws of samples and items, and the decks of the training and tuning tasks."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from flyte_llama.report import EvaluationReport, training_page, trials_page
from flyte_llama.report.pages import report_page, show_sample
from flyte_llama.report.rendering import duration_text, short_name, web_address
from flyte_llama.report.samples import Sample, Writing
from flyte_llama.training import LossPoint
from tests.report.foreign import full_report
from tests.report.test_plots import POINTS
from tests.report.test_report import TRAINING, body_of


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


def sample(**changes: object) -> Sample:
    facts = {
        "title": "line: o/r a.py",
        "language": "python",
        "is_compared": True,
        "is_good": True,
        "prefix": "def f(x):\n",
        "wanted": "        return x + 1\n",
        "written": [
            Writing(model="base", text="        return x + 1", verdict="exact"),
            Writing(model="fine-tuned", text="        return x - 1", verdict="similarity 0.95"),
        ],
    }
    return Sample(**(facts | changes))


def different(sample: Sample) -> list[str]:
    """The marked text of each panel of a sample."""
    return [
        "".join(piece.text for piece in panel.pieces if "diff" in piece.classes) for panel in show_sample(sample).panels
    ]


def test_what_differs_is_marked_in_the_expected_text_and_in_that_of_each_model():
    assert different(sample()) == ["+", "", "-"]
    assert different(sample(is_compared=False)) == ["", "", ""]


def test_texts_are_compared_whole_shown_in_part_and_without_the_indentation_that_all_have():
    long = "        x = 1\n" * 200
    shown = show_sample(sample(wanted=f"{long}        y", written=[Writing(model="base", text=long, verdict="")]))
    expected, base = shown.panels
    assert expected.is_cut
    assert base.is_cut
    assert "".join(piece.text for piece in base.pieces) == ("x = 1\n" * 200)[:800]
    assert different(sample(wanted=long, written=[Writing(model="base", text=long, verdict="")])) == ["", ""]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    return full_report(tmp_path_factory.mktemp("report"))


def test_the_page_links_to_files_and_commits_of_known_hosts_alone(full: EvaluationReport):
    address = "https://github.com/o/r/blob/c0ffee/a%20b.py#L3"
    links = {"https://github.com/o/r/blob/c0ffee/a.py": True, address: True, "javascript:alert(1)": False, "": False}
    for link, is_shown in links.items():
        html = report_page(full.model_copy(update={"samples": [sample(link=link)]}))
        shown = [each.get("href") for each in body_of(html).iter("a")]
        assert (link in shown) == is_shown
        assert all(each.startswith(("#", "https://")) for each in shown)


def test_every_link_within_the_page_leads_somewhere(full: EvaluationReport):
    body = body_of(report_page(full))
    named = {element.get("id") for element in body.iter() if element.get("id")}
    assert {link.get("href") for link in body.iter("a")} >= {f"#{name}" for name in named} != set()


def test_an_item_has_a_ladder_of_every_model(full: EvaluationReport):
    body = body_of(report_page(full))
    rows = [row for row in body.iter("div") if row.get("class") == "row ladder"]
    assert len(rows) == len(full.flyte_eval_levels) == 2
    assert ["".join(label.itertext()) for label in rows[0].findall("span[2]/small")] == [
        f"{model}: outputs, passed" for model in ("base", "published", "fine-tuned")
    ]


def test_times_and_names_are_short():
    assert [duration_text(seconds) for seconds in (1.5, 59.4, 166, 7_260)] == [
        "1.5 s",
        "59.4 s",
        "2 min 46 s",
        "2 h 1 min",
    ]
    assert short_name("/home/me/output/data/model-1") == short_name("s3://bucket/x/model-1") == "model-1"
    assert short_name("codellama/CodeLlama-7b-hf") == "codellama/CodeLlama-7b-hf"


def test_an_address_with_a_blank_a_quote_or_another_scheme_is_no_link():
    for address in (
        "http://github.com/o/r",
        "https://x.example/a b",
        'https://x.example/"',
        "https://x.example",
        "//x/",
    ):
        assert web_address(address) == ""
