"""Decoded text encodes to the same bytes again; bytes without text give a reason."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_llama.documents.text import Decoded, decode_text

CYRILLIC = "# Этот модуль читает файлы и возвращает их содержимое без изменений.\nx = 1\nprint(x)  # вывод\n"
JAPANESE = "# このモジュールはファイルを読み込み、その内容を変更せずに返します。\nvalue = 1\nprint(value)\n"
GERMAN = "# Die Größe überprüfen, bevor für jede Datei gezählt wird: schön, daß es geht.\nx = 1\nprint(x)\n"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_is_decoded_encodes_to_the_same_bytes(data: bytes):
    decoded = decode_text(data, "python")
    if isinstance(decoded, Decoded):
        assert decoded.text.encode(decoded.encoding) == data[decoded.skipped_bytes :]
        assert "\0" not in decoded.text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100))
def test_utf8_is_never_taken_for_anything_else(text: str):
    if text.strip() and not text.startswith("\ufeff") and text.encode().strip():
        assert decode_text(text.encode(), "go") == Decoded(text, "utf-8", 0)


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_names_the_encoding_and_is_not_text(mark: bytes, encoding: str):
    assert decode_text(mark + GERMAN.encode(encoding), "go") == Decoded(GERMAN, encoding, len(mark))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(GERMAN, "cp1252"), (CYRILLIC, "cp1251"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp")],
)
def test_text_of_older_encodings_is_read(text: str, encoding: str):
    decoded = decode_text(text.encode(encoding), "go")
    assert isinstance(decoded, Decoded)
    assert decoded.text == text


@pytest.mark.parametrize(
    "sign", ["25 °C", "5 µs", "© 2019", "± 0.5 mm", "§ 4", "«x»", "a · b", "½", "naïve", "José", "Müller"]
)
def test_a_lone_sign_or_name_in_code_is_western(sign: str):
    text = f"int wait = 5; // {sign}\n" + "static int unused_value = 42;\n" * 60
    assert decode_text(text.encode("cp1252"), "c") == Decoded(text, "cp1252", 0)


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ("cp1250", "Zkontroluje, zda byl soubor úspěšně načten."),
        ("cp1250", "Zwraca listę elementów posortowaną według ważności."),
        ("cp1251", "Проверава да ли је датотека учитана."),  # noqa: RUF001
        ("koi8-r", "Удаляет все записи старше трёх дней."),
        ("cp1253", "Ελέγχει αν το αρχείο φορτώθηκε σωστά."),  # noqa: RUF001
        ("cp1254", "Dosyanın doğru yüklenip yüklenmediğini denetler."),  # noqa: RUF001
        ("cp1255", "בודק אם הקובץ נטען כראוי."),
        ("cp1256", "يتحقق من تحميل الملف بشكل صحيح."),
        ("cp874", "ตรวจสอบว่าไฟล์ถูกโหลดอย่างถูกต้อง"),
        ("gb18030", "检查文件是否已正确加载。"),
        ("big5", "檢查檔案是否已正確載入。"),
        ("cp949", "파일이 올바르게 읽혔는지 확인한다."),
    ],
)
def test_a_comment_of_any_script_is_read_in_its_legacy_encoding(encoding: str, sentence: str):
    text = f"/* {sentence} */\nint main(void)\n{{\n    return 0;\n}}\n"
    decoded = decode_text(text.encode(encoding), "c")
    assert isinstance(decoded, Decoded)
    assert decoded.text == text


def test_python_files_may_declare_their_encoding():
    text = "# -*- coding: koi8-r -*-\n" + CYRILLIC
    assert decode_text(text.encode("koi8-r"), "python") == Decoded(text, "koi8-r", 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"a\0b", "binary"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "lfs_pointer"),
        (bytes(range(128, 256)) * 4, "encoding"),
        (codecs.BOM_UTF16_LE + b"a", "encoding"),
        (codecs.BOM_UTF8 + b"\xff", "encoding"),
        (codecs.BOM_UTF8, "empty"),
        (codecs.BOM_UTF16_LE + "\n".encode("utf-16-le"), "empty"),
    ],
)
def test_bytes_that_are_not_text_give_a_reason(data: bytes, reason: str):
    assert decode_text(data, "python") == reason


def test_a_line_of_five_megabytes_is_text():
    assert decode_text(b"x" * 5_000_000, "go") == Decoded("x" * 5_000_000, "utf-8", 0)
