"""MIP-Adapter: several references, each on its own object, on Stable Diffusion XL (arXiv 2409.17920).

Where files speak of the authors' code, it is github.com/hqhQAQ/MIP-Adapter as of September 2024.

adapter.py       MIPAdapter = projector + one K/V projection and gate per cross-attention layer
encode.py        the recipe from pictures and a name to an object
objects.py       MIPObject: what travels along wires and into files; how several become branches
object_file.py   objects as files
formats.py       the published weight formats in, one safetensors format out, and back
"""
