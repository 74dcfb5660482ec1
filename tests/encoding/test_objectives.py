"""Every objective can be undone: the text comes back from its pieces byte for byte.

Infilling has Code Llama's exact layout. Causal masking moves spans after their sentinels and learns no sentinel. Masked
modelling masks the configured share.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding import IGNORED, DocumentTokenizer, control_names
from flyte_llama.encoding.encode import make_pieces
from flyte_llama.encoding.objectives import clm, draw_poisson, infill_layout, layout_from_parts, mlm
from flyte_llama.encoding.pieces import KeyedText, Piece, layout_pieces
from flyte_llama.errors import DataError, ModelError
from tests.conftest import TEXTS
from tests.encoding.llama import (
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
SPANS = ObjectiveConfig(kind="causal_masked", mean_spans=2.0, max_spans=4)
# Llama's tokenizer decodes ▁ as a blank, so a text with ▁ cannot be restored.
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=200)
SOURCES = st.lists(st.sampled_from(["x", " ", "  ", "\t", "\r\n", "\n", "def ", "世界", "🦙", "☺", "return"])).map(
    "".join
)
MASK = 99
IDS = st.lists(st.integers(2, 90), max_size=60).map(lambda ids: np.array([0, *ids, 1], dtype=np.int32))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> DocumentTokenizer:
    return DocumentTokenizer(write_llama(tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def lay_out(tokenizer: DocumentTokenizer, middle: str, *, is_psm: bool) -> list[int]:
    assert tokenizer.infill
    layout = layout_from_parts(
        PREFIX, middle, SUFFIX, is_psm=is_psm, tokens=tokenizer.infill, bos_ids=tokenizer.bos_ids
    )
    (piece,) = layout_pieces([layout], tokenizer)
    return piece.input_ids.tolist()


def restore_text(piece: Piece, tokenizer: DocumentTokenizer, *, is_psm: bool) -> str:
    """The original text of an infilling piece, put together from its ids."""
    ids = piece.input_ids.tolist()
    assert tokenizer.infill
    prefix, suffix, middle, end = tokenizer.infill
    assert ids[: len(tokenizer.bos_ids) + 1] == [*tokenizer.bos_ids, prefix]
    assert [ids.count(token) for token in tokenizer.infill] == [1, 1, 1, 1]
    assert ids[-1] == end
    before = ids[len(tokenizer.bos_ids) + 1 : ids.index(suffix)]
    after = tokenizer.decode_infix(ids[ids.index(suffix) + 1 : ids.index(middle)])
    filled = ids[ids.index(middle) + 1 : -1]
    if not is_psm:
        assert not before
        return tokenizer.decode(filled) + after
    return tokenizer.decode(before) + tokenizer.decode_infix(filled) + after


def restore_spans(piece: Piece, tokenizer: DocumentTokenizer) -> tuple[str, int]:
    """The original text of a piece, and the number of spans that were moved."""
    ids = piece.input_ids.tolist()
    assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
    sentinels = [tokenizer.id_of(f"<mask:{n}>") for n in range(16)]
    positions = [index for index, id_ in enumerate(ids) if id_ in sentinels]
    num_spans = len(positions) // 2
    assert [ids[index] for index in positions] == [*sentinels[:num_spans], *sentinels[:num_spans]]
    ends = [0, *positions, len(ids) - 1]
    parts = [tokenizer.decode(ids[a + 1 : b]) for a, b in itertools.pairwise(ends)]
    remaining, moved = parts[: num_spans + 1], parts[num_spans + 1 :]
    # The last remaining part ends at the first moved span, so there is one more part than spans.
    text = "".join(a + b for a, b in zip(remaining, [*moved, ""], strict=True))
    assert piece.labels.tolist() == [IGNORED if n in (0, *positions) else id_ for n, id_ in enumerate(ids)]
    return text, num_spans


def make_masked(ids: np.ndarray, *, share: float = 0.3, seed: int = 0, seq_len: int = 16) -> list[Piece]:
    rng = random.Random(seed)  # noqa: S311  # no secret
    return mlm(ids, rng, mask_id=MASK, mask_share=share, control_ids=frozenset({0, 1}), seq_len=seq_len)


def test_prefix_suffix_middle_has_the_published_ids(llama: DocumentTokenizer):
    prompt = [BOS, PRE, *PREFIX_IDS, SUF, *SUFFIX_IDS, MID]
    assert lay_out(llama, MIDDLE, is_psm=True) == [*prompt, *MIDDLE_IDS, EOT]
    assert lay_out(llama, "", is_psm=True) == [*prompt, EOT]
    assert lay_out(llama, "test", is_psm=True) == [*prompt, *llama.encode_infix(["test"])[0].tolist(), EOT]


def test_suffix_prefix_middle_encodes_prefix_and_middle_as_one(llama: DocumentTokenizer):
    prompt = [BOS, PRE, SUF, *SUFFIX_IDS, MID]
    assert lay_out(llama, "", is_psm=False) == [*prompt, *PREFIX_IDS, EOT]
    # The blank at the end of the prefix and the middle become one token, as in any text.
    assert lay_out(llama, "test", is_psm=False) == [*prompt, *PREFIX_IDS[:-1], 1243, EOT]


@pytest.mark.parametrize("kind", ["llama", "byte level"])
def test_a_rewritten_text_comes_back_character_for_character(kind: str, llama: DocumentTokenizer, all_base: Path):
    tokenizer = llama if kind == "llama" else DocumentTokenizer(all_base)
    tokens = tokenizer.infill
    assert tokens

    @given(text=TEXT | SOURCES, seed=st.integers(0, 2**32), is_psm=st.booleans())
    def round_trip(text: str, seed: int, is_psm: bool) -> None:
        rng = random.Random(seed)  # noqa: S311  # no secret
        shares = {"psm_share": float(is_psm), "line_share": 0.5}
        layout = infill_layout(text, rng, **shares, tokens=tokens, bos_ids=tokenizer.bos_ids)
        (piece,) = layout_pieces([layout], tokenizer)
        assert restore_text(piece, tokenizer, is_psm=is_psm) == text

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
    pieces_by_text = list(make_pieces(texts, config, tokenizer, seq_len=seq_len, epoch=0))
    assert all(len(piece.input_ids) <= seq_len for pieces in pieces_by_text for piece in pieces)
    back = ["".join(restore_text(piece, tokenizer, is_psm=is_psm) for piece in pieces) for pieces in pieces_by_text]
    assert back == [text.text for text in texts]
    assert max(map(len, pieces_by_text)) > 1


def test_pieces_of_a_long_document_nearly_fill_their_rows(all_base: Path):
    tokenizer = DocumentTokenizer(all_base)
    (pieces,) = make_pieces([KeyedText("a", "".join(TEXTS) * 40)], FIM, tokenizer, seq_len=128, epoch=0)
    lengths = [len(piece.input_ids) for piece in pieces[:-1]]
    assert len(lengths) > 20
    assert sum(lengths) / len(lengths) > 0.95 * 128


def test_all_tokens_are_learned_but_the_first(llama: DocumentTokenizer):
    ((piece,),) = make_pieces([KeyedText("a", PREFIX)], FIM, llama, seq_len=64, epoch=0)
    assert piece.labels.tolist() == [IGNORED, *piece.input_ids[1:].tolist()]
    assert not piece.bidirectional


def test_the_cuts_are_uniform_over_characters_and_the_shares_are_as_configured(llama: DocumentTokenizer):
    assert llama.infill
    config = ObjectiveConfig(kind="fim", rate=0.9, psm_share=0.25, line_share=0.0)
    texts = [KeyedText(str(n), "".join(map(chr, range(48, 58)))) for n in range(2000)]
    ids = [piece.input_ids.tolist() for (piece,) in make_pieces(texts, config, llama, seq_len=64, epoch=0)]
    rewritten = [text_ids for text_ids in ids if PRE in text_ids]
    assert len(rewritten) == pytest.approx(1800, abs=60)
    # With an empty prefix, 21 times in 121, the two orders look the same.
    assert sum(text_ids[2] != SUF for text_ids in rewritten) == pytest.approx(450 * 100 / 121, abs=60)
    suffixes = [text_ids.index(MID) - text_ids.index(SUF) - 1 for text_ids in rewritten]
    # With two uniform cuts among 11 places, the suffix has k characters with probability (2(10 - k) + 1)/121.
    for k in range(11):
        assert suffixes.count(k) == pytest.approx(1800 * (2 * (10 - k) + 1) / 121, abs=70)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_whole_lines_begin_at_their_code_and_end_before_a_line_end(llama: DocumentTokenizer, line_end: str):
    lines = ["def f(x):", "", "    if x:", "        return 1", "    return 2"]
    assert llama.infill
    cuts = Counter()
    for seed in range(2000):
        rng = random.Random(seed)  # noqa: S311  # no secret
        layout = infill_layout(
            line_end.join([*lines, ""]), rng, psm_share=1.0, line_share=1.0, tokens=llama.infill, bos_ids=[]
        )
        prefix, suffix, middle = (part.text for part in layout.segments if not isinstance(part, int))
        assert prefix == "" or prefix[-1] in "\n "
        assert middle.removeprefix(" ").startswith(tuple(line.strip() for line in lines if line))
        assert not suffix or suffix.startswith(line_end)
        cuts[len(middle.split(line_end))] += 1
    # Each line but the blank one is first as often. The first is the only one in half of all cases, the last always.
    assert cuts[1] == pytest.approx(2000 * (3 * 0.5 + 1) / 4, abs=120)


def test_a_text_that_is_not_rewritten_is_plain_language_modelling(llama: DocumentTokenizer):
    plain = ObjectiveConfig(kind="fim", rate=0.0)
    ((piece,),) = make_pieces([KeyedText("a", PREFIX)], plain, llama, seq_len=64, epoch=0)
    assert piece.input_ids.tolist() == [BOS, *PREFIX_IDS, llama.eos_id]


def test_a_row_without_room_for_a_character_is_refused(llama: DocumentTokenizer):
    with pytest.raises(DataError, match=r"training.seq_len = 5: has no room"):
        list(make_pieces([KeyedText("a", "xyz")], FIM, llama, seq_len=5, epoch=0))


def test_a_base_without_infill_tokens_is_refused_with_their_names(tmp_path: Path):
    tokenizer = DocumentTokenizer(write_llama(tmp_path, infill=False))
    assert control_names(FIM, tokenizer) == ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
    with pytest.raises(ModelError, match="lacks ▁<PRE>, ▁<SUF>, ▁<MID>, ▁<EOT>"):
        list(make_pieces([KeyedText("a", "xyz")], FIM, tokenizer, seq_len=64, epoch=0))


def test_a_text_with_moved_spans_comes_back(tokenizer: DocumentTokenizer):
    @given(TEXT | SOURCES, st.integers(0, 99))
    def round_trip(text: str, seed: int) -> None:
        config = SPANS.model_copy(update={"seed": seed})
        (pieces,) = make_pieces([KeyedText("a", text)], config, tokenizer, seq_len=2000, epoch=0)
        assert [restore_spans(piece, tokenizer)[0] for piece in pieces] == [text]

    round_trip()


def test_long_texts_with_moved_spans_come_back_from_pieces_that_fit(tokenizer: DocumentTokenizer):
    texts = [KeyedText(str(n), text * 9) for n, text in enumerate(TEXTS)]
    for text, pieces in zip(texts, make_pieces(texts, SPANS, tokenizer, seq_len=64, epoch=0), strict=True):
        assert len(pieces) > 1
        assert all(len(piece.input_ids) <= 64 for piece in pieces)
        assert "".join(restore_spans(piece, tokenizer)[0] for piece in pieces) == text.text


def test_the_number_of_spans_is_poisson_distributed_between_1_and_max_spans(tokenizer: DocumentTokenizer):
    texts = [KeyedText(str(n), "x = 1\n") for n in range(1000)]
    drawn = Counter(
        restore_spans(piece, tokenizer)[1] for (piece,) in make_pieces(texts, SPANS, tokenizer, seq_len=64, epoch=0)
    )
    # Poisson(2): 0 or 1 with 0.406, 2 with 0.271, 3 with 0.180, 4 or more with 0.143.
    expected = {1: 406, 2: 271, 3: 180, 4: 143}
    assert set(drawn) == set(expected)
    assert all(drawn[n] == pytest.approx(share, abs=50) for n, share in expected.items())


def test_poisson_draws_have_the_right_mean_and_variance():
    rng = random.Random(0)  # noqa: S311  # no secret
    drawn = [draw_poisson(3.0, rng) for _ in range(5000)]
    mean = sum(drawn) / 5000
    assert mean == pytest.approx(3.0, abs=0.1)
    assert sum((count - mean) ** 2 for count in drawn) / 5000 == pytest.approx(3.0, abs=0.25)


def test_a_document_longer_than_a_row_is_cut_into_full_rows_and_a_rest():
    pieces = clm(np.arange(7, dtype=np.int32), seq_len=3)
    assert [piece.input_ids.tolist() for piece in pieces] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [piece.labels.tolist() for piece in pieces] == [[IGNORED, 1, 2], [IGNORED, 4, 5], [IGNORED]]
    assert not any(piece.bidirectional for piece in pieces)


@given(ids=IDS, seed=st.integers(0, 99), share=st.floats(0.01, 0.99))
def test_masked_ids_and_their_labels_give_back_the_document(ids: np.ndarray, seed: int, share: float):
    pieces = make_masked(ids, seed=seed, share=share)
    back = np.concatenate([np.where(piece.labels == IGNORED, piece.input_ids, piece.labels) for piece in pieces])
    assert back.tolist() == ids.tolist()
    for piece in pieces:
        assert piece.bidirectional
        assert ((piece.input_ids == MASK) == (piece.labels != IGNORED)).all()
        assert piece.labels[0] == IGNORED
        assert not {0, 1} & set(piece.labels.tolist())
        maskable = set(piece.input_ids[1:].tolist()) - {0, 1}
        assert (piece.labels != IGNORED).any() == bool(maskable)


def test_the_share_of_masked_tokens_is_as_configured():
    ids = np.full(20_000, 7, dtype=np.int32)
    (piece,) = make_masked(ids, share=0.2, seq_len=20_000)
    assert (piece.labels != IGNORED).mean() == pytest.approx(0.2, abs=0.01)


def test_a_piece_without_a_mask_is_given_one():
    pieces = [make_masked(np.array([0, 5, 6, 1], dtype=np.int32), share=1e-9, seed=seed)[0] for seed in range(20)]
    assert {tuple(piece.input_ids.tolist()) for piece in pieces} == {(0, MASK, 6, 1), (0, 5, MASK, 1)}


def test_documents_are_masked_with_the_tokenizers_mask_token(all_base: Path):
    tokenizer = DocumentTokenizer(all_base)
    config = ObjectiveConfig(kind="mlm", mask_share=0.5)
    for (piece,), text in zip(
        make_pieces([KeyedText(text, text) for text in TEXTS], config, tokenizer, seq_len=256, epoch=0),
        TEXTS,
        strict=True,
    ):
        assert tokenizer.id_of("<mask>") in piece.input_ids
        back = np.where(piece.labels == IGNORED, piece.input_ids, piece.labels)
        assert back.tolist() == next(map(tokenizer.add_bos_eos, tokenizer.encode([text]))).tolist()
