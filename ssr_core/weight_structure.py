"""What a weight file of the manifest must hold, tensor by tensor, against what it holds: a web page or another model is found out.

Our own parts are compared in full with the released shapes, under our own names; other models by the few tensors that the manifest names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .shown import shown

if TYPE_CHECKING:  # install.py without arguments imports nothing heavy
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

ENCODER_PARTS = ("aligner", "layers")
ADAPTER_PARTS = ("mip_adapter", "mip_adapter_plus")
ELITE_PARTS = ("elite_global", "elite_local")
OWN_PARTS = (*ENCODER_PARTS, *ADAPTER_PARTS, *ELITE_PARTS)
"""Parts of the manifest that our own methods read."""


class WeightsError(ValueError):
    """A file that is wrong, or that cannot be had. Trying again at once would not help."""


def compared(part: str, name: str, holds: Shapes, path: Path) -> tuple[Shapes, Shapes]:
    """Shapes in the file, and those expected. part, name, holds: as the manifest tells them. Raises ValueError for a file that cannot be
    read."""
    if part in ENCODER_PARTS:
        return _encoder(part, name, path)
    if part in ADAPTER_PARTS:
        return _adapter(part, name, path)
    if part in ELITE_PARTS:
        return _mapper(name, path)
    expected = {key: tuple(shape) for key, shape in holds.items()}
    return {key: shape for key, shape in shapes_of(path).items() if key in expected}, expected


def _encoder(part: str, name: str, path: Path) -> tuple[Shapes, Shapes]:
    import torch

    from .methods.ssr import formats
    from .methods.ssr.encoder import EncoderConfig, SSREncoder

    with torch.device("meta"):
        whole = SSREncoder(EncoderConfig()).state_dict()
    found = formats.rename(_tensors(name, path), str(path))
    return _shapes(found), {key: shape for key, shape in _shapes(whole).items() if key.startswith(f"{part}.")}


def _adapter(part: str, name: str, path: Path) -> tuple[Shapes, Shapes]:
    import torch

    from .methods.mip import formats
    from .methods.mip.adapter import AdapterConfig, MIPAdapter, ResamplerShape

    plus = part == "mip_adapter_plus"
    config = AdapterConfig(tokens=16, resampler=ResamplerShape()) if plus else AdapterConfig()
    with torch.device("meta"):
        whole = MIPAdapter(config).state_dict()
    return _shapes(formats.rename(_tensors(name, path), str(path))), _shapes(whole)


def _mapper(name: str, path: Path) -> tuple[Shapes, Shapes]:
    """Both published mappers have the same names and shapes."""
    import torch

    from .methods.elite.mapper import EliteConfig, GlobalMapper

    with torch.device("meta"):
        whole = GlobalMapper(EliteConfig()).state_dict()
    return _shapes(_tensors(name, path)), _shapes(whole)


def _tensors(name: str, path: Path) -> Mapping[str, Tensor]:
    """A file's tensors; of a safetensors file only their shapes. name: asked of the manifest, as a staged file is called .part."""
    import torch

    from . import tensor_files

    if not name.endswith(".safetensors"):
        return tensor_files.read(path)[0]
    try:
        return {key: torch.empty(shape, device="meta") for key, shape in shapes_of(path).items()}
    except RuntimeError as error:  # sides whose product overflows
        raise WeightsError(f"{path} has impossible shapes ({_first_line(error)}). Remove it and download it again.") from error


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def shapes_of(path: Path) -> Shapes:
    """Shapes of the tensors of a safetensors file, from its header; the file must be as long as the header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read ({_first_line(error)}). Remove it and download it again.") from error


def _first_line(error: Exception) -> str:
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])
