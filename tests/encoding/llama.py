"""A part of Llama's SentencePiece vocabulary with the real ids and merges, in the form of Code Llama's tokenizer.json.

It holds all characters and merges that occur while `PUBLISHED`, `PREFIX`, `MIDDLE` and `SUFFIX` are encoded, so these
texts get the same ids as from the whole vocabulary. Any other character falls back to its bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

# Meta's example of infilling, with the ids that Meta's code gives it (ggml-org/llama.cpp, issue 3503).
PREFIX = 'def remove_non_ascii(s: str) -> str:\n    """ '
SUFFIX = "\n    return result\n"
# The middle that CodeLlama-7B generated for it, with its ids (the integration test of CodeLlama in transformers).
MIDDLE = (
    "Remove non-ASCII characters from a string.\n\n    Args:\n        s: The string to remove non-ASCII characters "
    "from.\n\n    Returns:\n        The string with non-ASCII characters removed.\n    "
    '"""\n    result = ""\n    for c in s:\n        if ord(c) < 128:\n            result += c'
)
# fmt: off
PREFIX_IDS = [822, 3349, 29918, 5464, 29918, 294, 18869, 29898, 29879, 29901, 851, 29897, 1599, 851, 29901, 13, 1678,
              9995, 29871]
SUFFIX_IDS = [13, 1678, 736, 1121, 13]
MIDDLE_IDS = [
    15941, 1661, 29899, 28599, 2687, 4890, 515, 263, 1347, 29889, 13, 13, 1678, 826, 3174, 29901, 13, 4706, 269,
    29901, 450, 1347, 304, 3349, 1661, 29899, 28599, 2687, 4890, 515, 29889, 13, 13, 1678, 16969, 29901, 13, 4706,
    450, 1347, 411, 1661, 29899, 28599, 2687, 4890, 6206, 29889, 13, 1678, 9995, 13, 1678, 1121, 353, 5124, 13, 1678,
    363, 274, 297, 269, 29901, 13, 4706, 565, 4356, 29898, 29883, 29897, 529, 29871, 29896, 29906, 29947, 29901, 13,
    9651, 1121, 4619, 274,
]
BOS, PRE, SUF, MID, EOT = 1, 32007, 32008, 32009, 32010
# From the tests of transformers' CodeLlamaTokenizer.
PUBLISHED = {
    "This is a test": [910, 338, 263, 1243],
    "生活的真谛是": [29871, 30486, 31704, 30210, 30848, 235, 179, 158, 30392],
    "Hi  Hello": [6324, 29871, 15043],
    "Hi   Hello": [6324, 259, 15043],
    "": [],
    " ": [259],
    "  ": [1678],
    " Hello": [29871, 15043],
}
_CHARACTERS = {
    '"': 29908, "(": 29898, ")": 29897, "+": 29974, "-": 29899, ".": 29889, "1": 29896, "2": 29906, "8": 29947,
    ":": 29901, "<": 29966, "=": 29922, ">": 29958, "A": 29909, "C": 29907, "H": 29950, "I": 29902, "R": 29934,
    "S": 29903, "T": 29911, "_": 29918, "a": 29874, "c": 29883, "d": 29881, "e": 29872, "f": 29888, "g": 29887,
    "h": 29882, "i": 29875, "l": 29880, "m": 29885, "n": 29876, "o": 29877, "r": 29878, "s": 29879, "t": 29873,
    "u": 29884, "v": 29894, "w": 29893, "▁": 29871, "☺": 31171, "是": 30392, "活": 31704, "生": 30486, "的": 30210,
    "真": 30848,
}
# Merges in the order of their priority, each with the id of the merged token.
_MERGES = [
    ("▁", "t", 260), ("e", "r", 261), ("i", "n", 262), ("▁", "a", 263), ("o", "n", 265), ("e", "s", 267),
    ("▁", "s", 269), ("▁", "d", 270), ("o", "r", 272), ("▁", "c", 274), ("i", "s", 275), ("r", "e", 276),
    ("i", "t", 277), ("a", "r", 279), ("▁", "w", 281), ("▁", "f", 285), ("e", "d", 287), ("o", "m", 290),
    ("in", "g", 292), ("a", "s", 294), ("e", "l", 295), ("▁", "in", 297), ("e", "t", 300), ("▁", "n", 302),
    ("▁t", "o", 304), ("c", "t", 312), ("▁d", "e", 316), ("▁", "A", 319), ("▁", "T", 323), ("e", "m", 331),
    ("u", "r", 332), ("▁", "re", 337), ("▁", "is", 338), ("es", "t", 342), ("v", "e", 345), ("u", "l", 352),
    ("▁", "=", 353), ("h", "e", 354), ("i", "f", 361), ("▁f", "or", 363), ("▁", "r", 364), ("▁", '"', 376),
    ("▁", "H", 379), ("▁s", "t", 380), ("it", "h", 389), ("▁", "R", 390), ("▁w", "ith", 411), ("er", "s", 414),
    ("l", "o", 417), ("▁", "-", 448), ("▁T", "he", 450), ("c", "i", 455), ("r", "om", 456), ("▁", "or", 470),
    ("▁T", "h", 498), ("ul", "t", 499), ("▁f", "rom", 515), ("▁c", "h", 521), ("▁", "<", 529), ("▁", "if", 565),
    ("o", "v", 586), ("ur", "n", 595), ("▁r", "es", 620), ("a", "ct", 627), ("t", "urn", 685), ("▁", "+", 718),
    ("▁re", "turn", 736), ("▁de", "f", 822), ("▁A", "r", 826), ("▁st", "r", 851), ("▁Th", "is", 910),
    ("o", "ve", 994), ("▁re", "m", 1083), ("▁res", "ult", 1121), ("▁t", "est", 1243), ("▁str", "ing", 1347),
    ("▁ch", "ar", 1373), ("▁-", ">", 1599), ("▁n", "on", 1661), ("▁char", "act", 2150), ("I", "I", 2687),
    ("el", "lo", 3156), ("g", "s", 3174), ("A", "S", 3289), ("▁rem", "ove", 3349), ("▁rem", "ov", 4030),
    ("▁or", "d", 4356), ("▁+", "=", 4619), ("▁R", "et", 4649), ("▁charact", "ers", 4890), ('▁"', '"', 5124),
    ("▁R", "em", 5240), ("n", "on", 5464), ("▁remov", "ed", 6206), ("▁H", "i", 6324), ("▁Ret", "urn", 7106),
    ("R", "em", 7301), ('▁""', '"', 9995), ("▁H", "ello", 15043), ("▁Rem", "ove", 15154), ("Rem", "ove", 15941),
    ("▁Return", "s", 16969), ("ci", "i", 18869), ("AS", "C", 28599), ("▁", "▁", 259), ("▁▁", "▁▁", 268),
    ("▁▁▁▁", "▁▁▁▁", 308), ("▁▁▁▁", "▁▁", 539), ("▁▁▁▁▁▁▁▁", "▁▁", 965), ("▁▁", "▁", 1678), ("▁▁▁▁▁▁", "▁", 4706),
    ("▁▁▁▁▁▁▁▁▁▁", "▁", 9651),
]
# fmt: on
_INFILL = {"▁<PRE>": PRE, "▁<SUF>": SUF, "▁<MID>": MID, "▁<EOT>": EOT}


def write_llama(folder: Path, *, infill: bool = True, more_merges: tuple[tuple[str, str, int], ...] = ()) -> Path:
    """Write the tokenizer in the hub's format; `more_merges` are applied before all others and add their tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = {"<unk>": 0, "<s>": 1, "</s>": 2} | (_INFILL if infill else {})
    merges = [*more_merges, *_MERGES]
    vocabulary = {
        **added,
        **{f"<0x{byte:02X}>": byte + 3 for byte in range(256)},
        **_CHARACTERS,
        **{left + right: id_ for left, right, id_ in merges},
    }
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    unblank = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    first_blank = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    bos, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    content = {
        "version": "1.0",
        "added_tokens": [{"id": id_, "content": name, **flags} for name, id_ in added.items()],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, blank]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, text],
            "pair": [bos, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [unblank, {"type": "ByteFallback"}, {"type": "Fuse"}, first_blank]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": [[left, right] for left, right, _ in merges],
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return folder
