"""Show Subject to ControlNet."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui.controlnet import shown_to_controlnet
from ..ssr_core.methods.ssr.subject import SubjectSet
from . import wires
from .compat import Schema


class ShowToControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ShowToControlNet",
            display_name="Show Subject to ControlNet",
            category=wires.SSR_CATEGORY,
            description="Lets ControlNets see the subject's tokens behind the prompt, as the official code does. Without this node they "
            "see the prompt only.",
            search_aliases=["ssr"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt, before or after Apply ControlNet."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, before or after Apply ControlNet."),
                wires.Subject.Input("subject", tooltip="The subject that Apply Subject gets too."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For the sampler, or for Apply ControlNet."),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler, or for Apply ControlNet."),
            ],
        )

    @classmethod
    def execute(cls, positive: Any, negative: Any, subject: SubjectSet) -> io.NodeOutput:
        return io.NodeOutput(*shown_to_controlnet(positive, negative, subject))
