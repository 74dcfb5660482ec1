"""The samples of the report: which texts are chosen to be read, and the links to their files."""

from __future__ import annotations

from flyte_llama.report.samples import choose_completion_samples, choose_grade_samples
from tests.report.test_writing import completion, grade


def test_samples_are_the_closest_and_the_farthest_of_the_last_model_in_any_order():
    tuned = [completion(index, index / 10) for index in range(11)]
    rows = {"base": [completion(index, 0.5) for index in range(11)], "fine-tuned": tuned}
    samples = choose_completion_samples(rows, {}, {})
    assert [sample.title.split()[3] for sample in samples if sample.is_good] == [
        f"{index}.py," for index in range(10, 4, -1)
    ]
    assert [sample.title.split()[3] for sample in samples if not sample.is_good] == [
        f"{index}.py," for index in range(5)
    ]
    assert [writing.model for writing in samples[0].written] == ["base", "fine-tuned"]
    assert (
        choose_completion_samples({model: completions[::-1] for model, completions in rows.items()}, {}, {}) == samples
    )


def test_samples_tell_repositories_of_one_name_apart():
    urls = ["https://a.example/o/r", "https://b.example/o/r"]
    rows = {
        model: [completion(0, 0.9 - index / 10, url=url, written=f"{model} {url}") for index, url in enumerate(urls)]
        for model in ("base", "fine-tuned")
    }
    good = [sample for sample in choose_completion_samples(rows, {url: url[8:] for url in urls}, {}) if sample.is_good]
    assert [sample.title.split()[2] for sample in good] == ["a.example/o/r", "b.example/o/r"]
    assert [[writing.text for writing in sample.written] for sample in good] == [
        [f"base {url}", f"fine-tuned {url}"] for url in urls
    ]


def test_short_texts_are_not_shown_as_samples():
    assert choose_completion_samples({"base": [completion(1, 1.0, wanted="x\n")]}, {}, {}) == []


def test_samples_of_flyte_eval_show_passed_and_failed():
    rows = [grade(f"i{index}", index % 3 == 0) for index in range(30)]
    samples = choose_grade_samples({"base": rows})
    assert [sample.is_good for sample in samples] == [True] * 3 + [False] * 3
    assert "NameError" in samples[-1].written[0].verdict
    assert choose_grade_samples({"base": rows[::-1]}) == samples


def test_source_code_goes_before_documentation():
    rows = [completion(index, 1 - index / 100, path=f"{index}.md", language="markdown") for index in range(9)]
    rows.append(completion(9, 0.6, path="src/x.py"))
    first, *others = choose_completion_samples({"base": rows}, {}, {})
    assert "src/x.py" in first.title
    assert len(others) == 5


def test_a_sample_links_to_its_file_where_the_host_and_the_revision_are_known():
    rows = {"base": [completion(0, 0.9, url="https://github.com/o/r"), completion(1, 0.9, url="https://x.example/o/r")]}
    revisions = {"https://github.com/o/r": "c0ffee", "https://x.example/o/r": "c0ffee"}
    links = {sample.link for sample in choose_completion_samples(rows, {}, revisions)}
    assert links == {"https://github.com/o/r/blob/c0ffee/0.py", ""}
    assert {sample.link for sample in choose_completion_samples(rows, {}, {})} == {""}
