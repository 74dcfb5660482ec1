"""The bad inputs, by the case groups of the acceptance list."""

from __future__ import annotations

from typing import Any

from faults_suite.inputs import (
    EVALUATE,
    GITHUB_TOKEN,
    GITLAB_TOKEN,
    HUB_TOKEN,
    OPENAI_TOKEN,
    PASSWORD,
    PLAN,
    RUN,
    Input,
    make_custom_model,
    make_file,
    make_folder,
    make_fork,
    make_link,
    make_model,
)
from faults_suite.publishing import PUBLISH

_NO_MODEL = "/nonexistent/model"
TRAIN, HELDOUT = "corpus.train", "corpus.heldout"


def _field(name: str, group: int, key: str, value: Any, *, named: str = "", **more: Any) -> Input:
    """A single field with a bad value; the message must name the field."""
    return Input(name, (group,), named or key.rsplit(".", 1)[-1], {key: value}, **more)


def _source(name: str, group: int, url: str, named: str, *, side: str = TRAIN, **more: Any) -> Input:
    """A source on one side that is bad, or that the other side has too."""
    command = more.pop("command", None)
    options = {"command": command} if command else {}
    return Input(name, (group,), named, {side: [{"url": url, **more.pop("fields", {})}]}, **options, **more)


def _file(name: str, text: str | bytes, named: str, *, group: int = 35, **more: Any) -> Input:
    return Input(name, (group,), named, text=text, **more)


