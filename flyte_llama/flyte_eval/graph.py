"""What Flyte would register for an entity, as text in which two equal ones are equal.

Left out is what is not the code's meaning: the module's name, image, command and environment of the container,
documentation, versions of flytekit. Kept are interfaces, resources, caching, retries, timeouts, decks, nodes and their
bindings, conditions, launch plans' inputs and schedules. Independent calls in another order are another graph.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from flyte_llama.flyte_eval.canonical import NoTextError, canonical

# Keys of flyteidl's messages, wherever they stand.
_NO_MEANING = {
    *("image", "command", "args", "env", "runtime", "docs", "description", "long_description", "short_description"),
    *("version", "project", "domain", "data_config", "architecture", "pod_template_name", "tags"),
}


def graph(entity: Any, module: str) -> str:
    """Canonical JSON; names of entities without the module's."""
    from flytekit.configuration import Image, ImageConfig, SerializationSettings
    from flytekit.tools.translator import get_serializable
    from google.protobuf.json_format import MessageToDict

    image = Image(name="default", fqn="image", tag="tag")
    settings = SerializationSettings(
        project="project",
        domain="domain",
        version="version",
        image_config=ImageConfig(default_image=image, images=[image]),
    )
    found = get_serializable(OrderedDict(), settings, entity).to_flyte_idl()
    told = _meaning(MessageToDict(found, preserving_proto_field_name=True), f"{module}.")
    return json.dumps(told, sort_keys=True)


def interface(entity: Any, module: str) -> dict[str, dict[str, str]]:
    """`inputs` and `outputs`: name → type as canonical JSON; `defaults` of inputs; `entity`: of what kind it is."""
    from google.protobuf.json_format import MessageToDict

    told = MessageToDict(entity.interface.to_flyte_idl(), preserving_proto_field_name=True)
    sides = {
        side: {
            name: json.dumps(_meaning(variable.get("type", {}), f"{module}."), sort_keys=True)
            for name, variable in told.get(side, {}).get("variables", {}).items()
        }
        for side in ("inputs", "outputs")
    }
    return {**sides, "defaults": _defaults(entity), "entity": _kind(entity)}


def _defaults(entity: Any) -> dict[str, str]:
    """Of parameters that have one, but for a default of None, which flytekit takes for none."""
    if not hasattr(entity, "python_interface"):
        return {}
    found = {}
    for name, (_, default) in entity.python_interface.inputs_with_defaults.items():
        if default is not None:
            try:
                found[name] = canonical(default)
            except NoTextError:
                found[name] = type(default).__name__
    return found


def _kind(entity: Any) -> dict[str, str]:
    """A dynamic task differs from a plain one in nothing that is registered but the container's arguments."""
    from flytekit.core.python_function_task import PythonFunctionTask

    mode = entity.execution_mode.name if isinstance(entity, PythonFunctionTask) else ""
    return {"kind": type(entity).__name__, "mode": mode}


def _meaning(told: Any, prefix: str) -> Any:
    if isinstance(told, dict):
        return {key: _meaning(value, prefix) for key, value in told.items() if key not in _NO_MEANING}
    if isinstance(told, list):
        return [_meaning(value, prefix) for value in told]
    return told.replace(prefix, "") if isinstance(told, str) else told
