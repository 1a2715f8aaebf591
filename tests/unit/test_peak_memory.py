"""What of a module's tensors lives at once: known sizes are counted to the byte."""

import pytest
import torch
from torch import nn

from ssr_core.evaluation.peak_memory import peak_of

FLOATS = 1000
BYTES = 4 * FLOATS


class Steps(nn.Module):
    """Makes three tensors, of which two live at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(FLOATS))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        one = given + self.weight.view(1, -1)[0]
        two = one * 2
        del one
        two.add_(1)
        return two * two


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_peak_is_what_lives_at_once_inside_the_module_without_weights_and_views(mode):
    module, given = Steps(), torch.zeros(FLOATS)
    with mode(), peak_of(module) as peak:
        torch.zeros(50 * FLOATS)  # outside of the module, and gone
        made = module(given)
        torch.zeros(50 * FLOATS)
    assert peak.bytes == 2 * BYTES
    assert made.sum() == FLOATS * 9


def test_what_was_made_for_the_module_before_it_ran_counts_while_it_lives():
    module = Steps()
    with torch.no_grad(), peak_of(module) as peak:
        context = torch.zeros(3 * FLOATS)
        given = torch.zeros(FLOATS)
        module(given)
        del context
        module(given)
    assert peak.bytes == 6 * BYTES


def test_a_module_that_fails_ends_the_count_and_keeps_no_hook():
    module = Steps()
    with pytest.raises(RuntimeError), torch.no_grad(), peak_of(module) as peak:
        module(torch.zeros(7))
    assert (peak.bytes, module._forward_hooks, module._forward_pre_hooks) == (28, {}, {})
