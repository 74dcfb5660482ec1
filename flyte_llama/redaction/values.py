"""Whether a value in the position of a secret can be one: random, and not a name, a template, or a sample.

    is_token(value)      after a provider's prefix, such as ghp_      few sample words, enough distinct characters
    is_password(value)   where only passwords stand, as in a URL      not a template, not made of stock words
    is_random(value)     after a name such as `token`                 looks drawn at random
    is_code(text, …)     by the text around it                        a name in code, the tag of an image, an ARN

Nothing is searched for here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

_MASKED = "xxxx"
# The last two are how the published keys of the Azurite and Cosmos emulators start (learn.microsoft.com, "Use the
# emulator").
_SAMPLE = re.compile(
    r"example|your|placeholder|redacted|change_?me|dummy|xxxx|\*\*\*|\.\.\.|123456789|abcdefgh|"
    r"Eby8vdM02xNOcqFlqUwJ|C2y6yDjf5/R\+ob0N8A7C",
    re.IGNORECASE,
)
# A value to be filled in, in the notation of shells, templates, format strings and prose.
_FILLED_IN = re.compile(r"\$\{|\{\{|\}\}|\$\(|^[$<{\[(]|[>})\]]$|^%.*%$|%[svd(]")
# The same, and variables inside of a text without blanks. `$` alone may be a character of a password.
_VARIABLE = re.compile(r"^[$@%]\w|^#?\{|[\w)]\}$|\w\[\w+\]|\w\(|\w->\w|^\*|::")
_STOCK_WORDS = """
    a abc access admin an api auth bar baz change changeme db default dummy example fake flyte foo guest here hidden
    key keys me minio mongo my mysql name none null or pass passwd password placeholder postgres postgresql pw pwd
    qwerty rabbit redacted redis removed root sample secret secrets some string super test testing the token tokens
    user username value x xyz y your z
