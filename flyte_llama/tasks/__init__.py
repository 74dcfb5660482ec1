"""Flyte tasks, by what their image needs: `data` and `reporting` import no torch, `training` and `scoring` run on GPUs.

A task's body downloads its inputs, calls one plain function of the rooms below, and wraps the result.
"""
