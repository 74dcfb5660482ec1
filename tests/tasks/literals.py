"""Values as Flyte hands them to tasks and from one to the next, and the keys that its backend makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
from flyteidl.core import literals_pb2, types_pb2
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import Literal
from google.protobuf import struct_pb2

Literals = dict[str, literals_pb2.Literal]


def literal(value: Any, python_type: Any = None) -> literals_pb2.Literal:
    """The value as the command line and a launch plan send it: a configuration as msgpack."""
    context, python_type = FlyteContextManager.current_context(), python_type or type(value)
    return TypeEngine.to_literal(context, value, python_type, TypeEngine.to_literal_type(python_type)).to_flyte_idl()


def folder_literal(uri: str) -> literals_pb2.Literal:
    """A folder in the bucket."""
    multipart = types_pb2.BlobType(dimensionality=types_pb2.BlobType.MULTIPART)
    blob = literals_pb2.Blob(metadata=literals_pb2.BlobMetadata(type=multipart), uri=uri)
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(blob=blob))


def list_literal(literals: Sequence[literals_pb2.Literal]) -> literals_pb2.Literal:
    return literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=literals))


def value_of(message: literals_pb2.Literal, python_type: type) -> Any:
    context = FlyteContextManager.current_context()
    return TypeEngine.to_python_value(context, Literal.from_flyte_idl(message), python_type)


def from_console(config: literals_pb2.Literal) -> literals_pb2.Literal:
    """The literal as the console sends it: a protobuf Struct, in which every number is a float."""
    struct = struct_pb2.Struct()
    struct.update(msgpack.unpackb(config.scalar.binary.value))
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(generic=struct))


def hashed(literal: literals_pb2.Literal) -> literals_pb2.Literal:
    """The literal as the key sees it: `hashify` of flyteplugins/go/tasks/pluginmachinery/catalog/hashing.go."""
    if literal.hash:
        return literals_pb2.Literal(hash=literal.hash)
    if literal.HasField("collection"):
        return list_literal([hashed(each) for each in literal.collection.literals])
    return literal


def cache_key(inputs: Literals) -> bytes:
    """What decides the key of a task's result, besides the task: the bytes of its inputs."""
    literals = {name: hashed(literal) for name, literal in inputs.items()}
    return literals_pb2.LiteralMap(literals=literals).SerializeToString(deterministic=True)
