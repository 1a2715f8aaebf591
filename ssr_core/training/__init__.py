"""Training: one loop, data and cache for every method (method.py), and one file a method."""
