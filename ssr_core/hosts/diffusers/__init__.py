"""diffusers and transformers as host: the same encoder and the same attention in plain Python.

For training, evaluation and scripts; here is what a script calls, in these files is the rest:

  attach.py       branches and subjects at a UNet's cross-attentions for the length of a with-block
  controlnet.py   what a ControlNet sees of the subjects
  encoders.py     queries, pictures and the SSR-Encoder, ready for encode.encode_subjects
  base.py         the frozen models around an encoder
  load.py         a base from a folder of diffusers, or the built-in one; ControlNets, motion adapters
  mini.py         the built-in models in diffusers' and transformers' classes
  generate.py     pictures through diffusers' own pipelines
"""

from .attach import subjects_attached
from .controlnet import shown_to_controlnet
from .encoders import encode_query, for_encoding, vision_model

__all__ = ["encode_query", "for_encoding", "shown_to_controlnet", "subjects_attached", "vision_model"]
