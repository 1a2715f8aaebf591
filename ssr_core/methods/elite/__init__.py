"""ELITE (arXiv 2302.13848): one picture and a mask become a word of the prompt, and tokens that every cross-attention looks at besides.

Where files speak of the authors' code, it is github.com/csyxwei/ELITE.

mapper.py        the two mapping networks with their key and value projections, and the identity of their weights
encode.py        the recipe from picture and mask to subject
framing.py       which part of the picture is seen, and the mask on the grid of tokens
subject.py       EliteSubject: what travels along wires and into files
subject_file.py  subjects as files
parts.py         which mapper a file holds
description.py   shapes as our files tell them; layers.py: as the names in others do
formats.py       the two published files in, one safetensors file or the two files out
losses.py        the objectives of both training stages
"""
