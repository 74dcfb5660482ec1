"""The decks, in the page that Flyte makes of them: each has its tab, and no text of others is markup there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from flytekit.core.base_task import PythonTask
from flytekit.core.context_manager import FlyteContextManager, FlyteEntities
from flytekit.deck.deck import Deck, _get_deck

import flyte_llama
from flyte_llama.report import EvaluationReport
from tests.conftest import MakeRepo, commit_files, git
from tests.report.browser import needs_browser, open_page, script_ran
from tests.report.foreign import (
    HARMLESS,
    PAYLOADS,
    RUN,
    Shown,
    full_report,
    make_pages,
    marked,
    mixed,
    read_html,
    read_markdown,
    without_looks,
)
from tests.tasks.conftest import Registered
from tests.tasks.tiny import code, run_workflow, write_config

BRANCH = "<svg/onload=document.title='pwned'>"
# Name of each task with a deck → the function that makes its page.
DECKS = {
    "build_corpus": "dataset_page",
    "fine_tune": "training_page",
    "fine_tune_on_nodes": "training_page",
    "report": "report_page",
    "choose_batch_size": "trials_page",
    "choose_point": "trials_page",
    "report_failure": "trials_page",
    "report_sweep_failure": "trials_page",
    "report_completion_failure": "trials_page",
}
# What the code gives to `Deck`: a page of one of these functions, as it is or as it was written.
PAGES = [
    "dataset_page(card, read_sample(train, heldout))",
    "training_page(summary)",
    "page",
    "page",
    "(folder / 'report.html').read_text(encoding='utf-8')",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    return full_report(tmp_path_factory.mktemp("report"))


def flyte_page(pages: dict[str, str]) -> str:
    """The page that Flyte makes of decks."""
    params = FlyteContextManager.current_context().user_space_params.builder()
    params.decks = [Deck(name, page, auto_add_to_deck=False) for name, page in pages.items()]
    return str(_get_deck(params.build(), ignore_jupyter=True))


def test_every_task_with_a_deck_is_among_those_that_these_tests_read(registered: Registered, report: EvaluationReport):
    tasks = [entity for entity in FlyteEntities.entities if isinstance(entity, PythonTask)]
    names = {task.name for task in tasks if task.name.startswith("flyte_llama.") and not task.disable_deck}
    assert {name.rpartition(".")[2] for name in names} == DECKS.keys()
    assert set(DECKS.values()) <= make_pages(report, marked(HARMLESS)).keys()


def test_every_deck_gets_a_page_that_these_tests_read():
    given = []
    for path in Path(flyte_llama.__file__).parent.rglob("*.py"):
        if "flyte_eval" in path.parts:
            continue  # its decks are those of answers, and are shown nowhere
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert getattr(node, "attr", "") not in ("default_deck", "decks", "timeline_deck"), path
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Deck":
                given += [ast.unparse(argument) for argument in node.args[1:]]
    assert sorted(given) == sorted(PAGES)


def test_text_of_others_is_text_in_the_page_that_flyte_makes(report: EvaluationReport):
    plain = without_looks(read_html(flyte_page(make_pages(report, marked(HARMLESS)))))
    for payload in PAYLOADS:
        hostile = without_looks(read_html(flyte_page(make_pages(report, marked(payload)))))
        assert hostile.elements == plain.elements, payload


@pytest.mark.slow
@needs_browser
def test_a_browser_shows_every_deck_in_its_tab_whatever_text_is_in_them(report: EvaluationReport, tmp_path: Path):
    opened = []
    for choose in (mixed, marked(HARMLESS)):
        page = tmp_path / "deck.html"
        page.write_text(flyte_page(make_pages(report, choose)), encoding="utf-8")
        opened.append(open_page(page, tmp_path))
    hostile, plain = opened
    assert not script_ran(hostile)
    assert without_looks(read_html(hostile)).elements == without_looks(read_html(plain)).elements
    names = ["report_page", "comparison_page", "dataset_page", "training_page", "trials_page"]
    assert tabs_of(hostile) == (names, len(names))


def tabs_of(opened: str) -> tuple[list[str], int]:
    """The names of the tabs of an opened deck, and the number of parts that its script has given them."""
    tabs = re.findall(r'<li onclick="handleLinkClick\(this\)"[^>]*link_index="\d+"[^>]*>([^<]*)</li>', opened)
    return tabs, len(re.findall(r'<div[^>]*link_index="\d+"', opened))


@pytest.mark.slow
@needs_browser
def test_a_run_on_hostile_repositories_writes_pages_and_decks_that_run_none_of_their_text(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # repositories that are hostile in name, branch, author, paths, contents and licence
    comments = [f"# {line}\n" for line in "\n".join(PAYLOADS).splitlines() if line.isprintable() and line]
    repositories = []
    for seed, side in ((0, "train"), (1000, "heldout")):
        repo = make_repo(f"{side}/<img src=x onerror={RUN}>", {"first.py": code(seed)})
        git(repo, "checkout", "-q", "-b", BRANCH)
        files = {f"<svg onload={RUN}>/{n}.py": code(seed + n) + "".join(comments[n::12]) for n in range(1, 12)}
        files |= {"'><!--.md": f"# <!--\n\n{code(seed + 20)}", f"<script>{RUN}</script>.py": code(seed + 30)}
        commit_files(repo, files | {"LICENSE": f"<script>{RUN}</script>"})
        repositories.append(repo)
    sources = {
        side: [{"url": str(repo), "ref": BRANCH, "accept_unknown_licence": True}]
        for side, repo in zip(("train", "heldout"), repositories, strict=True)
    }
    completion = {"lines": 20, "spans": 5, "max_new_tokens": 16}
    short = {"probe_bytes": 2000, "completion": completion, "flyte_eval": {"source": "none"}}
    config = write_config(tmp_path / "tiny.yaml", sources, **short)
    (tmp_path / "temporary").mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "temporary"))
        run_workflow(config, tmp_path)

    # the pages of the run, and the decks that Flyte wrote
    pages = sorted((tmp_path / "output/latest/").glob("*.html"))
    decks = sorted((tmp_path / "temporary").rglob("deck.html"))
    assert {page.name for page in pages} == {"report.html", "dataset.html"}
    assert len(decks) == 3
    for page in [*pages, *decks]:
        opened = open_page(page, tmp_path)
        shown = read_html(opened)
        assert not script_ran(opened)
        assert f"<img src=x onerror={RUN}>" in shown.text
        assert all(re.match(r"#|https://", address) for address in re.findall(r'href="([^"]*)"', opened))
        # Flyte's own script, and the one that looks up files
        num_scripts = (page in decks) + sum(tag.startswith("<form class") for tag in shown.elements)
        assert foreign_elements(shown) == ["<script>"] * num_scripts
    for card in (tmp_path / "output/latest/").glob("*.md"):
        shown = read_markdown(card.read_text(encoding="utf-8"))
        assert f"<img src=x onerror={RUN}>" in shown.text
        assert foreign_elements(shown) == []


def foreign_elements(shown: Shown) -> list[str]:
    """The elements that no page or card of the package has, apart from the script of Flyte's page."""
    return [tag for tag in shown.elements if re.match(r"<(?:script|img|iframe|object|embed)\b|<!--", tag)]
