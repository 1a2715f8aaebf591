"""Deterministic weights, inputs and pictures of the golden cases of MIP-Adapter and ELITE: tensors are functions of (seed, key, shape).

Own code, numpy only (RandomState = frozen legacy stream)."""

import math
import zlib

import numpy as np


def raw(seed, key, shape):
    """Standard normal float32."""
    stream = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode()))
    return np.asarray(stream.standard_normal(tuple(shape))).astype(np.float32).reshape(tuple(shape))


def weight(seed, key, shape):
    x = raw(seed, key, shape)
    if key.endswith("latents"):
        return (x / np.float32(math.sqrt(shape[-1]))).astype(np.float32)
    if len(shape) == 1:
        return np.float32(1.0) + np.float32(0.1) * x if key.endswith("weight") else np.float32(0.1) * x
    if len(shape) == 2:
        return x * np.float32(1.0 / np.sqrt(shape[1]))
    return (x / np.float32(np.sqrt(int(np.prod(shape[1:]))))).astype(np.float32)


def picture(seed, key, height, width, channels=3):
    """uint8 [height, width, channels]: 8 x 8 blocks of random colour plus fine noise."""
    stream = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode()))
    coarse = stream.randint(0, 256, size=((height + 7) // 8, (width + 7) // 8, channels))
    large = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width]
    fine = stream.randint(-20, 21, size=(height, width, channels))
    return np.clip(large + fine, 0, 255).astype(np.uint8)


def ellipse(height, width):
    """float32 [height, width] of 0 and 1."""
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return ((((y[:, None] - 0.5) / 0.34) ** 2 + ((x[None] - 0.5) / 0.28) ** 2) <= 1).astype(np.float32)
