"""A masked definition → the features of Flyte that it uses, read from its text and the definitions it refers to."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from flyte_llama.flyte_eval.masking import Mask
from flyte_llama.flyte_eval.module_source import DECORATORS, ModuleText, Names

TOPICS = (
    *("tasks", "workflows", "map tasks", "dynamic", "conditionals", "launch plans"),
    *("dataclasses", "files and directories", "decks", "caching", "resources"),
)

_KIND_TOPICS = {"task": "tasks", "workflow": "workflows", "dynamic": "dynamic", "launch plan": "launch plans"}
# The last part of a name from flytekit → its topic.
_NAME_TOPICS = {
    **dict.fromkeys(("map_task", "map", "array_node_map_task"), "map tasks"),
    **dict.fromkeys(("dynamic",), "dynamic"),
    **dict.fromkeys(("conditional",), "conditionals"),
    **dict.fromkeys(("LaunchPlan", "reference_launch_plan", "CronSchedule", "FixedRate"), "launch plans"),
    **dict.fromkeys(("FlyteFile", "FlyteDirectory"), "files and directories"),
    **dict.fromkeys(("Deck",), "decks"),
    **dict.fromkeys(("Cache", "HashMethod"), "caching"),
    **dict.fromkeys(("Resources", "PodTemplate"), "resources"),
}
_PACKAGE_TOPICS = {
    "flytekit.types.file.": "files and directories",
    "flytekit.types.directory.": "files and directories",
    "flytekit.deck.": "decks",
    "flytekit.extras.accelerators.": "resources",
}
_KEYWORD_TOPICS = {
    **dict.fromkeys(("cache", "cache_version", "cache_serialize"), "caching"),
    **dict.fromkeys(("requests", "limits", "resources", "accelerator"), "resources"),
    **dict.fromkeys(("enable_deck", "disable_deck", "deck_fields"), "decks"),
}


class ModuleTopics:
    """The topics of the definitions of one module, which is read once for all of them."""

    def __init__(self, module: ModuleText) -> None:
        self._names = module.names
        # Name → the topics of the statements that define it, each with its statement.
        self._definitions: dict[str, list[tuple[ast.stmt, str]]] = defaultdict(list)
        for statement in module.tree.body:
            for name, topic in _definition_topics(self._names, statement):
                self._definitions[name].append((statement, topic))
        self._mapped = set().union(*_names_in_map_tasks(self._names, module.tree))

    def of(self, mask: Mask) -> tuple[str, ...]:
        """Return at least one topic, in the order of `TOPICS`.

        A module-level dataclass, dynamic workflow or launch plan that the definition refers to adds its topic. So does
        a `map_task` over the masked task anywhere in the module.
        """
        topics = {_KIND_TOPICS[mask.entity_kind], *_node_topics(self._names, mask.node)}
        used = {node.id for node in ast.walk(mask.node) if isinstance(node, ast.Name)}
        for name in used:
            topics |= {topic for statement, topic in self._definitions.get(name, ()) if statement is not mask.node}
        if mask.entity in self._mapped:
            topics.add("map tasks")
        return tuple(topic for topic in TOPICS if topic in topics)


def _node_topics(names: Names, definition: ast.AST) -> Iterator[str]:
    """The topics of the flytekit names and the keyword arguments in a definition."""
    for node in ast.walk(definition):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = names.full_name(node)
            if name.startswith("flytekit.") and (topic := _NAME_TOPICS.get(name.rpartition(".")[2])):
                yield topic
            yield from (topic for package, topic in _PACKAGE_TOPICS.items() if name.startswith(package))
            if isinstance(node, ast.Attribute) and node.attr == "default_deck":
                yield "decks"
        elif isinstance(node, ast.keyword) and node.arg in _KEYWORD_TOPICS:
            yield _KEYWORD_TOPICS[node.arg]


def _definition_topics(names: Names, statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Name and topic of a dataclass, dynamic workflow or launch plan that a statement defines."""
    if isinstance(statement, ast.ClassDef):
        decorators = [names.full_name(decorator).rpartition(".")[2] for decorator in statement.decorator_list]
        if "dataclass" in decorators:
            yield statement.name, "dataclasses"
    elif (decorator := names.flyte_decorator(statement)) is not None:
        if DECORATORS[names.full_name(decorator)] == "dynamic":
            yield statement.name, "dynamic"  # type: ignore[attr-defined]
    elif names.launch_plan(statement) is not None:
        yield statement.targets[0].id, "launch plans"  # type: ignore[attr-defined]


def _names_in_map_tasks(names: Names, tree: ast.Module) -> Iterator[set[str]]:
    """The names in the first argument of each map_task, or of each functools.partial, since map_task accepts those."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and names.full_name(node.func).rpartition(".")[2] in ("map_task", "partial"):
            yield {
                inner.id for argument in node.args[:1] for inner in ast.walk(argument) if isinstance(inner, ast.Name)
            }
