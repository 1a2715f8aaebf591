"""Inspect Model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..ssr_core.hosts.comfyui.inspection import describe
from . import wires
from .compat import Schema


class InspectModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_InspectModel",
            display_name="Inspect Model",
            category=wires.TOOLS_CATEGORY,
            description="Says in words which subjects act on a model, where, when, and beside what else. Paste it into an issue.",
            search_aliases=["ssr", "debug", "doctor"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that goes into the sampler."),
                io.Image.Input(
                    "after",
                    optional=True,
                    tooltip="Connect the picture that was sampled to be told about the sampling too; it is only waited for.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The text, for any node that takes a STRING.")],
        )

    @classmethod
    def execute(cls, model: Any, after: Any = None) -> io.NodeOutput:
        report = describe(model)
        return io.NodeOutput(report, ui=ui.PreviewText(report))
