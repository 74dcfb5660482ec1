"""E-mail addresses and public IP addresses.

Addresses that belong to nobody are left alone: addresses reserved for documentation and tests (RFC 2606, 5737, 3849),
no-reply senders, private networks and ssh's `git@host`. So are texts that only look like an address: a matrix product,
a decorator, a package or an image with its version, four numbers of one digit each (a version or a public resolver).
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from flyte_llama.redaction.detector import MASK, Span, mask

_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}(?P<top>[A-Za-z]{2,24})(?![A-Za-z0-9_(\[=@]|[.-]\w)")
_MAX_LOCAL = 64
_RESERVED = re.compile(
    r"(?:.*\.)?(?:example\.(?:com|org|net)|example|invalid|test|localhost)|(?:.*\.)?noreply\..*", re.IGNORECASE
)
_NOBODY = re.compile(r"git|(?:.*[._+-])?(?:no|do-?not)[._-]?reply(?:[._+-].*)?", re.IGNORECASE)
# Top-level domains of more than two letters in which people have addresses (IANA, "Root Zone Database"). Those of two
# letters are countries; but some end a file's name or an attribute.
_TOP_LEVEL = """
    academy aero agency app art asia associates bank berlin bio biz blog business cafe capital care cat center cern
    chat city clinic cloud club codes coffee com community company computer consulting coop cool design dev digital
    direct edu education email energy engineer engineering enterprises eu events exchange expert express farm
    finance financial foundation fund fyi games global gmbh gov group guide guru health help hosting house inc info
    institute insure int international investments jobs lab land law legal life live llc london ltd management
    market marketing media mil mobi money museum net network news ngo ninja nyc one ong online org partners
    paris photo pizza plus press pro productions pub sale school science security services shop site social
    software solutions space store studio support systems team tech technology tel tips today tokyo tools top trade
    training travel university uk ventures video vip watch website wiki work works world wtf xyz zone
