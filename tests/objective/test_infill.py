"""Infilling: Code Llama's layout to the id, and every document back byte for byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config import ObjectiveConfig
from flyte_llama.errors import DataError, ModelError
from flyte_llama.objective import IGNORED, KeyedText, Piece, control_names, infill_layout, learn
from flyte_llama.objective.infill import cut_layout
from flyte_llama.objective.layout import layout_pieces
from flyte_llama.tokens import DocumentTokenizer
from tests.conftest import TEXTS
from tests.tokens.llama import (
    BOS,
    EOT,
    MID,
    MIDDLE,
    MIDDLE_IDS,
    PRE,
    PREFIX,
    PREFIX_IDS,
    SUF,
    SUFFIX,
    SUFFIX_IDS,
    write_llama,
)

FIM = ObjectiveConfig(kind="fim", rate=1.0)
# Llama's own tokenizer takes ▁ for a blank, so no text with it comes back.
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=200)
SOURCES = st.lists(st.sampled_from(["x", " ", "  ", "\t", "\r\n", "\n", "def ", "世界", "🦙", "☺", "return"])).map(
    "".join
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> DocumentTokenizer:
    return DocumentTokenizer(write_llama(tmp_path_factory.mktemp("llama")))


def laid_out(tokenizer: DocumentTokenizer, middle: str, *, is_psm: bool) -> list[int]:
    assert tokenizer.infill
    layout = cut_layout(PREFIX, middle, SUFFIX, is_psm=is_psm, tokens=tokenizer.infill, head=tokenizer.head)
    (piece,) = layout_pieces([layout], tokenizer)
    return piece.input_ids.tolist()


def unfilled(piece: Piece, tokenizer: DocumentTokenizer, *, is_psm: bool) -> str:
    """The text of an infilling piece, by its ids."""
    ids = piece.input_ids.tolist()
    assert tokenizer.infill
    prefix, suffix, middle, end = tokenizer.infill
    assert ids[: len(tokenizer.head) + 1] == [*tokenizer.head, prefix]
    assert [ids.count(one) for one in tokenizer.infill] == [1, 1, 1, 1]
    assert ids[-1] == end
    before = ids[len(tokenizer.head) + 1 : ids.index(suffix)]
    after = tokenizer.decode_infix(ids[ids.index(suffix) + 1 : ids.index(middle)])
    filled = ids[ids.index(middle) + 1 : -1]
    if not is_psm:
        assert not before
        return tokenizer.decode(filled) + after
    return tokenizer.decode(before) + tokenizer.decode_infix(filled) + after


def test_prefix_suffix_middle_has_the_published_ids(llama: DocumentTokenizer):
    prompt = [BOS, PRE, *PREFIX_IDS, SUF, *SUFFIX_IDS, MID]
    assert laid_out(llama, MIDDLE, is_psm=True) == [*prompt, *MIDDLE_IDS, EOT]
    assert laid_out(llama, "", is_psm=True) == [*prompt, EOT]
    assert laid_out(llama, "test", is_psm=True) == [*prompt, *llama.encode_infix(["test"])[0].tolist(), EOT]


def test_suffix_prefix_middle_encodes_prefix_and_middle_as_one(llama: DocumentTokenizer):
    prompt = [BOS, PRE, SUF, *SUFFIX_IDS, MID]
    assert laid_out(llama, "", is_psm=False) == [*prompt, *PREFIX_IDS, EOT]
    # The blank that the prefix ends in and the middle become one token, as they are in running text.
    assert laid_out(llama, "test", is_psm=False) == [*prompt, *PREFIX_IDS[:-1], 1243, EOT]


@pytest.mark.parametrize("kind", ["llama", "byte level"])
def test_a_rewritten_text_comes_back_character_for_character(kind: str, llama: DocumentTokenizer, all_base: Path):
    tokenizer = llama if kind == "llama" else DocumentTokenizer(all_base)
    tokens = tokenizer.infill
    assert tokens

    @given(text=TEXT | SOURCES, seed=st.integers(0, 2**32), is_psm=st.booleans())
    def round_trip(text: str, seed: int, is_psm: bool) -> None:
        rng = random.Random(seed)  # noqa: S311  # no secret
        layout = infill_layout(text, rng, psm_share=float(is_psm), tokens=tokens, head=tokenizer.head)
        (piece,) = layout_pieces([layout], tokenizer)
        assert unfilled(piece, tokenizer, is_psm=is_psm) == text

    round_trip()


@pytest.mark.parametrize("is_psm", [False, True])
@pytest.mark.parametrize("seq_len", [24, 64, 200])
@pytest.mark.parametrize("kind", ["llama", "byte level"])
def test_long_documents_come_back_from_pieces_that_fit(
    kind: str, llama: DocumentTokenizer, all_base: Path, seq_len: int, is_psm: bool
):
    tokenizer = llama if kind == "llama" else DocumentTokenizer(all_base)
    texts = [KeyedText(str(n), text * 9) for n, text in enumerate([*TEXTS, "\r\n  grüße\r\n", "🦙" * 40, "  x"])]
    config = ObjectiveConfig(kind="fim", rate=1.0, psm_share=float(is_psm))
    found = list(learn(texts, config, tokenizer, seq_len=seq_len, epoch=0))
    assert all(len(piece.input_ids) <= seq_len for pieces in found for piece in pieces)
    back = ["".join(unfilled(piece, tokenizer, is_psm=is_psm) for piece in pieces) for pieces in found]
    assert back == [text.text for text in texts]
    assert max(map(len, found)) > 1


def test_pieces_of_a_long_document_nearly_fill_their_rows(all_base: Path):
    tokenizer = DocumentTokenizer(all_base)
    (pieces,) = learn([KeyedText("a", "".join(TEXTS) * 40)], FIM, tokenizer, seq_len=128, epoch=0)
    lengths = [len(piece.input_ids) for piece in pieces[:-1]]
    assert len(lengths) > 20
    assert sum(lengths) / len(lengths) > 0.95 * 128


def test_all_tokens_are_learned_but_the_first(llama: DocumentTokenizer):
    ((piece,),) = learn([KeyedText("a", PREFIX)], FIM, llama, seq_len=64, epoch=0)
    assert piece.labels.tolist() == [IGNORED, *piece.input_ids[1:].tolist()]
    assert not piece.bidirectional


def test_the_cuts_are_uniform_characters_and_the_shares_are_kept(llama: DocumentTokenizer):
    assert llama.infill
    config = ObjectiveConfig(kind="fim", rate=0.9, psm_share=0.25)
    texts = [KeyedText(str(n), "".join(map(chr, range(48, 58)))) for n in range(2000)]
    ids = [piece.input_ids.tolist() for (piece,) in learn(texts, config, llama, seq_len=64, epoch=0)]
    rewritten = [one for one in ids if PRE in one]
    assert len(rewritten) == pytest.approx(1800, abs=60)
    # Without a prefix, 21 of 121 times, the two orders look the same.
    assert sum(one[2] != SUF for one in rewritten) == pytest.approx(450 * 100 / 121, abs=60)
    suffixes = [one.index(MID) - one.index(SUF) - 1 for one in rewritten]
    # Of two uniform cuts among 11 places, the later one leaves k characters behind with the chance (2(10 - k) + 1)/121.
    for k in range(11):
        assert suffixes.count(k) == pytest.approx(1800 * (2 * (10 - k) + 1) / 121, abs=70)


def test_a_text_that_is_not_rewritten_is_plain_language_modelling(llama: DocumentTokenizer):
    plain = ObjectiveConfig(kind="fim", rate=0.0)
    ((piece,),) = learn([KeyedText("a", PREFIX)], plain, llama, seq_len=64, epoch=0)
    assert piece.input_ids.tolist() == [BOS, *PREFIX_IDS, llama.eos_id]


def test_a_row_without_room_for_a_character_is_refused(llama: DocumentTokenizer):
    with pytest.raises(DataError, match=r"training.seq_len = 5: has no room"):
        list(learn([KeyedText("a", "xyz")], FIM, llama, seq_len=5, epoch=0))


def test_a_base_without_infill_tokens_is_refused_by_name(tmp_path: Path):
    tokenizer = DocumentTokenizer(write_llama(tmp_path, infill=False))
    assert control_names(FIM, tokenizer) == ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
    with pytest.raises(ModelError, match="lacks ▁<PRE>, ▁<SUF>, ▁<MID>, ▁<EOT>"):
        list(learn([KeyedText("a", "xyz")], FIM, tokenizer, seq_len=64, epoch=0))
