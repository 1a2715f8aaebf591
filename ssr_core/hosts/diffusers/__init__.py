"""diffusers and transformers as host: the same encoder and the same attention in plain Python.

For training, evaluation and scripts. This package exports what a script calls; the rest is in its files:

  attach.py       branches at a UNet's cross-attentions for the length of a with-block
  controlnet.py   what a ControlNet sees of the subjects
  encoders.py     queries and pictures, encoded
  sets.py         sets of tokens at a UNet: for all pictures, or one for each
  text_weights.py the text projections of a UNet, replaced for the length of a with-block
  prompt.py       prompts with vectors in the place of a word's token
  ssr.py          the SSR-Encoder: subjects out of pictures, and pictures with subjects
  mip.py          the MIP-Adapter: objects out of pictures, and pictures with objects
  elite.py        ELITE: subjects out of pictures, prompts that say them, and pictures
  context.py      a text context of its own for every layer, for the length of a with-block
  lasr.py         LASR: prompts with learned subjects, and pictures of them
  learning.py     a base as learning asks for models
  base.py         the frozen models around an encoder
  load.py         a base from a folder of diffusers, or the built-in one; ControlNets, motion adapters
  mini.py         the built-in models in diffusers' and transformers' classes
  generate.py     pictures through diffusers' own pipelines
"""

from .controlnet import shown_to_controlnet
from .encoders import encode_query, vision_model
from .ssr import for_encoding, subjects_attached

__all__ = ["encode_query", "for_encoding", "shown_to_controlnet", "subjects_attached", "vision_model"]
