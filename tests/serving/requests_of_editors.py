"""The requests of editor plugins, as their sources make them, for a cursor between `PREFIX` and `SUFFIX`.

Taken from the sources at these commits:

    llama.vim                 ggml-org/llama.vim a1c8e6e (2026-01-31), autoload/llama.vim, llama#fim
    Continue                  continuedev/continue d0a3c0b (2026-06-18), core/llm/llms/OpenAI.ts, _legacystreamComplete;
                              core/autocomplete/templating/AutocompleteTemplate.ts, codeLlamaFimTemplate
    llm.nvim through llm-ls   huggingface/llm-ls 1c52b94 (2026-04-07), crates/llm-ls/src/backend.rs, build_body, and
                              main.rs, build_prompt, with the settings for Code Llama of llm.nvim's README
"""

from __future__ import annotations

from typing import Any

PREFIX, SUFFIX = "def add(a: int, b: int) -> int:\n    return ", "\n\nprint(add(1, 2))\n"

LLAMA_VIM: dict[str, Any] = {
    "id_slot": 0,
    "input_prefix": "def add(a: int, b: int) -> int:\n",
    "input_suffix": SUFFIX,
    "input_extra": [{"text": "import os\n", "time": [1, 2], "filename": "other.py"}],
    "prompt": "    return ",
    "n_predict": 128,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 250,
    "response_fields": ["content", "timings/prompt_n", "timings/predicted_n", "truncated", "tokens_cached"],
    "model": "",
}
"""POST /infill."""

LLAMA_VIM_WARM_UP: dict[str, Any] = {
    "id_slot": 0,
    "input_prefix": "",
    "input_suffix": "",
    "input_extra": [{"text": "import os\n", "time": [1, 2], "filename": "other.py"}],
    "prompt": "",
    "n_predict": 0,
    "temperature": 0.0,
    "samplers": [],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 1,
    "t_max_predict_ms": 1,
    "response_fields": [""],
    "model": "",
}
"""POST /infill, sent when the plugin has collected text of other files."""

CONTINUE: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 4096,
    "temperature": 0.01,
    "stream": True,
    "stop": ["<PRE>", "<SUF>", "<MID>", "<EOT>", "/src/", "#- coding: utf-8", "```"],
    "prompt": f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>",
}
"""POST /v1/completions; the provider is `openai`."""

LLM_NVIM: dict[str, Any] = {
    "prompt": f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>",
    "model": "tiny",
    "stream": False,
    "temperature": 0.2,
    "top_p": 0.95,
}
"""POST /v1/completions; the backend is `openai`."""
