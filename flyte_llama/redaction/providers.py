"""Tokens that their provider's prefix gives away, and the detector of each.

Every literal stands in or just before a word of 20 characters and more, which is what lets them be looked for there
alone (`long_words`). Shapes are the providers' own documentation's; ids that open nothing (an AWS role's, a Twilio
account's, a Stripe test key) are not secrets.
"""

from __future__ import annotations

import base64
import re

from flyte_llama.redaction.detector import Detector, Table
from flyte_llama.redaction.plausible import is_token

# Not inside a word; but in the text of a program, `\n` may stand before a token.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_END = r"(?![A-Za-z0-9])"


def _is_real(match: re.Match[str]) -> bool:
    return is_token(match["value"])


def _is_private_key(match: re.Match[str]) -> bool:
    # 14 characters of base64 end within a byte, so that the value alone cannot be decoded.
    begun = match[0][: match[0].index(match["value"]) + 44]
    return b"PRIVATE KEY" in base64.b64decode(begun[: len(begun) // 4 * 4], validate=False)


def _token(name: str, literals: str, shape: str) -> Detector:
    pattern = re.compile(_START + shape + _END, re.ASCII)
    return Detector(name, tuple(literal.encode() for literal in literals.split()), pattern, _is_real)


PROVIDERS = Table(
    # Base 32: the digits 0, 1, 8 and 9 do not occur.
    _token("aws_access_key_id", "AKIA ASIA", r"A[KS]IA(?P<value>[A-Z2-7]{16})"),
    _token("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_(?P<value>[A-Za-z0-9]{36,255})"),
    _token("github_token", "github_pat_", r"github_pat_(?P<value>\w{36,255})"),
    _token("gitlab_token", "glpat-", r"glpat-(?P<value>[\w-]{20,255}(?:\.[0-9a-z]{2,16}){0,2})"),
    _token("huggingface_token", "hf_", r"hf_(?P<value>[A-Za-z0-9]{30,64})"),
    _token("google_api_key", "AIza", r"AIza(?P<value>[\w-]{35})(?![\w-])"),
    _token("google_oauth_secret", "GOCSPX-", r"GOCSPX-(?P<value>[\w-]{28})(?![\w-])"),
    _token("anthropic_key", "sk-", r"(?<![\w-])sk-ant-(?P<value>[\w-]{24,255})"),
    _token("openai_key", "sk-", r"(?<![\w-])sk-(?:proj|svcacct|admin|None)-(?P<value>[\w-]{32,255})"),
    _token("openai_key", "sk-", r"(?<![\w-])sk-(?P<value>[A-Za-z0-9]{32,64})"),
    _token("slack_token", "xox", r"xox[abeoprs]-(?P<value>[A-Za-z0-9-]{20,255})"),
    _token("slack_token", "xapp-", r"xapp-(?P<value>\d-[A-Za-z0-9-]{20,255})"),
    _token("stripe_key", "sk_live_ rk_live_", r"[sr]k_live_(?P<value>[A-Za-z0-9]{20,255})"),
    _token("twilio_key", "SK", r"SK(?P<value>[0-9a-f]{32})"),
    _token("sendgrid_key", "SG.", r"SG\.(?P<value>[\w-]{22}\.[\w-]{43})(?![\w-])"),
    _token("npm_token", "npm_", r"npm_(?P<value>[A-Za-z0-9]{36})"),
    # A macaroon whose first bytes name the index: pypi.org's or its test instance's.
    _token("pypi_token", "pypi-AgE", r"pypi-(?P<value>AgE[\w-]{50,512})"),
    _token("docker_token", "dckr_", r"dckr_[po]at_(?P<value>[\w-]{27,64})"),
    _token("digitalocean_token", "doo_v1_ dop_v1_ dor_v1_", r"do[opr]_v1_(?P<value>[0-9a-f]{64})"),
    _token("databricks_token", "dapi", r"dapi(?P<value>[0-9a-f]{32}(?:-\d)?)"),
    _token("vault_token", "hvs.", r"hvs\.(?P<value>[\w-]{24,160})(?![\w-])"),
    _token("google_oauth_token", "ya29.", r"ya29\.(?P<value>[\w-]{30,512})(?![\w-])"),
    # base64 of `-----BEGIN `; the name of what begins is in the next characters.
    Detector(
        "private_key_base64",
        (b"LS0tLS1CRUdJTi",),
        re.compile(_START + r"LS0tLS1CRUdJTi(?P<value>[A-Za-z0-9+/]{60,20000}={0,2})", re.ASCII),
        _is_private_key,
    ),
    _token("jwt", "eyJ", r"(?<![\w-])eyJ(?P<value>[\w-]{10,4096}\.eyJ[\w-]{10,16384}\.[\w-]{16,2048})(?![\w-])"),
)