"""
# Longest word first, with a possessive `++`, so that no value makes the expression backtrack. Up to four digits may
# follow, as in foo1234.
_STOCK = re.compile(
    rf"(?:{'|'.join(sorted(_STOCK_WORDS.split(), key=len, reverse=True))}|[\W_]|(?<!\d)\d{{1,4}}(?!\d))++",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# An address of Ethereum, which is public; a private key has 64 digits.
_ADDRESS = re.compile(r"0x[0-9a-f]{40}", re.IGNORECASE)
# Words in a name such as OAuth2TokenSource, K8S_TOKEN or model_v2. In random text, runs of one case are shorter.
_WORDS = re.compile(
    r"[A-Z]?[a-z]{3,}|[A-Z]{4,}(?![a-z])|OAuth2?|K8[sS]|S3|EC2|AWS(?=[A-Z][a-z])|Ref|Key|For|App|Api|Set|Url|Id(?![a-z])|"
    r"V\d\b"
)
_PART = re.compile(r"[A-Za-z0-9]+")
_PLAIN_PART = re.compile(r"(?:[A-Z]?[a-z]*|[A-Z]+)\d{0,4}|[a-z]{3,}\d{1,2}[a-z]|v\d+(?:alpha|beta)\d+|\w{1,3}")
# Words, each with a number behind it at most.
PLAIN = re.compile(r"(?:(?:(?:[A-Z]?[a-z]++)++|[A-Z]++)?\d{0,4}+(?![A-Za-z0-9])[^A-Za-z0-9]*+)++", re.ASCII)
_SYMBOLS = re.compile(r"[!@#$%^&*+=?~]")
# `v1.2.3-4f5a6b7c`, `1.2.3.dev20240101a1b2c3`.
_VERSION = re.compile(r"^[v^~=]{0,2}\d{1,3}\.\d{1,4}(?:[.+-]|\w{1,4}[.\d])")
# `./data/a1`, `data/set-1.csv`, `.api.v1_api`, `timm/vit_base_p32.laion2b_ft`.
_FILE = re.compile(r"^(?:\.{1,2}|~)/|^\.[a-z]\w*\.|/.*\.[a-z][a-z0-9]{0,4}$|^[a-z]+/[a-z]+_\w+\.")
# Before a tag of an image, or in a name of AWS: `acme/token-service:`, `FROM token-service:`, `arn:aws:…:secret:`.
_IMAGE = re.compile(
    r"""(?:\w/|\barn:[\w:/.-]{0,100}:|\bimages?["']?\s?[:=]\s{0,4}["']?|\bFROM\s+|\bdocker[ \t][^\n]{0,60}[ \t])"""
    r"[\w.-]{1,60}:\Z"
)
_MAX_IMAGE = 140
# After a name in code: an item of a list, a type.
_AFTER_NAME = re.compile(r"\s{0,2}(?:[),|\[{]|=\s)")
# Around a name in quotes in a list: `"Qwen2MoeForTokenClassification", "Qwen2MoePreTrainedModel"]`.
_BEFORE_ITEM = re.compile(r"""["'],\s{0,40}["']\Z""")
_AFTER_ITEM = re.compile(r"""["']\s{0,4}[,\]]""")
_MAX_ITEM = 48
_QUOTES = "\"'`"
_CODE_WORDS = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}(?![a-z])")
# `0x9E3779B9`, `prob=0.1`, `2*layers*hidden`.
_NUMBER = re.compile(r"^0x[0-9a-fA-F]{1,16}[uUlL]{0,3}$|^[a-z_]{3,}=[\d.]+$|^\d\*[a-z_*]+$")
# `x25519.X25519PrivateKey`.
_ATTRIBUTE = re.compile(r"^(?:[a-z_][a-z0-9_]*\.)+[A-Z]\w*[a-z]{4}\w*$")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}", re.IGNORECASE)
_MIN_DISTINCT = 8
_MANY_SYMBOLS = 6
_MIN_LETTERS = 3
# Share of a name's characters that belong to words, without and with a digit in it. Of random letters, 0.4 do.
_MIN_WORDS, _MIN_WORDS_AND_DIGITS = 0.75, 0.7
_MIN_CODE_WORDS = 0.8
# Share of neighbouring characters of different classes that random text exceeds: 0.40 are expected of lower case and
# digits, 0.47 of hex, 0.50 of letters and 0.62 of all three.
_MIN_CHANGES_ONE_CASE = 0.2
_MIN_CHANGES = 0.33


def value_is(*checks: Callable[[str], bool]) -> Callable[[re.Match[str]], bool]:
    """Return a test of a match that passes if its value passes all checks."""
    return lambda match: all(check(match["value"]) for check in checks)


def is_token(value: str) -> bool:
    """Whether the part of a token after its provider's prefix can be real.

    It cannot if it has few distinct characters, holds neither digits nor capitals, is a name, or is marked as a sample.
    """
    is_lower = value == value.lower() and not any(char.isdigit() for char in value)
    if len(set(value)) < _MIN_DISTINCT or is_lower or _SAMPLE.search(value):
        return False
    return not is_name(value)


def is_password(value: str) -> bool:
    """Whether a value in a password's position, as in a URL, can be real: not a template, not made of stock words."""
    is_filled_in = _FILLED_IN.search(value) is not None
    return not is_filled_in and _MASKED not in value and _STOCK.fullmatch(value) is None


def is_strong_password(value: str) -> bool:
    """Whether a value that code assigns to a password can be real: random, or letters, digits and a symbol."""
    if is_random(value):
        return True
    symbols = len(_SYMBOLS.findall(value))
    if (
        not symbols
        or is_reference(value)
        or len(value) < _MIN_DISTINCT
        or not any(map(str.isdigit, value))
        or not any(map(str.isalpha, value))
    ):
        return False
    # Many symbols, as in a key of Django, are no code.
    is_code = symbols < _MANY_SYMBOLS and (_VARIABLE.search(value) or ":" in value or "/" in value)
    return not is_code and not _SAMPLE.search(value) and is_password(value)


