"""The example workflows, the blueprint and their thumbnails, made from short descriptions: python -m benchmarks.templates

graph.py builds what ComfyUI saves, layout.py places nodes, content.py describes every template, thumbnails.py draws their pictures.
"""
