"""Hostile text for every place of the report, and what a reader of HTML makes of the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from markdown_it import MarkdownIt
from pydantic import BaseModel

from flyte_llama.config import FilePatterns, HeldOutPart, Selection
from flyte_llama.corpus import CorpusCard, CorpusSample, PathTrace
from flyte_llama.corpus.sample import SampleDocument
from flyte_llama.documents import Amount
from flyte_llama.evaluation.completion import write_completions
from flyte_llama.flyte_eval import write_grades
from flyte_llama.report import (
    EvaluationReport,
    batch_table,
    collect_versions,
    dataset_page,
    make_report,
    record_provenance,
    sweep_table,
    training_page,
    trials_page,
)
from flyte_llama.report.dataset import dataset_card
from flyte_llama.report.markdown import model_card, report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.report.samples import Sample
from flyte_llama.runs import RunComparison, comparison_page
from flyte_llama.runs.common import CommonCount
from flyte_llama.runs.differences import DocumentsDifference, FieldDifference, ListedFile, SourceDifference
from flyte_llama.runs.listing import RunLine
from flyte_llama.runs.run_comparison import ComparedRun
from flyte_llama.runs.written import ChangedItem, CompletionsDifference, ItemsDifference
from tests.report.test_plots import POINTS
from tests.report.test_report import CONFIG, TRAINING, corpus_card, measured_model, score
from tests.report.test_writing import completion, grade

T = TypeVar("T")
Choose = Callable[[int], str]
"""Number of a text → the text to put in its place."""

# What a script does if it runs: it changes the title, and leaves an element that a saved page shows.
RUN = "window.pwned=1;document.title='pwned';document.documentElement.id='pwned'"
PAYLOADS = [
    # scripts, and elements that run one
    f"<script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f'<svg onload="{RUN}"><circle/></svg>',
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<details open ontoggle="{RUN}"><math><mtext><style><a title="</style><img src onerror={RUN}>">',
    # what ends the element or the attribute that it stands in
    f'"><script>{RUN}</script>',
    f"'><script>{RUN}</script>",
    f'" onmouseover="{RUN}" autofocus tabindex=1 onfocus="{RUN}" x="',
    f"</script><script>{RUN}</script>",
    "</textarea></style></title></pre></summary></details></td></tr></table></svg></div></body></html><plaintext>",
    f"]]></title><![CDATA[<?php ?>--><script>{RUN}</script>",
    # what swallows the page that follows
    "<!--",
    "<!doctype html><template>",
    "<textarea>",
    "<script>",
    "<style>*{display:none}",
    "<select><noscript>",
    # links, and text that is escaped already
    f'<a href="javascript:{RUN}">link</a>',
    f"<javascript:{RUN}>",
    "&lt;img src=x&gt; &#60;b&#62; &amp;amp; &quot",
    # templates
    "{{ 7 * 7 }} {% raw %} ${NAV_HTML} $BODY_HTML %(name)s {name}",
    # Markdown
    "[link](javascript:alert(1)) ![picture](https://evil.example/x.png)",
    "[link][1] ![x][1]\n\n[1]: https://evil.example 'title'\n\n[^1]: note",
    "https://evil.example www.evil.example jane@evil.example <https://evil.example> http://@www.x",
    "**bold** _italics_ __x__ a_b_c _d_e ~~gone~~ $x^2$ \\(x\\) :smile: ==x==",
    "`code` ``two`` and ```three",
    "`",
    "\\",
    "\\` \\| \\\\| a | b `|` c |",
    "a | b |c||",
    "``` \n```\n~~~\n\n# Heading\n\n- item\n1. item\n> quote\n\n---\n\n<div>\n\n| a | b |\n|---|---|\n| c | d |\n\n",
    "---\nlicense: mit\n---\n",
    "\r\n<br>\r\t\x0b\x0c\x85\u2028\u2029\n===",
    # terminals, and the order of text
    "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\ \x1b[2J\x1b[31m\x07\x00\x9b1A",
    "\u202eesrever\u202c \u2066\u200b\ufeff",
]


# Pages shorten a commit to 12 characters, and the digest of a tokenizer to 16.
_MIN_CHARS = 16


class Shown(NamedTuple):
    """What a reader of HTML makes of a page."""

    elements: list[str]
    """Start tags with the names of their attributes, end tags, comments and declarations, in order."""

    texts: list[str]
    """All text and the values of all attributes, in order."""

    @property
    def text(self) -> str:
        return "".join(self.texts)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.shown = Shown([], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shown.elements.append(f"<{' '.join([tag, *(name for name, _ in attrs)])}>")
        for name, value in attrs:
            if name == "class":
                # a name of the style, and never text of others
                assert re.fullmatch(r"[a-z0-9 -]*", value or ""), value
            else:
                self.shown.texts.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.shown.elements.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.shown.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.shown.elements.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.shown.elements.append(f"<!{decl}>")

    unknown_decl = handle_pi = handle_decl


def read_html(html: str) -> Shown:
    """Read a page as the standard library does."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.shown


