"""SSR-Encoder (arXiv 2312.16272): a picture and a query, words or a mask, become tokens in a second branch of every cross-attention.

Where files speak of the authors' code, it is github.com/Xiaojiu-z/SSR_Encoder as of July 2024.

aligner.py       query tokens x patch features -> subject tokens and the attention map
encoder.py       SSREncoder = aligner + one K/V projection per cross-attention layer
encode.py        the recipe from picture and query to subject
subject.py       Subject: what travels along wires and into files; how several become branches
subject_file.py  subjects as files
formats.py       every published weight format in, one safetensors format out
losses.py        the training objective
"""
