"""What several neighbours need."""

import pytest
import torch
from support import methods, tiny


@pytest.fixture
def control_net(model):
    """CONTROL_NET: the host's own, shaped for the tiny UNet, with the contexts that it saw."""
    import comfy.cldm.cldm
    import comfy.controlnet

    unused = ("out_channels", "transformer_depth_output", "use_temporal_attention")
    config = {key: value for key, value in tiny.UNET_CONFIG.items() if key not in unused}
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32)
    tiny.fill(network, 6)
    network.seen = []
    network.register_forward_pre_hook(lambda module, args, named: module.seen.append(named["context"]), with_kwargs=True)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))


@pytest.fixture
def hint():
    return torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="session")
def known(tmp_path_factory, clip):
    """Methods by name (support/methods.py), each with an unpatched MODEL and what the method alone draws on it."""
    made = {}

    def of(name):
        if name not in made:
            method = methods.make(name, tmp_path_factory.mktemp(name), clip)
            plain = method.make()
            made[name] = method, plain, method.draw(method.apply(plain))
        return made[name]

    return of


@pytest.fixture(params=methods.NAMES)
def beside(request, known):
    """A method, its MODEL without it, and what the method alone draws."""
    return known(request.param)