def read_markdown(text: str) -> Shown:
    """Read Markdown as the Hub does; code counts as text."""
    return without_code(read_html(render_markdown(text)))


def render_markdown(text: str) -> str:
    """Return the HTML of Markdown with tables and HTML, without its front matter."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)


def without_looks(shown: Shown) -> Shown:
    """Without the elements that colour code, which follow its syntax and its differences."""
    return shown._replace(elements=[tag for tag in shown.elements if tag not in ("<i class>", "</i>")])


def without_code(shown: Shown) -> Shown:
    return shown._replace(elements=[tag for tag in shown.elements if tag not in ("<code>", "</code>")])


def replace_texts(value: T, choose: Choose) -> T:
    """Put another text in the place of every text in a record; equal ones stay equal, others stay different."""
    return _replace(value, {}, choose)


def marked(payload: str) -> Choose:
    """Choose this payload everywhere, with a number behind it, and long enough that every shortened one is cut."""
    return lambda index: f"{payload:.<{_MIN_CHARS}}#{index}#"


HARMLESS = "x" * _MIN_CHARS
"""A text without markup."""


def mixed(index: int) -> str:
    """Choose all payloads in turn, each with a number behind it."""
    return marked(PAYLOADS[index % len(PAYLOADS)])(index)


def _replace(value: Any, seen: dict[str, str], choose: Choose) -> Any:
    if isinstance(value, str):
        return seen.setdefault(value, choose(len(seen)))
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        # The report looks its words up by this name, and its tables by the keys of `by`.
        kept = {name: value for name, value in fields.items() if name == "objective"}
        if isinstance(value, Sample | SampleDocument):
            kept["language"] = value.language
        by = fields.pop("by", {})
        new = {name: _replace(field, seen, choose) for name, field in fields.items()}
        if by:
            new["by"] = {name: _replace(lines, seen, choose) for name, lines in by.items()}
        return value.model_copy(update=new | kept)
    if isinstance(value, Mapping):
        return {_replace(key, seen, choose): _replace(field, seen, choose) for key, field in value.items()}
    if isinstance(value, Sequence):
        return [_replace(field, seen, choose) for field in value]
    return value


def full_report(folder: Path, names: Sequence[str] = ("base", "published", "fine-tuned")) -> EvaluationReport:
    """A report with every section, of three models."""
    models = []
    for number, name in enumerate(names):
        documents = [
            score(500.0 - 50 * number + index, role=role, repository=f"o/{index % 2}", path=f"{index}.py")
            for role in ("train", "heldout", "general")
            for index in range(10)
        ]
        model = measured_model(folder, name, documents)
        write_completions(model.folder / "completions", [completion(index, index / 4) for index in range(5)])
        write_grades(model.folder / "grades", [grade("a", True), grade("b", False)])
        models.append(model._replace(identity=model.identity))
    training = TRAINING.model_copy(update={"losses": POINTS})
    report = make_report(models, corpus=full_card(), training=training)
    return report.model_copy(update={"provenance": record_provenance(CONFIG, training, collect_versions())})


def full_card() -> CorpusCard:
    """A corpus card in which nothing is empty."""
    card = corpus_card()
    amount = card.train.read
    source = card.train.sources[0].model_copy(update={"skipped": {"generated": amount, "odd": amount}})
    sources = [source.model_copy(update={"redacted": {"email": 2}, "licence": "MIT", "not_permitted": {"odd": amount}})]
    side = card.train.model_copy(update={"sources": sources, "dropped": {"near": amount}})
    selection = Selection(files=FilePatterns(paths=["/src/"], exclude=["*.md"]), age="newer", after="2026-06-01")
    part = HeldOutPart(repository="o/r", url=sources[0].url, selection=selection)
    return card.model_copy(update={"train": side, "heldout": side, "parts": [part]})


def full_comparison(report: EvaluationReport) -> RunComparison:
    """A comparison in which nothing is empty."""
    overall, one = report.overall, Amount(files=1, num_bytes=10)
    files = [ListedFile(path="a.py", num_bytes=10)]
    runs = [
        ComparedRun(
            folder=f"/runs/{name}",
            line=RunLine(
                name=name,
                finished=None,
                base="o/base",
                train_documents=1,
                train_tokens=2,
                heldout_documents=3,
                base_bits=4.0,
                bits=2.0,
                change=overall.changes[0],
            ),
            model=report.models[-1].identity,
        )
        for name in ("first", "second")
    ]
    return RunComparison(
        a=runs[0],
        b=runs[1],
        same_model=False,
        same_measurements=False,
        configuration=[FieldDifference(key="model.name", a="o/a", b="o/b")],
        num_sources=2,
        sources=[SourceDifference(source="o/one", a="train, 1", b="held out, 1")],
        documents=[
            DocumentsDifference(
                source="o/one",
                side="train",
                documents_a=1,
                documents_b=2,
                gained=one,
                lost=one,
                changed=one,
                gained_files=files,
                lost_files=files,
                changed_files=files,
            )
        ],
        counted_sides=["held out"],
        common=CommonCount(both=1, only_a=1, only_b=1, other_text=1),
        report=report,
        items=[
            ItemsDifference(
                task="FlyteEval",
                layout="PSM",
                num_items=2,
                passed_a=1,
                passed_b=1,
                gained=[ChangedItem(item="gained", passed_a=0, passed_b=1, num_answers=1)],
                lost=[ChangedItem(item="lost", passed_a=1, passed_b=0, num_answers=1)],
            )
        ],
        completions=[
            CompletionsDifference(
                task="line",
                layout="left-to-right",
                num_cases=1,
                num_changed=1,
                exact_gained=0,
                exact_lost=0,
                closer=1,
                farther=0,
            )
        ],
        left_out=["Something is left out."],
    )


def full_sample() -> CorpusSample:
    """What the page of a corpus shows of its documents, of two sources on both sides."""
    document = SampleDocument(
        repository="o/r",
        path="a.py",
        language="python",
        kind="source",
        licence="MIT",
        num_bytes=9,
        link="https://github.com/o/r/blob/1/a.py",
        text="x = 1\n",
        is_cut=True,
    )
    files = [
        PathTrace(
            side=side,
            repository=repository,
            url=f"https://example.com/{repository}",
            revision="1",
            path=f"{index}.py",
            link=f"https://example.com/{repository}/{index}.py",
            outcome="kept",
            num_bytes=index,
            sentences=[f"Kept {side} {repository} {index}.", "Again."],
        )
        for side in ("train", "held out")
        for repository in ("o/one", "o/two")
        for index in range(2)
    ]
    return CorpusSample(documents=[document, document], files=files, num_files=9)


def make_pages(report: EvaluationReport, choose: Choose) -> dict[str, str]:
    """Name of the function that makes it → each HTML page, with other texts in it."""
    comparison = replace_texts(full_comparison(report), choose)
    report = replace_texts(report, choose)
    assert report.corpus is not None
    assert report.training is not None
    return {
        "report_page": report_page(report),
        "comparison_page": comparison_page(comparison),
        "dataset_page": dataset_page(report.corpus, replace_texts(full_sample(), choose)),
        "training_page": training_page(report.training),
        "trials_page": trials_page(choose(0), f"{sweep_table([])}\n{batch_table([])}\n{choose(1)}"),
    }


def make_cards(report: EvaluationReport, choose: Choose) -> dict[str, str]:
    """Name of the function that makes it → each Markdown file, with other texts in it."""
    report = replace_texts(report, choose)
    assert report.corpus is not None
    return {
        "report_markdown": report_markdown(report),
        "model_card": model_card(report),
        "dataset_card": dataset_card(report.corpus),
    }
