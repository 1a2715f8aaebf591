"""ComfyUI as host. Only the files of this package import comfy and folder_paths.

folders.py   where weights are looked for
managed.py   modules of ours under the host's memory management
clip.py      its CLIP_VISION
ssr.py       the SSR-Encoder: its module, its queries, subjects on a MODEL
layout.py    the cross-attention layers of a MODEL
conditions.py which chunk of a batch is positive, and which crop of the picture it works on
applied.py   what hangs on a MODEL that has subjects
apply.py     how it gets there
sampling.py  what happens while that MODEL samples
run.py       what one sampling holds
call.py      one call of the UNet in it: who acts, and what that adds
layer.py     one cross-attention in that call, as the host tells of it
place.py     which part of which picture its positions are
compiled.py  what torch.compile sees of all that
inspection.py a MODEL in words
recording.py  where each subject acted, for those who ask
controlnet.py what ControlNets see of a prompt
view.py      what a node shows of its subjects in the browser
"""
