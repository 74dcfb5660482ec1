"""Planted secrets and addresses are masked; text that only looks like one stays; the text keeps its shape."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flyte_llama.redaction import redact
from flyte_llama.redaction.commands import COMMANDS
from flyte_llama.redaction.credentials import CREDENTIALS
from flyte_llama.redaction.tokens import PROVIDERS
from tests.redaction.planted import (
    BASE64,
    BODY,
    DER,
    DER_BASE64,
    HEX,
    KINDS,
    LEFT_ALONE,
    LISTED,
    PLANTED,
    armour,
    lines_of,
    secret,
)

# What `named_values` finds without a detector of its own.
NAMED = {"assigned_secret", "authorization", "aws_secret_access_key", "kubernetes_secret", "service_key"}


@pytest.mark.parametrize(("name", "before", "value", "after"), PLANTED, ids=[row[0] for row in PLANTED])
def test_a_planted_secret_is_found_and_masked(name: str, before: str, value: str, after: str):
    text = f"first line\n{before}{value}{after}\nlast line\n"
    redacted = redact(text, people=True)
    assert redacted.counts == {name: 1}
    begin = text.index(value)
    assert redacted.text[:begin] == text[:begin]
    assert redacted.text[begin + len(value) :] == text[begin + len(value) :]
    masked = redacted.text[begin : begin + len(value)]
    assert set(masked) <= set({"email": "x\u00d7@.", "ip_address": "0.:"}.get(name, "x"))
    assert len(redacted.text) == len(text)
    assert not text.isascii() or len(redacted.text.encode()) == len(text.encode())
    assert not redacted.private_key
    assert value not in repr(redacted)
    assert redact(redacted.text, people=True).text == redacted.text


@pytest.mark.parametrize(("text", "values"), LISTED)
def test_every_secret_of_a_list_is_masked(text: str, values: list[str]):
    redacted = redact(f"before\n{text}\nafter\n", people=True)
    assert [value for value in values if value in redacted.text] == []
    assert redacted.counts == {"assigned_secret": len(values)}
    again = redact(redacted.text, people=True)
    assert (again.text, again.counts) == (redacted.text, {})


@pytest.mark.parametrize(
    "after",
    [
        '", id="432aa64034f37edb432aa64034f37edb")',
        '", "gs://bucket/432aa64034f37edb432aa64034f37")',
        '", AutoModelForCausalLM2WithValueHead2)',
    ],
)
def test_what_is_no_secret_after_a_secret_is_left_alone(after: str):
    text = 'f(token="' + secret(36) + after
    assert redact(text, people=True).text == 'f(token="' + "x" * 36 + after


def test_every_detector_has_been_planted():
    names = {detector.name for table in (PROVIDERS, CREDENTIALS, COMMANDS) for detector in table}
    assert names | NAMED | {"email", "ip_address"} == {name for name, *_ in PLANTED}


@pytest.mark.parametrize("text", LEFT_ALONE, ids=[text[:50] for text in LEFT_ALONE])
def test_text_that_is_not_a_secret_is_left_alone(text: str):
    assert redact(f"before\n{text}\nafter\n", people=True).counts == {}
    assert redact(text, people=True).text == text


def test_people_are_left_alone_unless_asked_for():
    text = "jane@corp.io at 93.184.216.34"
    assert redact(text, people=False).text == text
    assert redact(text, people=True).text == "xxxx@xxxx.xx at 00.000.000.00"
    assert redact("ip=93.184.216.34-93.184.216.70", people=True).text == "ip=00.000.000.00-00.000.000.00"


@pytest.mark.parametrize(
    "text",
    [
        *(armour(kind, BODY) for kind in KINDS),
        armour("RSA ", f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{secret(32, HEX).upper()}\n\n{BODY}"),
        armour("PGP ", f"Version: GnuPG v2\n\n{BODY}\n=aB3x").replace("KEY-", "KEY BLOCK-"),
        armour("", secret(64, BASE64)),
        "Comment: a\nPublic-Lines: 1\nAAAA\nPrivate" + f"-Lines: 7\n{BODY}\nPrivate-MAC: {secret(40, HEX)}\n",
        '{"type": "service_account", "private_key": "' + armour("", BODY).replace("\n", "\\n") + '"}',
        'key := "' + armour("EC ", BODY).replace("\n", '\\n" +\n\t"') + '"',
        "  key: |\n" + "".join(f"    {line}\n" for line in armour("", BODY).splitlines()),
        "KEY='" + armour("RSA ", BODY).replace("\n", " ") + "'",
        armour("", BODY)[:300],
    ],
)
def test_a_private_key_is_reported_and_its_body_masked(text: str):
    redacted = redact(text, people=False)
    assert redacted.private_key
    assert redacted.counts == {"private_key": 1}
    assert not any(line[:40] in redacted.text for line in BODY.splitlines())
    assert [len(line) for line in redacted.text.splitlines()] == [len(line) for line in text.splitlines()]
    again = redact(redacted.text, people=False)
    assert (again.text, again.counts, again.private_key) == (redacted.text, {}, False)


ARMOUR = armour("", BODY)
WRAPPED = base64.encodebytes(ARMOUR.encode()).decode().splitlines()
ONE_LINE = base64.b64encode(armour("RSA ", BODY).encode()).decode()
TWICE = base64.b64encode(ONE_LINE.encode()).decode()
BYTES = [f"0x{byte:02x}" for byte in DER]
CERTIFICATE_AND_KEY = base64.encodebytes((ARMOUR.replace("PRIVATE KEY", "CERTIFICATE") + ARMOUR).encode()).decode()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("ca.key: |\n" + "".join(f"    {line}\n" for line in WRAPPED), WRAPPED),
        ("KEY = (\n" + "".join(f'    "{line}"\n' for line in WRAPPED) + ")\n", WRAPPED),
        ('key := "' + '" +\n\t"'.join(WRAPPED) + '"\n', WRAPPED),
        ("k = '" + "\\n".join(WRAPPED) + "';\n", WRAPPED),
        (f"client-key-data: {ONE_LINE}\n", lines_of(ONE_LINE, 60)),
        (f"kubeconfig: {TWICE}\n", lines_of(TWICE, 60)),
        (CERTIFICATE_AND_KEY, CERTIFICATE_AND_KEY.splitlines()[-4:]),
        (f"key = '{ARMOUR.encode().hex()}'\n", lines_of(ARMOUR.encode().hex(), 60)),
        (f'key = "{DER_BASE64}"\n', lines_of(DER_BASE64, 60)),
        ("key: |\n" + "".join(f"  {line}\n" for line in lines_of(DER_BASE64, 64)), lines_of(DER_BASE64, 64)),
        (f'bytes.fromhex("{DER.hex()}")\n', lines_of(DER.hex(), 60)),
        ("KEY = (\n" + "".join(f'  "{line}"\n' for line in lines_of(DER.hex(), 64)) + ")\n", lines_of(DER.hex(), 64)),
        (
            "{\n" + ",\n".join(", ".join(BYTES[begin : begin + 10]) for begin in range(0, len(BYTES), 10)) + "\n};\n",
            [", ".join(BYTES[30:40])],
        ),
        (f'{{"kty": "RSA", "e": "AQAB", "d": "{secret(342)}"}}', lines_of(secret(342), 60)),
        (f"<RSAKeyValue><Modulus>{secret(344)}</Modulus><D>{secret(345)}</D></RSAKeyValue>", [secret(345)[:60]]),
        ('<key value="' + ARMOUR.replace("\n", "&#10;") + '"/>', BODY.splitlines()),
        (" .\n".join(f'"{line}\\n"' for line in ARMOUR.splitlines()), BODY.splitlines()),
        (" & vbCrLf & _\n".join(f'"{line}"' for line in ARMOUR.splitlines()), BODY.splitlines()),
        (
            ARMOUR.replace("-----BEGIN ", "---- BEGIN SSH2 ENCRYPTED ").replace("KEY-----", "KEY ----"),
            BODY.splitlines(),
        ),
    ],
)
def test_a_private_key_that_is_encoded_or_in_a_string_is_reported_and_nothing_of_it_stays(text: str, lines: list[str]):
    redacted = redact(text, people=False)
    assert redacted.private_key
    assert [line for line in lines if line[:20] in redacted.text] == []
    assert [len(line) for line in redacted.text.splitlines()] == [len(line) for line in text.splitlines()]
    again = redact(redacted.text, people=False)
    assert (again.text, again.counts, again.private_key) == (redacted.text, {}, False)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (f'SECRET_KEY = "{secret(40)}" +\n    "{secret(39)}"\n', [secret(40), secret(39)]),
        (f"session_token: |\n  {secret(76)}\n  {secret(76)[::-1]}\n  {secret(30)}==\n", [secret(76)[::-1], secret(30)]),
        (f'token = "{secret(60)}" \\\n    "{secret(60)[::-1]}"\n', [secret(60), secret(60)[::-1]]),
    ],
)
def test_nothing_of_a_secret_over_several_lines_stays(text: str, pieces: list[str]):
    redacted = redact(text, people=False).text
    assert [piece for piece in pieces if piece[:8] in redacted or piece[-8:] in redacted] == []


@pytest.mark.parametrize(
    "text",
    [
        'HEADER = "-----BEGIN PRIVATE ' + 'KEY-----"\n',
        'f"-----BEGIN RSA PRIVATE ' + 'KEY-----\\n{body}\\n-----END RSA PRIVATE KEY-----"',
        armour("", "MIIEvQIBADANBgkqhkiG9w0BAQEF..."),
        armour("", "<your key here>"),
        armour("", "MarshalPKCS8PrivateKeyAndEncodeToMemory2WithBlock"),
        'if strings.HasPrefix(pem, "-----BEGIN PRIVATE '
        + 'KEY-----") { key := x509.ParsePKCS8PrivateKeyAndMore(pem) }',
        armour("", BODY).replace("PRIVATE", "PUBLIC"),
        armour("", BODY).replace("PRIVATE KEY", "CERTIFICATE"),
        "tls.crt: " + base64.b64encode(armour("", BODY).replace("PRIVATE KEY", "CERTIFICATE").encode()).decode(),
        "text: " + base64.b64encode(b"A PRIVATE KEY is never shown").decode(),
    ],
)
def test_a_header_without_a_key_is_left_alone(text: str):
    redacted = redact(text, people=True)
    assert (redacted.text, redacted.counts, redacted.private_key) == (text, {}, False)


def test_every_match_is_counted_under_its_name():
    token = "np" + "m_" + secret(36)
    text = f"{token} {token}\njane@corp.io john@corp.io joe@corp.io\n93.184.216.34"
    assert redact(text, people=True).counts == {"email": 3, "ip_address": 1, "npm_token": 2}


def test_a_token_in_a_url_is_counted_once():
    text = "https://x-access-token:gh" + f"p_{secret(36)}@github.com/a/b"
    assert redact(text, people=True).counts == {"github_token": 1}


def test_a_secret_after_characters_of_several_bytes_is_masked_in_its_place():
    token = "np" + "m_" + secret(36)
    text = f"名前 é 🦙 {token} 名前\n"
    assert redact(text, people=True).text == f"名前 é 🦙 npm_{'x' * 36} 名前\n"


fragments = st.lists(
    st.one_of(
        st.sampled_from([f"{before}{value}{after}" for _, before, value, after in PLANTED]),
        st.sampled_from([value for *_, value, _ in PLANTED] + LEFT_ALONE),
        st.sampled_from(
            [
                ' password = "',
                '"',
                "'",
                "://",
                "u:",
                "@",
                ".",
                "corp.io",
                ":",
                "\n",
                "\\n",
                " ",
                "x",
                "7",
                "é",
                "世",
                "🦙",
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=10,
).map("".join)


@settings(max_examples=300, deadline=None)
@example(text=f"wandb login {secret(40, HEX)} {secret(32, HEX)}", people=False)
@example(text=f'"api",2a00:1450:4001::5e.{secret(40)}', people=True)
@given(text=fragments, people=st.booleans())
def test_redaction_keeps_lengths_and_lines_and_is_idempotent(text: str, people: bool):
    redacted = redact(text, people=people)
    for measure in (len, lambda line: len(line.encode("utf-8", "surrogatepass"))):
        assert [measure(line) for line in redacted.text.split("\n")] == [measure(line) for line in text.split("\n")]
    assert (redacted.text == text) == (redacted.counts == {})
    again = redact(redacted.text, people=people)
    assert (again.text, again.counts) == (redacted.text, {})


def test_addresses_that_run_into_each_other_are_masked_whole():
    text = "jane@corp.iojohn+b@corp.io and 2a00:1450:4001::58.8.8.80"
    redacted = redact(text, people=True)
    assert redacted.text == "xxxx@xxxx.xxxxxxxx@xxxx.xx and 2a00:1450:4001::00.0.0.00"
    assert redact(redacted.text, people=True).text == redacted.text


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ",
        "eyJa.",
        "://",
        "://a:",
        'password="',
        "a@",
        "a.a@a.",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nProc-Type: a",
        "Authorization: Bearer ",
        "token=",
        "1.1.1.",
        "2001:",
        "x" * 9,
        "token a1B2c3D4e5F6g7H8i9J0k ",
        "secret_key",
        "key: ",
        "0x30,",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n",
        base64.b64encode(b"PRIVATE KEY " * 5).decode() + "\n",
        "kind: Secret\ndata:\n  a: a1B2c3D4e5F6g7H8i9J0k\n",
        '"kty":"d":"',
    ],
)
def test_hostile_repetition_takes_no_more_than_linear_time(piece: str):
    seconds = []
    for repeats in (2_000, 20_000):
        start = time.process_time()
        redact(piece * repeats, people=True)
        seconds.append(time.process_time() - start)
    # CPU time of this process, since others may use the cores. For ten times the text, linear time grows tenfold and
    # quadratic time a hundredfold.
    assert seconds[1] < 40 * max(seconds[0], 0.005)
