"""LASR, Layerwise Adaptive Subject Representations: a subject learned from a few pictures, with a text context of its own for every layer.

Where files speak of the authors' code, it is github.com/askerlee/AdaFace-dev at commit 6b1560fa (February 2023).

embedder.py      a vector for every layer, and a small network that makes another from that layer's features and the time
from_words.py    the embedder's first values, out of words that describe the subject
contexts.py      prompts with placeholders -> the text context of every layer
losses.py        the training objective and its schedule
subject.py       LasrSubject: what travels along wires and into files; several of them together
subject_file.py  subjects as files, and apart from them the state of an optimizer
legacy.py        the authors' .pt files, read without running anything that is in them
formats.py       every file of a subject in
"""