_TYPOS = (
    _field("typo in a key", 33, "training.lerning_rate", 1e-3, named="Did you mean learning_rate"),
    _field("typo in a stage", 33, "trainning", {}, named="Did you mean training"),
    _field("typo in a nested key", 33, "evaluation.completion.lins", 4, named="Did you mean lines"),
    _field("typo in a source", 33, TRAIN, [{"ulr": "{sources}/train-a"}], named="Did you mean url"),
    _field("typo, by the workflow", 33, "training.epoch", 1, named="Did you mean epochs", command=RUN),
    _field("typo, by the plan", 33, "training.epoch", 1, named="Did you mean epochs", command=PLAN),
)
_TYPES = (
    _field("fraction for a whole number", 34, "training.max_steps", 2.7),
    _field("word for a number", 34, "training.global_batch_size", "many"),
    _field("number for a switch", 34, "training.activation_checkpointing", 2),
    _field("text for a list", 34, TRAIN, "{sources}/train-a", named="corpus.train"),
    _field("text for a source", 34, TRAIN, ["{sources}/train-a"], named="url"),
    _field("list for a stage", 34, "model.scratch", [1, 2]),
    _field("unknown choice", 34, "training.precision", "fp23", named="fp32"),
    _field("version that YAML reads as a number", 34, TRAIN, [{"url": "{sources}/train-a", "ref": 1.0}], named="quote"),
    _field(
        "commit that YAML reads as a number", 34, TRAIN, [{"url": "{sources}/train-a", "ref": 10**39}], named="quote"
    ),
    _field("wrong type, by the workflow", 34, "training.max_steps", 2.7, command=RUN),
)
_FILES = (
    _file("unclosed bracket", "corpus: [\n", "yaml|experiment"),
    _file("tab as indentation", "corpus:\n\ttrain: []\n", "yaml|tab"),
    _file("duplicate key", "training: {epochs: 1, epochs: 2}\n", "twice"),
    _file("list at the top", "- corpus\n", "list|mapping"),
    _file("binary file", b"\xff\xfe\x00\x01" * 40, "experiment"),
    _file("NUL bytes", b"training:\n  epochs: 1\x00\n", "experiment"),
    _file("nested 5,000 deep", "corpus: " + "[" * 5000 + "]" * 5000, "nest|deep|in each other"),
    _file("number of 5,000 digits", "training: {max_steps: " + "9" * 5000 + "}\n", "max_steps|digits"),
    _file(
        "alias bomb",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "alias|unknown key|experiment",
    ),
    _file("alias without an anchor", "training: *nothing\n", "alias|anchor"),
    _file("tag of Python", "training: !!python/object/apply:os.system ['true']\n", "tag|python|training"),
    _file("malformed JSON", '{"training": {"epochs": 1,}', "experiment"),
    _file("malformed, by the workflow", "corpus: [\n", "yaml|experiment", command=RUN),
    _file("duplicate key, by the workflow", "training: {epochs: 1, epochs: 2}\n", "twice", command=RUN),
    Input("missing file", (35,), "nothing.yaml", arguments=("--config", "{folder}/nothing.yaml")),
    Input(
        "missing file, by the workflow",
        (35,),
        "nothing.yaml",
        arguments=("--config", "{folder}/nothing.yaml"),
        command=RUN,
    ),
    Input("folder for a file", (35,), "folder|directory", arguments=("--config", "{folder}")),
)
_NUMBERS = (
    _field("batch of 0", 36, "training.global_batch_size", 0),
    _field("negative batch", 36, "training.micro_batch_size", -1),
    _field("micro-batches that do not fit the batch", 36, "training.micro_batch_size", 3),
    _field("learning rate of 0", 36, "training.learning_rate", 0),
    _field("negative learning rate", 36, "training.learning_rate", -1e-3),
    _field("learning rate that is no number", 36, "training.learning_rate", float("nan")),
    _field("infinite learning rate", 36, "training.learning_rate", float("inf")),
    _field("no epochs", 36, "training.epochs", 0),
    _field("epochs beyond any run", 36, "training.epochs", 1e300),
    _field("negative weight decay", 36, "training.weight_decay", -0.1),
    _field("warm-up longer than the run", 36, "training.warmup_share", 1.5),
    _field("rank of 0", 36, "training.lora.rank", 0, named="rank"),
    _field("dropout of 1", 36, "training.lora.dropout", 1.0, named="dropout"),
    _field("negative checkpoints", 36, "training.checkpoint_every_steps", -1),
    _file("octal number", "training: {max_steps: 010}\n", "max_steps|octal", group=36),
    _file("sexagesimal number", "training: {max_steps: 1:30}\n", "max_steps|base 60|sexagesimal", group=36),
)
_MODELS = (
    _field("rows longer than the positions", 37, "training.seq_len", 4096),
    _field("window longer than the positions", 37, "evaluation.window", 4096),
    _field("stride beyond the window", 37, "evaluation.stride", 128),
    _field("heads that do not divide the width", 37, "model.scratch.num_heads", 5),
    _field("missing model folder", 38, "model.name", "/nonexistent/model", named="/nonexistent/model"),
    _field("model name that is no id", 38, "model.name", "my model", named="model.name"),
    _field("missing adapter", 38, "model.adapter", "/nonexistent/adapter", named="/nonexistent/adapter"),
    _field("pickled weights", 39, "model.name", "{folder}/model", named="safetensors|tokenizer", prepare=make_model),
    _field("model with code", 39, "model.name", "{folder}/model", named="auto_map|code", prepare=make_custom_model),
    Input("unknown model, by evaluate", (38,), _NO_MODEL, command=EVALUATE, arguments=("--model", _NO_MODEL)),
    Input(
        "unknown held-out folder, by evaluate",
        (38,),
        "/nonexistent/heldout",
        command=EVALUATE,
        arguments=("--model", _NO_MODEL, "--heldout", "/nonexistent/heldout"),
    ),
)
_CORPUS = (
    _field("no file is left", 40, "corpus.documents.kinds", ["config"], named="left", command=RUN, needs_reading=True),
    _field(
        "no file is small enough", 40, "corpus.documents.max_bytes", 1, named="left", command=RUN, needs_reading=True
    ),
    _field("no source", 40, TRAIN, [], named="corpus.train"),
    _field("one side alone", 40, HELDOUT, None, named="heldout"),
    _field(
        "fewer rows than a batch", 41, "training.global_batch_size", 4096, named="rows", command=RUN, needs_reading=True
    ),
    _source("same repository on both sides", 42, "{sources}/heldout", "both"),
    _source("same, with a slash", 42, "{sources}/heldout/", "both"),
    _source("same, as its .git folder", 42, "{sources}/heldout/.git", "both"),
    _source("same, as a file URL", 42, "file://{sources}/heldout", "both"),
    _source("same, as a file URL with a host", 42, "file://localhost{sources}/heldout", "both"),
    _source("same, with doubled slashes", 42, "{sources}//heldout", "both"),
    Input(
        "same, through a link",
        (42,),
        "both",
        {TRAIN: [{"url": "{folder}/original"}], HELDOUT: [{"url": "{folder}/link"}]},
        prepare=make_link,
    ),
    Input(
        "a fork of it",
        (42,),
        "root commit|first commit|share",
        {
            TRAIN: [{"url": "{folder}/original", "accept_unknown_licence": True}],
            HELDOUT: [{"url": "{folder}/fork", "accept_unknown_licence": True}],
        },
        command=RUN,
        needs_reading=True,
        prepare=make_fork,
    ),
    *(
        Input(
            f"same, as {url}",
            (42,),
            "both",
            {TRAIN: [{"url": "https://github.com/acme/tools"}], HELDOUT: [{"url": url}]},
        )
        for url in (
            "ssh://git@ssh.github.com:443/acme/tools",
            "git@github.com:Acme/tools.git",
            "https://github.com./acme/tools",
            "https://github.com/acme/%74ools",
            "https://www.github.com:443/acme//tools/",
        )
    ),
)
_SOURCES = (
    _source("unreachable server", 43, "http://127.0.0.1:9/acme/tools.git", "127.0.0.1:9", command=RUN),
    _source("missing path", 43, "{folder}/nothing", "nothing"),
    _source("folder that is no repository", 43, "{folder}/plain", "plain", prepare=make_folder),
    _source("file for a repository", 43, "{folder}/file", "file", prepare=make_file),
    _source("package that is not installed", 43, "package:no-such-package", "no-such-package"),
    _source("URL that runs a command", 43, "ext::sh -c true", "corpus.train"),
    _source("missing branch", 44, "{sources}/train-a", "mian", fields={"ref": "mian"}),
    _source("abbreviated commit", 44, "{sources}/train-a", "c59fc8b", fields={"ref": "c59fc8b"}),
    _source("commit that is not there", 44, "{sources}/train-a", "0{12}|ref", fields={"ref": "0" * 40}),
    _source("ref that is an option", 44, "{sources}/train-a", "ref", fields={"ref": "--upload-pack=true"}),
    _source("missing branch, by the workflow", 44, "{sources}/train-a", "mian", fields={"ref": "mian"}, command=RUN),
)
_MACHINE = (
    _field("attention that is not installed", 46, "training.attention", "flash_attention_2"),
    _field("kernels without a GPU", 46, "training.liger", True),
    _field("attention without a GPU", 46, "training.attention", "flex_attention"),
    _field("tracker that is not installed", 46, "training.report_to", ["mlflow"], named="mlflow"),
    Input("TPU as accelerator", (46,), "V5E", variables={"FLYTE_LLAMA_GPU": "V5E"}),
    Input("setting in lower case", (33,), "did you mean", variables={"FLYTE_LLAMA_gpu_count": "1"}),
)
_PUBLISHING = (
    Input("publishing without a token", (47,), "HF_TOKEN", PUBLISH, variables={"HF_TOKEN": None}),
    Input(
        "publishing without a token, by the workflow",
        (47,),
        "HF_TOKEN",
        PUBLISH,
        variables={"HF_TOKEN": None},
        command=RUN,
    ),
    Input("what is published is not stated", (47,), "evaluation.published", PUBLISH | {"evaluation.published": None}),
    Input(
        "budget that is not measured",
        (47,),
        "forgetting_budget",
        PUBLISH | {"publish.forgetting_budget": 0.05, "evaluation.general": []},
    ),
    Input("encoder to publish", (47,), "encoder", PUBLISH | {"objective.kind": "mlm"}),
    _field("repository that is no name", 47, "publish.repository", "only-a-name"),
)
_SECRETS = tuple(
    Input(f"secret: {name}", (48,), named, changes, secret=secret)
    for name, named, changes, secret in (
        ("password in a URL", "corpus.train", {TRAIN: [{"url": f"https://jane:{PASSWORD}@example.org/a/b"}]}, PASSWORD),
        (
            "query of a URL",
            "corpus.train",
            {TRAIN: [{"url": f"https://example.org/a/b?private_token={PASSWORD}"}]},
            PASSWORD,
        ),
        (
            "parameter of a URL",
            "corpus.train",
            {TRAIN: [{"url": f"https://example.org/a/b;token={PASSWORD}"}]},
            PASSWORD,
        ),
        ("URL with one slash", "corpus.train", {TRAIN: [{"url": f"https:/jane:{PASSWORD}@example.org/a/b"}]}, PASSWORD),
        ("URL without a scheme", "corpus.train", {TRAIN: [{"url": f"//jane:{PASSWORD}@example.org/a/b"}]}, PASSWORD),
        ("password before a host", "corpus.train", {TRAIN: [{"url": f"oauth2:{PASSWORD}@example.org:a/b"}]}, PASSWORD),
        ("URL as a model", "model", {"model.name": f"https://jane:{PASSWORD}@example.org/a/b"}, PASSWORD),
        ("token as a ref", "ref|train", {TRAIN: [{"url": "{sources}/train-a", "ref": GITHUB_TOKEN}]}, GITHUB_TOKEN),
        ("token in a path", "corpus.train", {TRAIN: [{"url": f"/srv/{GITLAB_TOKEN}/repo"}]}, GITLAB_TOKEN),
        ("token as a model", "model", {"model.name": f"acme/{HUB_TOKEN}"}, HUB_TOKEN),
        ("token as a revision", "model", {"model.name": "acme/base", "model.revision": OPENAI_TOKEN}, OPENAI_TOKEN),
        ("token as a published model", "published", {"evaluation.published": f"acme/{HUB_TOKEN}"}, HUB_TOKEN),
        ("token as a repository", "publish", {"publish.repository": f"acme/{HUB_TOKEN}"}, HUB_TOKEN),
        ("token in an unknown key", "unknown key|secret", {f"training.{GITHUB_TOKEN}": 1}, GITHUB_TOKEN),
        ("token as a number", "learning_rate", {"training.learning_rate": HUB_TOKEN}, HUB_TOKEN),
        ("token to leave out", "opt_out", {"corpus.documents.opt_out": [f"acme/{GITLAB_TOKEN}"]}, GITLAB_TOKEN),
    )
)
INPUTS: tuple[Input, ...] = (
    *_TYPOS,
    *_TYPES,
    *_FILES,
    *_NUMBERS,
    *_MODELS,
    *_CORPUS,
    *_SOURCES,
    *_MACHINE,
    *_PUBLISHING,
    *_SECRETS,
)
