"""Samplers for use without ComfyUI: the names that people give, and diffusers' classes behind them.

The classes are given by name, so that a command line can list them without loading diffusers.
"""

from __future__ import annotations

SAMPLERS = {
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler ancestral": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "lms": "LMSDiscreteScheduler",
}
OPTIONS: dict[str, dict[str, str]] = {"lms": {"timestep_spacing": "linspace"}}
"""Of a sampler, besides the noise schedule's own: csyxwei/ELITE's steps evenly from the noisiest timestep to the first, and takes noise of
its largest sigma."""
DEFAULT = "unipc"
"""All of Xiaojiu-z/SSR_Encoder's infer_*.py sample with UniPC, except the one for motion."""
FOR_MOTION = "euler ancestral"
"""What Xiaojiu-z/SSR_Encoder's infer_animate.py samples with."""

MOST_STEPS = 1000
"""Timesteps that the models were trained with; samplers have no more."""
LARGEST_GUIDANCE = 100.0
