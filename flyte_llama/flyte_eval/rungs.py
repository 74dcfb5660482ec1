"""How far an answer got: the ladder of rungs, and where on it an observation stands beside the reference's."""

from __future__ import annotations

from flyte_llama.flyte_eval.observing import Observation

RUNGS = ("nothing", "parses", "imports", "compiles", "runs", "outputs", "graph")
"""From the lowest. runs: wherever the reference gives outputs, so does the answer. outputs: they are equal, and so are
kind of entity, names, types and defaults. graph: what is registered is equal, too."""

OUTPUTS, GRAPH = "outputs", "graph"


def rung_of(seen: Observation, expected: Observation) -> str:
    """The highest rung of an answer's observation; every one below it is reached as well.

    Only runs that the reference came through are looked at. Where there are none, an answer that compiles with the same
    interface is taken to be at `outputs`, and the graph decides.
    """
    if seen.rung not in ("compiles", "runs"):
        return seen.rung
    places = [place for place, output in enumerate(expected.outputs) if output]
    outputs = dict(enumerate(seen.outputs))
    if not all(outputs.get(place) for place in places):
        return "compiles"
    same_inputs = seen.inputs[: len(expected.inputs)] == expected.inputs
    if seen.interface != expected.interface or not same_inputs:
        return "runs"
    if any(outputs[place] != expected.outputs[place] for place in places):
        return "runs"
    return GRAPH if seen.graph == expected.graph else OUTPUTS


def passes(rung: str, decided_by: str) -> bool:
    return RUNGS.index(rung) >= RUNGS.index(decided_by)
