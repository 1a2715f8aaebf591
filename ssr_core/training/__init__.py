"""Training: loop, data and cache are shared by all methods (method.py); each method has a file of its own."""