def is_uuid(value: str) -> bool:
    """Whether a value is a UUID: a secret only where its name says so."""
    return _UUID.fullmatch(value) is not None


def is_name(value: str) -> bool:
    """Whether most of a value is words, as in `AutoModelForCausalLM`, `RAY_ENABLE_K8S_TOKEN` or `app-secret-v2`."""
    parts = _PART.findall(value)
    total = sum(map(len, parts))
    if not parts or all(_PLAIN_PART.fullmatch(part) for part in parts):
        return True
    # In lower case with digits, words are told from random text by their changes alone (`is_random`).
    has_cases = value != value.lower() and value != value.upper()
    words = sum(len(word) for part in parts for word in _WORDS.findall(part)) if has_cases else 0
    words += sum(len(part) for part in parts if not has_cases and (len(part) < 4 or part.isalpha()))
    return words >= (_MIN_WORDS if value.isalpha() else _MIN_WORDS_AND_DIGITS) * total


def is_reference(value: str) -> bool:
    """Whether a value says what or where something is: a version, a file, a number, or an attribute."""
    return any(pattern.search(value) for pattern in (_VERSION, _FILE, _NUMBER, _ATTRIBUTE))


def is_code(text: str, begin: int, end: int) -> bool:
    """Whether a value is a name in code, or without quotes one of an image or of AWS, by the text next to it."""
    if text[begin - 1 : begin] in _QUOTES:
        is_item = _BEFORE_ITEM.search(text, max(begin - _MAX_ITEM, 0), begin) and _AFTER_ITEM.match(text, end)
        return bool(is_item) and _is_identifier(text[begin:end])
    if text[end : end + 1] == "(":
        return True
    if text[begin - 1] == ":" and _IMAGE.search(text, max(begin - _MAX_IMAGE, 0), begin):
        return True
    return _AFTER_NAME.match(text, end) is not None and _is_identifier(text[begin:end])


def is_random(value: str) -> bool:
    """Whether a value of any kind looks randomly generated, and not like a name, a path, a UUID or words."""
    if PLAIN.fullmatch(value) or len(set(value)) < _MIN_DISTINCT or "://" in value or is_reference(value):
        return False
    if any(pattern.search(value) for pattern in (_FILLED_IN, _VARIABLE, _SAMPLE)):
        return False
    if _UUID.fullmatch(value) or _ADDRESS.fullmatch(value) or is_name(value):
        return False
    classes = [_class_of(char) for char in value]
    letters = set(classes) - {"other", "digit"}
    has_digit = "digit" in classes
    num_letters = len(classes) - classes.count("digit") - classes.count("other")
    if num_letters < _MIN_LETTERS or (not has_digit and len(letters) < 2) or (len(letters) == 1 and len(value) < 12):
        return False
    if len(letters) == 1 and has_digit and len(value) >= 20 and _CONSONANTS.search(value):
        return True
    is_short = len(letters) == 1 and len(value) < 16
    changes = sum(current != following for current, following in itertools.pairwise(classes))
    return changes >= (_MIN_CHANGES_ONE_CASE if len(letters) == 1 and not is_short else _MIN_CHANGES) * (len(value) - 1)


def _class_of(char: str) -> str:
    if char.isdigit():
        return "digit"
    if char.isalpha():
        return "upper" if char.isupper() else "lower"
    return "other"


def _is_identifier(value: str) -> bool:
    """Whether a value is a name of two words or more in code, as in `(Qwen2MoePreTrainedModel)`.

    Its words may be shorter than those of `is_name`, so it is only for values where code has a name.
    """
    num_letters = sum(map(str.isalnum, value))
    if not value.replace(".", "_").isidentifier() or (value.islower() and num_letters == len(value)):
        return False
    return sum(map(len, _CODE_WORDS.findall(value))) >= _MIN_CODE_WORDS * num_letters
