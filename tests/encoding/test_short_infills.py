"""Short infillings are laid out as others, come from their texts, and have suffixes that grow stage by stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.encoding.pieces import KeyedText, Piece
from flyte_llama.encoding.short_infills import STAGES, make_stages
from flyte_llama.errors import ModelError

TEXTS = [
    KeyedText("a", "".join(f"def f{number}(x):\n    return x + {number}\n\n\n" for number in range(100))),
    KeyedText("none", ""),
    KeyedText("b", "# a short text, in one line"),
]
CONFIG = ObjectiveConfig(kind="fim", short_infills=500)


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def parts(piece: Piece, tokenizer: DocumentTokenizer) -> tuple[str, str, str]:
    """The prefix, the middle and the suffix; of SPM, which joins prefix and middle, all of that is the prefix."""
    ids, tokens = piece.input_ids.tolist(), tokenizer.infill
    assert tokens is not None
    assert (ids[:2], ids[-1]) == ([*tokenizer.bos_ids, tokens.prefix], tokens.end)
    assert piece.labels.tolist() == [-100, *ids[1:]]
    suffix, middle = ids.index(tokens.suffix), ids.index(tokens.middle)
    parts = [ids[2:suffix], ids[middle + 1 : -1], ids[suffix + 1 : middle]]
    if suffix == 2:
        parts = [parts[1], [], parts[2]]
    before, between, after = map(tokenizer.decode, parts)
    return before, between, after


@pytest.mark.parametrize("psm_share", [0.3, 1.0])
def test_each_infilling_is_a_part_of_its_text_and_suffixes_grow(tokenizer: DocumentTokenizer, psm_share: float):
    config = CONFIG.model_copy(update={"psm_share": psm_share})
    stages = list(make_stages(TEXTS, config, tokenizer, seq_len=2048))
    assert [sum(map(len, stage)) for stage in stages] == [100] * len(STAGES)
    longest, num_lines, num_spm = [], 0, 0
    for stage in stages:
        assert (len(stage), stage[1]) == (len(TEXTS), [])
        cuts = [
            (text.text, parts(piece, tokenizer)) for text, pieces in zip(TEXTS, stage, strict=True) for piece in pieces
        ]
        for text, (prefix, middle, suffix) in cuts:
            assert prefix + middle + suffix in text
            num_lines += middle.strip().startswith(("def f", "return x")) and suffix[:1] in ("", "\n")
            num_spm += not middle and bool(prefix)
        longest.append(max(len(suffix) for _, (_, _, suffix) in cuts))
    assert all(0.5 * most < length <= most for length, most in zip(longest, STAGES, strict=True))
    assert num_lines > (0.35 if psm_share == 1 else 0.25) * 500
    assert num_spm == (0 if psm_share == 1 else pytest.approx(100, abs=30))


def test_the_seed_decides_and_what_is_longer_than_a_row_is_left_out(tokenizer: DocumentTokenizer):
    def ids(seed: int, seq_len: int) -> list[list[int]]:
        config = CONFIG.model_copy(update={"seed": seed})
        stages = make_stages(TEXTS, config, tokenizer, seq_len=seq_len)
        return [piece.input_ids.tolist() for stage in stages for pieces in stage for piece in pieces]

    assert ids(0, 2048) == ids(0, 2048) != ids(1, 2048)
    assert ids(0, 64) == [each for each in ids(0, 2048) if len(each) <= 64]
    assert 0 < len(ids(0, 64)) < 500


def test_no_text_gives_no_infilling(tokenizer: DocumentTokenizer):
    assert list(make_stages([], CONFIG, tokenizer, seq_len=64)) == [[]] * len(STAGES)
    assert list(make_stages(TEXTS[1:2], CONFIG, tokenizer, seq_len=64)) == [[[]]] * len(STAGES)


def test_a_tokenizer_without_infill_tokens_is_refused(tiny_base: Path):
    with pytest.raises(ModelError, match="the tokenizer has no infill tokens"):
        next(make_stages(TEXTS, CONFIG, DocumentTokenizer(tiny_base), seq_len=64))
