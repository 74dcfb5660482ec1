"""Flyte tasks: `training` imports torch, the others do not.

A task's body downloads its inputs, calls one plain function of a lower package, and wraps the result.
"""
