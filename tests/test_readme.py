"""The commands, links, tables and configurations in README.md, SECURITY.md and docs/ are correct."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
import yaml

from flyte_llama import settings
from flyte_llama.cli import main as flyte_llama_command
from flyte_llama.config import ExperimentConfig
from flyte_llama.documents.languages import LANGUAGES, files_of
from flyte_llama.settings import PREFIX, Settings
from flyte_llama.sources import GIT_TOKEN, SSH_KEY, SSH_KNOWN_HOSTS
from flyte_llama.training.failures import DEBUG
from tests.test_architecture import ROOMS

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in FILES}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
README, EVERYTHING = TEXTS["README.md"], "\n".join(TEXTS.values())
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [block for text in TEXTS.values() for block in BLOCK.findall(text)]
INLINE = {re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", BLOCK.sub("", EVERYTHING))}
SHELL_LINES = [
    line
    for language, text in BLOCKS
    if not language
    for line in text.replace("\\\n", " ").splitlines()
    if "flyte-llama " in line or "pyflyte " in line or line.startswith("make ")
]
WORKFLOWS = "flyte_llama/workflows.py"


def links(text: str) -> list[str]:
    """The relative links of a page, each once."""
    return sorted(set(re.findall(r"\]\((?!https://)([^)\s]+)\)", BLOCK.sub("", text))))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes from the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(program: str) -> list[tuple[str, ...]]:
    """The arguments of each call of a program in `.venv/bin`, in the shell blocks and in inline code."""
    calls = [line for line in [*SHELL_LINES, *INLINE] if re.match(rf"(\.venv/bin/)?{program} [a-z]", line)]
    return sorted({tuple(shlex.split(call, comments=True)[1:]) for call in calls})


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def options_in(arguments: Sequence[str]) -> set[str]:
    return {argument.split("=")[0] for argument in arguments if argument.startswith("-")}


def pyflyte_commands() -> click.Group:
    from flytekit.clis.sdk_in_container.pyflyte import main

    return main


def workflow_inputs() -> dict[str, set[str]]:
    """Workflow → names of its inputs."""
    tree = ast.parse((ROOT / WORKFLOWS).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    decorated = [
        node
        for node in functions
        if any(ast.unparse(decorator).split("(")[0] == "workflow" for decorator in node.decorator_list)
    ]
    return {node.name: {argument.arg for argument in node.args.args} for node in decorated}


def table_rows(text: str) -> dict[str, tuple[str, ...]]:
    """First cell of each table row, without backticks → the other cells."""
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*", text, re.M)
    ]
    return {row[0]: tuple(row[1:]) for row in rows}


@pytest.mark.parametrize(("page", "link"), [(page, link) for page, text in TEXTS.items() for link in links(text)])
def test_every_link_leads_to_a_file_and_a_heading(page: str, link: str):
    path, _, anchor = link.partition("#")
    target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
    assert target.exists()
    assert target.is_relative_to(ROOT)
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_the_readme_links_every_page_of_the_documentation():
    assert {page for page in PAGES if page.startswith("docs/")} <= set(links(README))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", EVERYTHING, re.MULTILINE))))
def test_every_make_target_they_name_exists(target: str):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("arguments", commands("flyte-llama"), ids=" ".join)
def test_every_flyte_llama_command_and_its_options_exist(arguments: Sequence[str]):
    command = flyte_llama_command.commands[arguments[0]]
    assert options_in(arguments[1:]) <= options_of(command)
    for index, argument in enumerate(arguments):
        if argument == "--config":
            assert (ROOT / arguments[index + 1]).is_file()


@pytest.mark.parametrize("arguments", commands("pyflyte"), ids=" ".join)
def test_every_pyflyte_command_and_its_options_exist(arguments: Sequence[str]):
    name, *rest = arguments
    command = pyflyte_commands().get_command(click.Context(pyflyte_commands()), name)
    assert command is not None
    if name != "run":
        assert isinstance(command, click.Group)
        assert rest[0] in command.list_commands(click.Context(command))
        return
    # pyflyte run OPTIONS FILE WORKFLOW INPUTS
    before, (workflow, *inputs) = rest[: rest.index(WORKFLOWS)], rest[rest.index(WORKFLOWS) + 1 :]
    assert options_in(before) <= options_of(command)
    assert {option.removeprefix("--") for option in options_in(inputs)} <= workflow_inputs()[workflow]
    if "--config" in inputs:
        assert (ROOT / inputs[inputs.index("--config") + 1]).is_file()


def test_every_option_they_mention_exists():
    known = set().union(*map(options_of, flyte_llama_command.commands.values()))
    run = pyflyte_commands().get_command(click.Context(pyflyte_commands()), "run")
    assert run is not None
    mentioned = {code.split()[0] for code in INLINE if code.startswith("--")}
    assert mentioned <= known | options_of(run)


@pytest.mark.parametrize(
    "arguments",
    [call for call in commands("flyte-llama") if call[0] in ("check", "plan") and "configs/local.yaml" in call],
    ids=" ".join,
)
def test_the_check_and_plan_commands_work(arguments: Sequence[str]):
    flyte_llama = Path(sys.executable).with_name("flyte-llama")
    done = subprocess.run([flyte_llama, *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    begin = {"check": "valid; train_flyte_llama would", "plan": "parameters"}[arguments[0]]
    assert done.stdout.startswith(begin)


def test_there_is_a_check_command_to_try():
    assert ("check", "--config", "configs/local.yaml") in commands("flyte-llama")


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_the_configurations_they_show_are_valid(text: str):
    ExperimentConfig.model_validate(yaml.safe_load(text))


def test_the_readme_shows_a_configuration():
    assert [language for language, _ in BLOCK.findall(README)].count("yaml") == 1


@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_they_list_the_shipped_configurations(page: str):
    listed = re.findall(r"^\| `(\w+)` \| (?:Code Llama|[\d.]+ M)", TEXTS[page], re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def test_the_table_of_rooms_matches_the_package():
    line = TEXTS["docs/house.md"].partition("## The line")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)/?` \|", line, re.MULTILINE)
    assert listed == [room for room in ROOMS if not room.startswith("__")]


@pytest.mark.parametrize(
    ("name", "link"), re.findall(r"`(\w+)`[\w\s`]*?\s(?:in|of)\s\[[^\]]+\]\(([^)]+)\)", TEXTS["docs/house.md"])
)
def test_the_page_about_the_code_names_the_file_of_a_name(name: str, link: str):
    assert re.search(rf"\b{name}\b", (ROOT / "docs" / link).read_text(encoding="utf-8"))


def test_the_table_of_languages_matches_the_code():
    shown = table_rows(TEXTS["docs/your-repositories.md"].partition("## Languages")[2].partition("\n## ")[0])
    assert shown.keys() >= LANGUAGES.keys()
    listed = {name: (entry.kind, "` `".join(files_of(name))) for name, entry in LANGUAGES.items() if files_of(name)}
    assert {name: shown[name] for name in listed} == listed


def test_the_table_of_settings_matches_the_code():
    documented = {name: row for name, row in table_rows(str(settings.__doc__)).items() if name.isupper()}
    images = {"image", "image_cpu"}
    named = {PREFIX + name.upper() for name in Settings.model_fields if name not in images}
    assert set(documented) == named | {name.upper() for name in images}
    shown = table_rows(TEXTS["docs/cluster.md"].partition("## Settings")[2].partition("\n## ")[0])
    default_of = {name: row[-1].replace("`", "") for name, row in documented.items()}
    assert {name: shown[name][-1].replace("`", "") for name in documented} == default_of


def test_the_table_of_settings_has_every_variable_they_name():
    shown = table_rows(TEXTS["docs/cluster.md"].partition("## Settings")[2].partition("\n## ")[0])
    assert {PREFIX + name for name in re.findall(rf"{PREFIX}([A-Z_]+)", EVERYTHING)} <= set(shown)


def test_the_variables_they_name_are_read():
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", EVERYTHING))
    read = {PREFIX + name.upper() for name in Settings.model_fields}
    read |= {GIT_TOKEN, SSH_KEY, SSH_KNOWN_HOSTS, DEBUG}
    assert {PREFIX + name for name in named} <= read


def test_the_configuration_fields_they_name_exist():
    stages = "|".join(ExperimentConfig.model_fields)
    keys = {match[0] for code in INLINE if (match := re.fullmatch(rf"(?:{stages})(?:\.\w+)+", code))}
    assert keys
    for key in keys:
        model = ExperimentConfig
        for name in key.split("."):
            assert name in getattr(model, "model_fields", {}), key
            model = model.model_fields[name].annotation
