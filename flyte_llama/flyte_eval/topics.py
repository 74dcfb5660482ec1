"""A masked definition → what of Flyte it is about, as far as its own text and the names it uses say."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flyte_llama.flyte_eval.masking import Masked
from flyte_llama.flyte_eval.module_text import ModuleText
from flyte_llama.flyte_eval.names import DECORATORS, Names

TOPICS = (
    *("tasks", "workflows", "map tasks", "dynamic", "conditionals", "launch plans"),
    *("dataclasses", "files and directories", "decks", "caching", "resources"),
)

_OF_KIND = {"task": "tasks", "workflow": "workflows", "dynamic": "dynamic", "launch plan": "launch plans"}
# The last part of a name that comes from flytekit.
_OF_NAME = {
    **dict.fromkeys(("map_task", "map", "array_node_map_task"), "map tasks"),
    **dict.fromkeys(("dynamic",), "dynamic"),
    **dict.fromkeys(("conditional",), "conditionals"),
    **dict.fromkeys(("LaunchPlan", "reference_launch_plan", "CronSchedule", "FixedRate"), "launch plans"),
    **dict.fromkeys(("FlyteFile", "FlyteDirectory"), "files and directories"),
    **dict.fromkeys(("Deck",), "decks"),
    **dict.fromkeys(("Cache", "HashMethod"), "caching"),
    **dict.fromkeys(("Resources", "PodTemplate"), "resources"),
}
_OF_PACKAGE = {
    "flytekit.types.file.": "files and directories",
    "flytekit.types.directory.": "files and directories",
    "flytekit.deck.": "decks",
    "flytekit.extras.accelerators.": "resources",
}
_OF_KEYWORD = {
    **dict.fromkeys(("cache", "cache_version", "cache_serialize"), "caching"),
    **dict.fromkeys(("requests", "limits", "resources", "accelerator"), "resources"),
    **dict.fromkeys(("enable_deck", "disable_deck", "deck_fields"), "decks"),
}


def topics_of(module: ModuleText, masked: Masked) -> tuple[str, ...]:
    """In the order of `TOPICS`, at least one.

    A definition of the module that it uses counts as far as what it is: a dataclass, a dynamic workflow, a launch
    plan. So does a `map_task` somewhere in the module over the masked task.
    """
    names = Names(module.tree)
    own = {_OF_KIND[masked.entity_kind], *_of_node(names, masked.node)}
    used = {node.id for node in ast.walk(masked.node) if isinstance(node, ast.Name)}
    for statement in module.tree.body:
        if statement is not masked.node:
            own |= {topic for name, topic in _of_definition(names, statement) if name in used}
    if any(masked.entity in mapped for mapped in _mapped(names, module.tree)):
        own.add("map tasks")
    return tuple(topic for topic in TOPICS if topic in own)


def _of_node(names: Names, definition: ast.AST) -> Iterator[str]:
    for node in ast.walk(definition):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = names.dotted(node)
            if name.startswith("flytekit.") and (topic := _OF_NAME.get(name.rpartition(".")[2])):
                yield topic
            yield from (topic for package, topic in _OF_PACKAGE.items() if name.startswith(package))
            if isinstance(node, ast.Attribute) and node.attr == "default_deck":
                yield "decks"
        elif isinstance(node, ast.keyword) and node.arg in _OF_KEYWORD:
            yield _OF_KEYWORD[node.arg]


def _of_definition(names: Names, statement: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(statement, ast.ClassDef):
        decorators = [names.dotted(decorator).rpartition(".")[2] for decorator in statement.decorator_list]
        if "dataclass" in decorators:
            yield statement.name, "dataclasses"
    elif (decorator := names.flyte_decorator(statement)) is not None:
        if DECORATORS[names.dotted(decorator)] == "dynamic":
            yield statement.name, "dynamic"  # type: ignore[attr-defined]
    elif names.launch_plan(statement) is not None:
        yield statement.targets[0].id, "launch plans"  # type: ignore[attr-defined]


def _mapped(names: Names, tree: ast.Module) -> Iterator[set[str]]:
    """Names in the first argument of each call of map_task; that may be a functools.partial."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and names.dotted(node.func).rpartition(".")[2] in ("map_task", "partial"):
            yield {
                inner.id for argument in node.args[:1] for inner in ast.walk(argument) if isinstance(inner, ast.Name)
            }
