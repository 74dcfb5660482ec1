"""E-mail addresses and public IP addresses.

Left alone are the addresses of nobody: those reserved for documentation and tests (RFC 2606, 5737, 3849), senders that
take no reply, private networks, ssh's `git@host`, and what only looks like an address: a matrix product, a decorator,
a package or an image with its version, an address all of whose numbers have one digit (a version, or a resolver).
"""

from __future__ import annotations

import ipaddress
import re

from flyte_llama.redaction.detector import Span
from flyte_llama.redaction.plausible import MASK

_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}(?P<top>[A-Za-z]{2,24})(?![A-Za-z0-9_(\[=@]|[.-]\w)")
_MAX_LOCAL = 64
_RESERVED = re.compile(
    r"(?:.*\.)?(?:example\.(?:com|org|net)|example|invalid|test|localhost)|(?:.*\.)?noreply\..*", re.IGNORECASE
)
_NOBODY = re.compile(r"git|(?:.*[._+-])?(?:no|do-?not)[._-]?reply(?:[._+-].*)?", re.IGNORECASE)
# `icon@2x.png`, and Python's product of two attributes.
_NO_DOMAIN = re.compile(r"\d+x\.|self\.|cls\.", re.IGNORECASE)
_MASKED_DOMAIN = re.compile(rf"[{MASK}.]+")

# With digits as one byte, expressions that begin with a literal find an address: they are searched for it in C. With
# hex digits as one, an IPv6 address is where `0000:` is.
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else byte for byte in range(256))
_HEX_DIGITS = bytes(ord("0") if chr(byte) in "0123456789abcdefABCDEF" else byte for byte in range(256))
_FOUR_NUMBERS = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")
_QUAD = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|[.-]\w)", re.ASCII)
# Only 2000::/3 is given out (IANA, "IPv6 Global Unicast Address Space"), so the first group has four digits.
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]|\.\d)", re.ASCII)
# What stands before four numbers that are a version, a section, an object's identifier in X.500, or a product's token
# such as `Chrome/120.0.0.0`.
_VERSION = re.compile(
    r"""(?:\b(?:version|ver|release|rev|tag|section|rfc|oid|objectidentifier)["'`]?\s?[:=(]?|"""
    r"""[=<>~!]=|(?:^|[\s,(\[])["']?[<>]|[\w-]/|[\^~§])\s?["'`]?$""",
    re.IGNORECASE,
)
# The user of a URL, and the last folder of a path: `go get host/module@branch.name`.
_NOT_A_MAILBOX = re.compile(r"""://[^\s/"'<>]*$|[\w.-]/$""")
_MAX_BEFORE = 128


def find_emails(text: str) -> list[Span]:
    found: list[Span] = []
    at = text.find("@")
    while at >= 0:
        if at and (text[at - 1].isalnum() or text[at - 1] in "_-+"):
            domain = _DOMAIN.match(text, at + 1)
            begin = _local_start(text, at) if domain else at
            if domain and begin < at and _is_person(text, begin, at, domain[0]):
                # Two that run into each other are one to whoever reads them, and to the mask.
                if found and begin < found[-1][1]:
                    begin = found.pop()[0]
                found.append((begin, domain.end()))
        at = text.find("@", at + 1)
    return found


def mask_email(address: str) -> str:
    """Keeps its shape, which is what tokens and readers go by: `jane.roe@corp.io` → `xxxx.xxx@xxxx.xx`."""
    return re.sub(r"[^@.]", MASK, address)


def find_ip_addresses(text: str, view: bytes) -> list[Span]:
    found = []
    for dots in _FOUR_NUMBERS.finditer(view.translate(_DIGITS)):
        begin = dots.start()
        while begin and view[begin - 1] in b"0123456789":
            begin -= 1
        quad = _QUAD.match(text, begin)
        if quad and _is_public(quad[0]) and not _is_version(text, begin):
            found.append(quad.span())
    if b":" in view:
        hex_digits = view.translate(_HEX_DIGITS)
        at = hex_digits.find(b"0000:")
        while at >= 0:
            address = _IPV6.match(text, at)
            if address and _is_public(address[0]):
                found.append(address.span())
            at = hex_digits.find(b"0000:", address.end() if address else at + 5)
    return sorted(found)


def mask_ip_address(address: str) -> str:
    """Digits as 0: no address any more, or the one that means none."""
    return re.sub(r"[0-9A-Fa-f]", "0", address)


def _local_start(text: str, at: int) -> int:
    begin = at
    while begin and at - begin < _MAX_LOCAL and (text[begin - 1].isalnum() or text[begin - 1] in "._+-%"):
        begin -= 1
    # The n of a program's `\n` is not the address's.
    if begin and text[begin - 1] == "\\" and text[begin] in "nrt":
        begin += 1
    while begin < at and not text[begin].isalnum():
        begin += 1
    return begin


def _is_person(text: str, begin: int, at: int, domain: str) -> bool:
    if _RESERVED.fullmatch(domain) or _MASKED_DOMAIN.fullmatch(domain) or _NO_DOMAIN.match(domain):
        return False
    if _NOBODY.fullmatch(text, begin, at):
        return False
    before = text[max(begin - _MAX_BEFORE, 0) : begin]
    return _NOT_A_MAILBOX.search(before) is None


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    has_one_digit_each = len(address) == len("1.1.1.1") and "." in address
    return parsed.is_global and not parsed.is_multicast and not has_one_digit_each


def _is_version(text: str, begin: int) -> bool:
    return _VERSION.search(text[max(begin - _MAX_BEFORE, 0) : begin]) is not None
