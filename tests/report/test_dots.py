"""The picture of all models by repository: every dot and interval on one scale."""

from __future__ import annotations

import pytest

from flyte_llama.evaluation import align_scores, compare
from flyte_llama.report.dots import MOST_ROWS, draw_dots
from tests.report.test_report import score


def comparison(models: int = 2, repositories: int = 3):
    names = ["base", "published", "fine-tuned"][-models:]
    scores = {
        name: [
            score(500.0 - 100 * number + index, path=f"{index}.py", repository=f"o/{index % repositories}")
            for index in range(max(12, repositories))
        ]
        for number, name in enumerate(names)
    }
    return compare(align_scores(scores), replicates=50)


@pytest.mark.parametrize("models", [1, 2, 3])
def test_dots_are_drawn_to_scale_and_their_intervals_within_the_picture(models: int):
    compared = comparison(models)
    picture = draw_dots(compared.overall, compared.by["repository"])
    (first, label), *_, (last, _) = picture.marks
    per_bit = (picture.marks[1][0] - first) / (float(picture.marks[1][1]) - float(label))
    for row in picture.rows:
        assert [dot.ink.model for dot in row.dots] == [figure.model for figure in row.line.figures]
        for dot in row.dots:
            assert dot.at == pytest.approx(per_bit * (dot.bits_per_byte - float(label)))
            assert first == 0 <= dot.low <= dot.at <= dot.high <= 100 == last
    overall = picture.rows[0]
    assert all(dot.low < dot.at < dot.high for dot in overall.dots)
    assert overall.colour == ("better" if models > 1 else "")


def test_a_group_of_all_documents_does_not_repeat_the_first_row():
    compared = comparison()
    picture = draw_dots(compared.overall, compared.by["language"])
    assert [row.line.name for row in picture.rows] == ["overall"]


def test_of_many_groups_the_largest_are_drawn_and_the_others_counted():
    compared = comparison(repositories=MOST_ROWS + 5)
    picture = draw_dots(compared.overall, compared.by["repository"])
    assert (len(picture.rows), picture.num_more) == (1 + MOST_ROWS, 5)
