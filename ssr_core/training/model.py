"""What is trained, as one module: its forward pass goes through every trained weight, so that data-parallel engines see them all."""

from __future__ import annotations

from torch import Tensor, nn

from ..encoder import SSREncoder


class SubjectKeysValues(nn.Module):
    """From a picture's features and a query to subject tokens and every layer's keys and values."""

    def __init__(self, encoder: SSREncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, query: Tensor, features: Tensor, masks: Tensor, mask_weights: Tensor
    ) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """query: [B, n, T, D], features: [B, n, S, P, C], masks: [B, n, P-1], mask_weights: [B, n, 1]
        -> tokens [B*n, S*T, D]; per layer two [B, n*S*T, C].
        """
        batch = query.shape[0]
        flat = (part.flatten(0, 1) for part in (query, features, masks, mask_weights))
        tokens = self.encoder(*flat).tokens  # [B*n, S*T, D]
        together = tokens.unflatten(0, (batch, -1)).flatten(1, 2)  # [B, n*S*T, D]
        return tokens, self.encoder.project(together)