"""
_FILE_ENDINGS = "cs db gz ml mm md mt pl pm ps py rb rs st td tf ts vb vi yt js"
_TOP_LEVEL_NAMES = frozenset(_TOP_LEVEL.split())
_FILE_ENDING_NAMES = frozenset(_FILE_ENDINGS.split())
# `icon@2x.png`, a Python matrix product such as `q@self.weight`, a label of Kotlin such as `this@Main.view`.
_NO_DOMAIN = re.compile(r"\d+x\.|self\.|cls\.|v?\d+\.\w+$", re.IGNORECASE)
# A matrix product of names, which have no hyphen: `x@layer.team`, `y = hidden@block.tools.team`, `f(h@params.store)`.
_PRODUCT = re.compile(r"(?!.*\.(?:com|edu|gov|int|mil|net|org|io|[a-z]{2})\Z)[a-z_]\w*(?:\.\w+)+\Z", re.IGNORECASE)
_SHORT_NAME = 2
_EXPRESSION = re.compile(
    r"(?:(?:^|[\s;`(])(?![\w.]*(?:mail|user|auth|owner|contact|from|to\b|cc\b|sender|recipient|admin|maint|login|account|name))"
    r"[\w.\[\]]+[ \t]+[-+*/@]?=|[\w\])][ \t]+\+|\breturn|\w\()[ \t]*$",
    re.IGNORECASE,
)
# RFC 4251, section 6: algorithms and channels of ssh are named as `name@domain`.
_SSH_NAME = re.compile(
    r".*@openssh\.com|.*(?:sha\d|-cbc|-ctr|-gcm|rsa|25519).*@(?:libssh\.org|ssh\.com|lysator\.liu\.se)"
)
_LABELLED = ("this", "super", "return", "break", "continue")
_MASKED_DOMAIN = re.compile(rf"[{MASK}.]+")

# With every digit written as 0, an IPv4 address contains `0.0`, and with every hex digit written as 0 an IPv6 address
# contains `0000:`: literals, which C searches for.
_HEX_DIGITS = bytes(ord("0") if chr(byte) in "0123456789abcdefABCDEF" else byte for byte in range(256))
_FOUR_NUMBERS = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")
# What follows a dash makes it a version, except the end of a range of addresses.
_QUAD = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\w|-(?!\d{1,3}(?:\.\d{1,3}){3}(?![\w.-]))\w)", re.ASCII)
# IANA allocates addresses from 2000::/3 only ("IPv6 Global Unicast Address Space"), so the first group has four digits.
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]|\.\d)", re.ASCII)
# The text before four numbers if they are not an address but a version, a section, an X.500 object identifier, or a
# product token such as `Chrome/120.0.0.0`.
_VERSION = re.compile(
    r"""(?:(?:version|\b(?:ver|release|rev|tag|section|rfc|oid|objectidentifier))["'`]?\s?[:=(>]?|"""
    r"""[\w.-]+:[\w.-]+:|"""
    r"""[=<>~!]=|(?:^|[\s,(\[])["']?[<>]|[\w-]/|[\^~§])\s?["'`]?$""",
    re.IGNORECASE,
)
# The text before a name that is not a mailbox: the user of a URL, or the last part of a path, as in
# `go get host/module@branch.name`.
_NOT_A_MAILBOX = re.compile(r"""://[^\s/"'<>]*$|[\w.-]/$""")
# An escape of source code that a mailbox does not begin with: `\n`, `\x01`, `\001`.
_ESCAPE = re.compile(r"[nrt]|x[0-9A-Fa-f]{2}|[0-7]{3}")
_MAX_BEFORE = 128


def find_emails(text: str) -> list[Span]:
    """The spans of people's e-mail addresses, in order and without overlaps."""
    spans: list[Span] = []
    at = text.find("@")
    while at >= 0:
        if at and (text[at - 1].isalnum() or text[at - 1] in "_-+"):
            domain = _DOMAIN.match(text, at + 1)
            begin = _local_start(text, at) if domain else at
            if domain and begin < at and _is_person(text, begin, at, domain[0]):
                # Addresses that run into each other, as in `jane@corp.iojohn@corp.io`, are masked as one.
                while begin and text[begin - 1] == "@" and _local_start(text, begin - 1) < begin - 1:
                    begin = _local_start(text, begin - 1)
                if spans and begin < spans[-1][1]:
                    begin = min(begin, spans.pop()[0])
                spans.append((begin, domain.end()))
        at = text.find("@", at + 1)
    return spans


def mask_email(address: str) -> str:
    """The address with its shape kept, so that it still reads as one: `jane.roe@corp.io` → `xxxx.xxx@xxxx.xx`."""
    return re.sub(r"[^@.]", MASK, address)


def mask_emails_in_path(path: str) -> str:
    """Return a path or a ref with the e-mail addresses masked that are in its parts, percent-encoded or not.

    In a text, what follows a slash is no mailbox but a module, as in `host/module@branch.name`.
    """
    if "@" not in path and "%40" not in path:
        return path
    parts = []
    for part in path.split("/"):
        decoded = unquote(part)
        emails = find_emails(decoded)
        parts.append(mask(decoded, emails, mask_email) if emails else part)
    return "/".join(parts)


def find_ip_addresses(text: str, view: bytes, digits: bytes) -> list[Span]:
    """The spans of public IPv4 and IPv6 addresses, in order.

    Args:
        view: The text's view (`detector.latin1_view`); `digits` is the same with every digit as 0.
    """
    spans = []
    # Most texts have no number with two dots in it.
    for dots in _FOUR_NUMBERS.finditer(digits) if b".0" in digits else ():
        begin = dots.start()
        while begin and view[begin - 1] in b"0123456789":
            begin -= 1
        quad = _QUAD.match(text, begin)
        if quad and _is_public(quad[0]) and not _is_version(text, begin):
            spans.append(quad.span())
    if b":" in view:
        hex_digits = view.translate(_HEX_DIGITS)
        at = hex_digits.find(b"0000:")
        while at >= 0:
            address = _IPV6.match(text, at)
            if address and _is_public(address[0]):
                spans.append(address.span())
            at = hex_digits.find(b"0000:", address.end() if address else at + 5)
    return sorted(spans)


def mask_ip_address(address: str) -> str:
    """The address with every digit as 0: not a valid address, or the unspecified one (`0.0.0.0`)."""
    return re.sub(r"[0-9A-Fa-f]", "0", address)


def _local_start(text: str, at: int) -> int:
    """Where the part of an e-mail address before its `@` begins; `at` if it has none."""
    begin = at
    while begin and at - begin < _MAX_LOCAL and (text[begin - 1].isalnum() or text[begin - 1] in "._+-%"):
        begin -= 1
    # In source code, the n of `\njane@corp.io` belongs to the line break, not to the address.
    escape = _ESCAPE.match(text, begin, at) if begin and text[begin - 1] == "\\" else None
    if escape:
        # In a descriptor of Protocol Buffers, `\001Z@` is a number of bytes and the next field's tag.
        begin = escape.end() if len(escape[0]) == 1 or at - escape.end() > 1 else at
    while begin < at and not text[begin].isalnum():
        begin += 1
    return begin


def _is_person(text: str, begin: int, at: int, domain: str) -> bool:
    if _RESERVED.fullmatch(domain) or _MASKED_DOMAIN.fullmatch(domain) or _NO_DOMAIN.match(domain):
        return False
    if (
        _NOBODY.fullmatch(text, begin, at)
        or text[begin:at] in _LABELLED
        or _SSH_NAME.fullmatch(text, begin, at + 1 + len(domain))
    ):
        return False
    # A file may be named after an address, as in `jane@corp.io.txt`.
    *labels, last = domain.lower().split(".")
    if not (_is_top_level(last) or (len(labels) > 1 and _is_top_level(labels[-1]))):
        return False
    before = text[max(begin - _MAX_BEFORE, 0) : begin]
    is_code = at - begin <= _SHORT_NAME or _EXPRESSION.search(before) is not None
    if is_code and text[begin:at].isidentifier() and _PRODUCT.match(domain):
        return False
    return _NOT_A_MAILBOX.search(before) is None


def _is_top_level(name: str) -> bool:
    return name in _TOP_LEVEL_NAMES or (len(name) == 2 and name.isalpha() and name not in _FILE_ENDING_NAMES)


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    has_one_digit_each = len(address) == len("1.1.1.1") and "." in address
    return parsed.is_global and not parsed.is_multicast and not has_one_digit_each


def _is_version(text: str, begin: int) -> bool:
    return _VERSION.search(text[max(begin - _MAX_BEFORE, 0) : begin]) is not None
