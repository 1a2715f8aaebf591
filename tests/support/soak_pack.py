"""A pack of ComfyUI nodes for the soak: one fails in the middle of a sampling, one counts what the server holds."""

import contextlib
import ctypes
import gc
import json

import torch

COUNTED = (
    "Run", "Call", "Applied", "Subject", "Footprint", "Recorder", "MIPObject", "EliteSubject", "LasrSubject", "LasrContexts",
    "ContextRun", "ContextCall", "Rider", "SubjectPrompt",
)  # fmt: skip


class SoakFault:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "call": ("INT", {"default": 2})}}

    def patch(self, model, call):
        seen = []

        def unet(apply_model, args):
            seen.append(None)
            if len(seen) == call:
                raise RuntimeError("the soak's own fault")
            return apply_model(args["input"], args["timestep"], **args["c"])

        clone = model.clone()
        clone.set_model_unet_function_wrapper(unet)
        return (clone,)


class SoakCensus:
    RETURN_TYPES = ()
    FUNCTION = "count"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"moment": ("FLOAT", {"default": 0.0, "max": 1e12})}, "optional": {"model": ("MODEL",)}}

    def count(self, moment, model=None):
        gc.collect()
        # What is freed already, but kept by the allocator for later, is given back, so that memory can be compared.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        things = gc.get_objects()
        found = {
            name: sum(type(thing).__name__ == name and ".ssr_core." in type(thing).__module__ for thing in things)
            for name in COUNTED
        }
        found["Tensor"] = sum(issubclass(type(thing), torch.Tensor) for thing in things)
        return {"ui": {"text": [json.dumps(found)]}}


NODE_CLASS_MAPPINGS = {"SoakFault": SoakFault, "SoakCensus": SoakCensus}
