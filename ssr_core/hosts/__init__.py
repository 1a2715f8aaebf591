"""Where the method meets a program: ComfyUI or diffusers."""
