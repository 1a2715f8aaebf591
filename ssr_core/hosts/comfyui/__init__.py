"""ComfyUI as host. Only the files of this package import comfy and folder_paths.

folders.py     where weights and subjects are looked for
managed.py     modules of ours under the host's memory management
finding.py     an encoder and its vision model that nobody named
clip.py        its CLIP_VISION
mini.py        the built-in models in its classes
ssr.py         the SSR-Encoder: its module, its queries, subjects on a MODEL
mip.py         the MIP-Adapter: its module, its names, objects on a MODEL
elite.py       ELITE: its mappers, prompts that say subjects, subjects on a MODEL
lasr.py        LASR: prompts with learned subjects, and their contexts on a MODEL
texts.py       texts out of its CLIP as methods want them
clip_text.py   its CLIP as a function of token embeddings
layout.py      the cross-attention layers of a MODEL
conditions.py  which side each chunk of a batch is on, and which crop of the picture it works on
applied.py     what hangs on a MODEL that has subjects
apply.py       how Apply hangs it there
sampling.py    what happens while that MODEL samples
run.py         what one sampling holds
call.py        one call of the UNet in a sampling: which applied parts act, and what they add
layer.py       one cross-attention in a call, as the host describes it
place.py       which part of which picture a layer's positions are
compiled.py    what torch.compile sees of the subjects
riders.py      what rides on a CONDITIONING
words.py       which chunks of a call say a subject's word, and where
text_weights.py  the text projections of a MODEL, replaced by weight patches
context.py     a text context of its own for every layer
context_patches.py  the host's patches that note what enters a block and give it its context
compiled_context.py  what torch.compile sees of it
learning.py    its MODEL and CLIP as learning asks for models
learning_run.py  a run of learning under its progress bar
gradients.py   gradients through its modules, which stay what they are
inspection.py  a MODEL in words
recording.py   where each subject acted, if a node asks
controlnet.py  what ControlNets see of a prompt
view.py        what a node shows of its subjects in the browser
"""
