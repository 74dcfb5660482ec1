"""A notebook's text is its author's work, and stays the same after every run and save."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_llama.documents.notebook import notebook_text

IMAGE = "iVBORw0KGgoAAAANSUhEUg"


def cell(kind: str, source: str | list[str], **fields: Any) -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": source, **fields}


def code(source: str | list[str], **fields: Any) -> dict[str, Any]:
    return cell("code", source, **{"execution_count": None, "outputs": [], **fields})


def notebook(*cells: Any, minor: int = 5, **metadata: Any) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": minor, "metadata": metadata, "cells": cells}).encode()


def test_cells_come_under_markers_and_all_but_code_are_comments():
    data = notebook(cell("markdown", "# Title\n\nProse."), code(["x = 1\n", "y = 2"]), cell("raw", "raw"))
    text = "# %% [markdown]\n# # Title\n#\n# Prose.\n\n# %%\nx = 1\ny = 2\n\n# %% [raw]\n# raw\n"
    assert notebook_text(data).text == text


def test_magics_and_shell_lines_are_comments():
    text = notebook_text(notebook(code("%matplotlib inline\n!pip install x\nx = 1"), code("%%bash\nls"))).text
    assert text == '# %%\n# %matplotlib inline\n# !pip install x\nx = 1\n\n# %% language="bash"\n# ls\n'


def test_a_run_and_a_save_change_nothing():
    saved = notebook(
        code(
            "x = 1",
            id="4f1d",
            execution_count=7,
            outputs=[{"output_type": "display_data", "metadata": {}, "data": {"image/png": IMAGE}}],
            metadata={"scrolled": True, "tags": ["t"], "execution": {"iopub.execute_input": "2026-01-01"}},
        ),
        kernelspec={"name": "conda-env-x-py", "display_name": "Mine", "language": "python"},
        language_info={"name": "python", "version": "3.11.7", "file_extension": ".py"},
        widgets={"application/vnd.jupyter.widget-state+json": {"state": {}}},
        toc={"base_numbering": 1},
    )
    assert notebook_text(saved) == notebook_text(notebook(code("x = 1"), minor=0))


@pytest.mark.parametrize(
    "image",
    [
        "![a plot](attachment:plot.png)",
        f"![a plot](data:image/png;base64,{IMAGE})",
        f'![a plot](data:image/png;base64,{IMAGE} "title")',
        f"a plot<IMG width=3 src='data:image/png;base64,{IMAGE}'/>",
        f"a plot\n\n[p]: data:image/png;base64,{IMAGE}",
    ],
)
def test_images_within_prose_are_dropped(image: str):
    data = notebook(cell("markdown", f"See {image}", attachments={"plot.png": {"image/png": IMAGE}}))
    assert notebook_text(data).text.rstrip("#\n ") == "# %% [markdown]\n# See a plot"


def test_linked_images_stay():
    source = '![a](https://x.org/a.png) <img src="a.png">'
    assert notebook_text(notebook(cell("markdown", source))).text == f"# %% [markdown]\n# {source}\n"


def test_blank_cells_are_left_out():
    assert notebook_text(notebook(code(""), code("x = 1"), cell("markdown", " \n"))).text == "# %%\nx = 1\n"
    assert notebook_text(notebook(code("\n"))).text == notebook_text(notebook()).text == ""


def test_version_3_is_read():
    sheet = {
        "cells": [
            {"cell_type": "heading", "level": 2, "metadata": {}, "source": "Title"},
            {
                "cell_type": "code",
                "collapsed": False,
                "input": ["x = 1"],
                "language": "python",
                "metadata": {},
                "outputs": [{"output_type": "pyout", "text": ["1"], "prompt_number": 1, "metadata": {}}],
                "prompt_number": 1,
            },
        ],
        "metadata": {},
    }
    data = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [sheet]}
    assert notebook_text(json.dumps(data).encode()).text == "# %% [markdown]\n# ## Title\n\n# %%\nx = 1\n"


@pytest.mark.parametrize(
    ("metadata", "language", "comment"),
    [
        ({}, "python", "#"),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "python", "#"),
        ({"kernelspec": {"name": "ir", "display_name": "R"}}, "r", "#"),
        ({"kernelspec": {"name": "scala", "display_name": "Scala", "language": "scala"}}, "scala", "//"),
        ({"language_info": {"name": "C++17", "file_extension": ".cpp"}}, "c++", "//"),
        ({"language_info": {"name": "haskell"}}, "haskell", "--"),
    ],
)
def test_the_language_decides_the_comments(metadata: dict[str, Any], language: str, comment: str):
    script = notebook_text(notebook(cell("markdown", "Prose."), **metadata))
    assert (script.language, script.text) == (language, f"{comment} %% [markdown]\n{comment} Prose.\n")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "not JSON"),
        (b'{"cells": [SECRET', "not JSON"),
        (b"\xff\xfeSECRET", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'["SECRET"]', "nbformat 3 or 4"),
        (b'{"SECRET": 1}', "nbformat 3 or 4"),
        (b'{"nbformat": "SECRET"}', "nbformat 3 or 4"),
        (b'{"nbformat": 2, "worksheets": [], "SECRET": 1}', "nbformat 3 or 4"),
        (b'{"nbformat": 4, "SECRET": 1}', "cells"),
        (b'{"nbformat": 4, "cells": {"SECRET": 1}}', "cells"),
        (b'{"nbformat": 3, "worksheets": [{"SECRET": 1}]}', "cells"),
        (notebook("SECRET"), "cell"),
        (notebook({"cell_type": "code", "SECRET": 1}), "cell"),
        (notebook(cell("SECRET", "x")), "cell"),
        (notebook(cell("markdown", {"SECRET": 1})), "cell"),
        (notebook(code("x"), kernelspec={"language": "SECRET"}), "language"),
        (notebook(code("x"), language_info={"name": "\nSECRET", "file_extension": ".x"}), "language"),
        (notebook(code("SECRET \ud800")), "Unicode"),
        (notebook(code("x"), language_info={"file_extension": ".SECRET"}), "language"),
    ],
)
def test_a_damaged_notebook_is_refused_without_its_content(
    data: bytes, cause: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(ValueError, match=cause) as caught:
        notebook_text(data)
    logged = caplog.text + "".join(capfd.readouterr())
    assert "SECRET" not in str(caught.value) + logged
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_errors_in_the_parts_left_out_do_not_matter():
    data = notebook(cell("code", "x = 1", outputs="none", id=3), cell("markdown", "y"), kernelspec="python")
    assert notebook_text(data).text == "# %%\nx = 1\n\n# %% [markdown]\n# y\n"


def test_two_processes_agree():
    data = notebook(code("%time x = 1"), cell("markdown", "y"), cell("raw", "z"))
    program = (
        "import sys; from flyte_llama.documents.notebook import notebook_text as f; print(f(sys.stdin.buffer.read()))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert runs == {f"{notebook_text(data)}\n".encode()}


ODD_LINES = ["%time x", "!ls", "?help", "x?", "# %%", "# %% [markdown]", "# + tags", "# -", '"""', "---", "```"]
CODE_LINES = ["x = 1", "\treturn x", "    # a note", "# a note", "```python", "-- x", "// x", "# !ls", "#"]
TEXT_LINES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=30)
# A line that begins with %% names the language of its cell, and becomes part of the marker. Images are dropped.
LINES = (TEXT_LINES | st.sampled_from([*ODD_LINES, *CODE_LINES])).filter(
    lambda line: not line.lstrip().startswith("%%") and not any(mark in line for mark in ("](", "]:", "<"))
)
SOURCES = st.lists(LINES, min_size=1, max_size=6).map("\n".join)
OUTPUT = "an output that no author wrote"
CELLS = st.lists(st.tuples(st.sampled_from(["code", "markdown", "raw"]), SOURCES), max_size=6)


def with_output(kind: str, source: str) -> dict[str, Any]:
    """A cell as it is saved after a run."""
    if kind != "code":
        return cell(kind, source, attachments={"a.png": {"image/png": OUTPUT}}, metadata={"note": OUTPUT})
    stream = {"output_type": "stream", "name": "stdout", "text": [OUTPUT]}
    return code(source, outputs=[stream], execution_count=1, metadata={"note": OUTPUT})


@settings(max_examples=100, deadline=None)
@given(cells=CELLS)
def test_every_line_that_an_author_wrote_is_in_the_text_in_order_and_no_output_is(cells: list[tuple[str, str]]):
    text = notebook_text(notebook(*(with_output(kind, source) for kind, source in cells), note=OUTPUT)).text
    assert OUTPUT not in text
    begin = 0
    for _, source in cells:
        for line in source.split("\n"):
            found = text.find(line.strip(), begin)
            assert found >= 0, (line, text[begin:])
            begin = found + len(line.strip())
    assert text == notebook_text(notebook(*(cell(kind, source) for kind, source in cells))).text
