"""Documents are told apart by URL, path and start from the sources to the report; tables without them are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flyte_llama.config import CorpusConfig, DocumentsConfig, EvaluationConfig, ObjectiveConfig
from flyte_llama.corpus import build_corpus
from flyte_llama.documents import Document, write_documents
from flyte_llama.errors import DataError
from flyte_llama.evaluation import read_scores
from flyte_llama.evaluation.completion import read_cases, read_completions
from flyte_llama.evaluation.measure import join_parts, make_items, make_suite, measure_model
from flyte_llama.flyte_eval import read_grades, read_items
from flyte_llama.model import PinnedModel
from flyte_llama.report import MeasuredModel, make_report, report_table
from flyte_llama.report.dataset import dataset_card
from flyte_llama.report.markdown import report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.storage import seal, write_unsealed_table
from tests.conftest import document, source_count
from tests.evaluation.completion.test_completion import make_case
from tests.flyte_eval.test_answering import item
from tests.report.test_report import score
from tests.report.test_writing import completion, grade

HOSTS = ("github.com", "gitlab.com")
EVALUATION = EvaluationConfig.model_validate(
    {
        "window": 128,
        "stride": 64,
        "batch_tokens": 512,
        "shards": 2,
        "general": [],
        "completion": {"lines": 12, "spans": 0, "max_new_tokens": 32},
        "flyte_eval": {"source": "none"},
    }
)


def read_tools(host: str) -> list[Document]:
    """The documents of acme/tools on a host: the paths are the same on every host, the texts are not."""
    name = host.partition(".")[0]
    documents = []
    for index in range(2):
        numbers = "".join(f"{name}_{n} = load_{name}({n}, {n * n})\n" for n in range(20 * index, 20 * index + 20))
        text = f"# the numbers of {name}, part {index}\n{numbers}"
        documents.append(
            replace(document(text, url=f"https://{host}/acme/tools", path=f"{index}.py"), repository="acme/tools")
        )
    return documents


def test_two_repositories_of_one_name_on_two_hosts_reach_the_report(tiny_base: Path, tmp_path: Path):
    # the sources and the corpus
    sources = [*(read_tools(host) for host in HOSTS), [document("def trained_on():\n    return 'other text'\n")]]
    folders = [tmp_path / f"documents-{index}" for index in range(3)]
    for folder, documents in zip(folders, sources, strict=True):
        write_documents(folder, documents, source=source_count(documents).model_dump())
    heldout_urls = [f"https://{host}/acme/tools" for host in HOSTS]
    corpus = CorpusConfig.model_validate(
        {"train": [{"url": "https://example.com/o/r"}], "heldout": [{"url": url} for url in heldout_urls]}
    )
    sides = {"train": tmp_path / "train", "heldout": tmp_path / "heldout"}
    card = build_corpus(folders[2:], folders[:2], corpus, released=None, **sides)
    assert list(card.heldout.by_repository) == ["github.com/acme/tools", "gitlab.com/acme/tools"]

    # the measurements, in two shards
    shards = [tmp_path / f"suite-{index}" for index in range(EVALUATION.shards)]
    make_items(sides["heldout"], EVALUATION.flyte_eval, out=tmp_path / "items")
    make_suite(
        sides["heldout"],
        sides["train"],
        tmp_path / "items",
        EVALUATION,
        DocumentsConfig(),
        leak_words=13,
        shards=shards,
    )
    models = []
    for name in ("base", "fine-tuned"):
        parts = [tmp_path / name / f"part-{index}" for index in range(EVALUATION.shards)]
        for shard, part in zip(shards, parts, strict=True):
            measure_model(tiny_base, shard, EVALUATION, objective=ObjectiveConfig(), precision="fp32", out=part)
        join_parts(parts, tmp_path / "items", out=tmp_path / name / "measured")
        models.append(MeasuredModel(name, PinnedModel(name="scratch", revision=""), tmp_path / name / "measured"))

    # the report, in all its forms
    report = make_report(models, corpus=card, training=None)
    assert [(line.name, line.num_documents) for line in report.heldout.by["repository"]] == [
        ("github.com/acme/tools", 2),
        ("gitlab.com/acme/tools", 2),
    ]
    assert report.overall.num_repositories == 2
    assert {row.url for row in read_completions(models[0].folder / "completions")} == set(heldout_urls)
    for text in (report_table(report), report_page(report), report_markdown(report), dataset_card(card)):
        assert all(f"{host}/acme/tools" in text for host in HOSTS)
    # The table of sources on the page has a revision next to each name.
    assert all(
        f'<td class="text">{host}/acme/tools</td><td class="text" data-name="revision"><a href="https://{host}/acme/'
        in report_page(report)
        for host in HOSTS
    )


@pytest.mark.parametrize(
    ("name", "read", "row", "column"),
    [
        ("scores", read_scores, score(1.0), "url"),
        ("cases", read_cases, make_case(span_begin=0, span_end=1, text="x"), "span_begin"),
        ("completions", read_completions, completion(0, 1.0), "url"),
        ("items", read_items, item(), "start"),
        ("grades", read_grades, grade("a", True), "url"),
    ],
)
def test_a_table_of_an_earlier_version_is_refused_by_name(
    tmp_path: Path, name: str, read: Callable[[Path], Any], row: Any, column: str
):
    table = pa.Table.from_pylist([{key: value for key, value in asdict(row).items() if key != column}])
    seal(tmp_path, {f"{name}.parquet": write_unsealed_table(tmp_path, f"{name}.parquet", table)})
    with pytest.raises(
        DataError, match=rf"{name}\.parquet: has no column {column}, so an earlier version .* Measure again"
    ):
        read(tmp_path)
