"""Where the methods meet a program: ComfyUI or diffusers."""
