"""ELITE as a method that can be trained (arXiv 2302.13848; csyxwei/ELITE, train_global.py and train_local.py, in elite.md, section 8).

Two stages, a run each. The global one trains the mapper from a picture to words together with the text projections that take the place of
the UNet's; the local one, which starts from it, the mapper from a masked picture to tokens with projections of its own. A checkpoint of
the local stage holds both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import vision
from ..hosts.diffusers import elite as host
from ..hosts.diffusers import generate
from ..hosts.diffusers.attach import branches_attached, check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.encoders import vision_model
from ..hosts.diffusers.prompt import encode_with_words
from ..hosts.diffusers.text_weights import text_weights_replaced
from ..methods.elite import formats
from ..methods.elite.encode import check_vision_model
from ..methods.elite.losses import global_objective, local_objective
from ..methods.elite.mapper import STAGES, Elite, EliteConfig, GlobalMapper, LocalMapper, Mapper, Stage
from ..methods.elite.subject import DEFAULT_LAMBDA
from ..mini.files import MINI
from ..mini.vocabulary import check_words
from ..pictures import open_mask, open_picture
from ..sheet import Labelled
from .config import TrainingConfig, ValidationPicture
from .elite_captions import FAR, NEAR, filled, fits, in_view
from .elite_config import EliteTrainingConfig
from .elite_samples import EliteInputs
from .examples import VisionShape
from .frozen import Frozen
from .method import Autocast, Example, Losses

Pairs = tuple[tuple[Tensor, Tensor], ...]
"""Two tensors for each layer, for keys and values."""


class WordsAndProjections(nn.Module):
    """The global mapper in training."""

    def __init__(self, mapper: GlobalMapper) -> None:
        super().__init__()
        self.mapper = mapper

    def forward(self, features: Tensor) -> tuple[Tensor, Pairs]:
        """features: [B, S, 1+P, V] -> words [B, S, D]; per layer the matrices of the text's keys and values, [C, D] each."""
        # Copies: engines of training that spread weights over devices take them back when this returns.
        pairs = tuple((own.key.clone(), own.value.clone()) for own in self.mapper.matrices())
        return self.mapper(features), pairs


class LocalKeysValues(nn.Module):
    """The local mapper in training."""

    def __init__(self, mapper: LocalMapper) -> None:
        super().__init__()
        self.mapper = mapper

    def forward(self, features: Tensor, patches: Tensor) -> Pairs:
        """features: [B, S, 1+P, V], patches: [B, P] -> per layer keys and values of the local tokens, [B, P, C] each."""
        return tuple(self.mapper.project(self.mapper(features, patches)))


class ELITE:
    """A mapper in training, fresh or from start_from."""

    config_class: ClassVar[type[TrainingConfig]] = EliteTrainingConfig
    file: ClassVar[str] = "elite"

    def __init__(self, config: EliteTrainingConfig, frozen: Frozen) -> None:
        self.config, self.frozen = config, frozen
        base = frozen.base
        self.elite = _started(config, base)
        shapes = self.elite.config
        check_unet(base.unet, shapes.layout)
        if shapes.text_width != base.text_width:
            raise ValueError(
                f"The mapper to start from makes words of width {shapes.text_width}, the base's are of {base.text_width}. Load the base "
                "that it was made for."
            )
        self.tower = vision_model(base.vision_encoder)
        check_vision_model(self.tower, shapes)
        self.elite.to(frozen.device).requires_grad_(False).train(False)
        trained: Mapper
        if self.elite.local_mapper is None:
            trained = self.elite.global_mapper
            self.module: nn.Module = WordsAndProjections(self.elite.global_mapper)
        else:
            trained = self.elite.local_mapper
            self.module = LocalKeysValues(self.elite.local_mapper)
        trained.requires_grad_(True).train()
        words = shapes.words if config.stage == "global" else 1
        length = base.text_encoder.config.max_position_embeddings
        self.inputs = EliteInputs(config, VisionShape(self.tower.size, shapes.grid), base.tokenizer, words, length)
        self._check_prompts()

    @property
    def features_of(self) -> tuple[int, ...]:
        return self.elite.config.vision_layers

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, s, s] -> [B, S, 1+P, V] float32"""
        return vision.patch_features(self.tower.hidden_states, pixels, self.elite.config.vision_layers).float()

    def encode(self, batch: Example) -> Example:
        done = dict(batch)
        done["features"] = self.features(done.pop("seen")).to(self.frozen.device)
        if self.config.stage == "local":
            words = self.elite.global_mapper(done.pop("features"))[:, :1]  # the first says what the subject is
            done["prompt_embeds"], done["places"] = self._said(done, words)
            done["features"] = self.features(done.pop("thing")).to(self.frozen.device)
        return done

    @contextmanager
    def loss(self, module: nn.Module, batch: Example, autocast: Autocast) -> Iterator[Losses]:
        noisy, noise, timesteps = self.frozen.noise(batch)
        weights = self.frozen.balanced[timesteps] if self.config.timestep_weights == "balanced" else None
        of_stage = self._global_loss if self.config.stage == "global" else self._local_loss
        with of_stage(module, batch, autocast, (noisy, noise, timesteps), weights) as losses:
            yield losses

    @contextmanager
    def _global_loss(
        self,
        module: nn.Module,
        batch: Example,
        autocast: Autocast,
        drawn: tuple[Tensor, Tensor, Tensor],
        weights: Tensor | None,
    ) -> Iterator[Losses]:
        noisy, noise, timesteps = drawn
        with autocast():
            words, pairs = module(batch["features"])
        with self._texts_read_by(pairs):
            with autocast():
                embeds, _ = self._said(batch, words)
                predicted = self.frozen.predict(noisy, timesteps, {**batch, "prompt_embeds": embeds})
                found = global_objective(predicted, noise, words, sample_weights=weights)
            yield found._asdict()

    @contextmanager
    def _local_loss(
        self,
        module: nn.Module,
        batch: Example,
        autocast: Autocast,
        drawn: tuple[Tensor, Tensor, Tensor],
        weights: Tensor | None,
    ) -> Iterator[Losses]:
        noisy, noise, timesteps = drawn
        unet, layout = self.frozen.base.unet, self.elite.config.layout
        with autocast():
            keys_values = module(batch["features"], batch["patches"])
        rows = list(range(noisy.shape[0]))  # every sample has tokens of its own; without its word in the prompt they do not act
        pairs = [(own.key, own.value) for own in self.elite.global_mapper.matrices()]
        attached = branches_attached(unet, layout, [keys_values], rows, said=[batch["places"]])
        with self._texts_read_by(pairs), attached:
            with autocast():
                predicted = self.frozen.predict(noisy, timesteps, batch)
                values = [value for _, value in keys_values]
                found = local_objective(predicted, noise, batch["counts"], values, self.config.scaling, sample_weights=weights)
            yield found._asdict()

    def _texts_read_by(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Any:
        return text_weights_replaced(self.frozen.base.unet, self.elite.config.layout, pairs, "in training", host.WHAT)

    def _said(self, batch: Example, words: Tensor) -> tuple[Tensor, list[tuple[int, ...]]]:
        """The texts with their words, [B, T, D], and by text where those stand. A dropped one is the encoding of nothing, and has none."""
        base, embeds = self.frozen.base, batch["prompt_embeds"]
        told = [number for number, text in enumerate(batch["text"]) if text]
        places: list[tuple[int, ...]] = [()] * len(batch["text"])
        if not told:
            return embeds, places
        texts = [batch["text"][number] for number in told]
        encoded = encode_with_words(base.tokenizer, base.text_encoder, texts, {host.PLACEHOLDER: words[told]})
        for number, found in zip(told, encoded.places, strict=True):
            places[number] = found[host.PLACEHOLDER]
        index = torch.tensor(told, device=encoded.embeds.device)
        return embeds.to(encoded.embeds).index_copy(0, index, encoded.embeds), places

    def validation_row(self, pipe: Any, wanted: ValidationPicture, latents: Tensor) -> list[Labelled]:
        """The reference, and its subject under the prompt."""
        base, config = self.frozen.base, self.config
        self.elite.fingerprint = self._weights(self.module.state_dict()).fingerprint
        picture = open_picture(Path(wanted.reference))
        mask = None if wanted.mask is None else open_mask(Path(wanted.mask))
        subjects = host.encode(base, self.elite, picture, mask)
        drawn = host.sample(
            pipe,
            self.elite,
            subjects,
            [wanted.prompt],
            latents,
            manner=DEFAULT_LAMBDA,
            steps=config.validation_steps,
            guidance=config.guidance,
        )
        return [(wanted.query or "reference", picture), (wanted.prompt, generate.decode(base, drawn)[0])]

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        """The global mapper, or with the local stage both, as every host loads them."""
        formats.write(self._weights(state), path, extra={"training": self.config.to_yaml()})

    def _weights(self, state: Mapping[str, Tensor]) -> formats.Weights:
        own = {name.removeprefix("mapper."): tensor for name, tensor in state.items()}
        states: dict[Stage, Mapping[str, Tensor]] = {"global": self.elite.global_mapper.state_dict()}
        states[self.config.stage] = own
        whole = {
            stage: {name: tensor.detach().cpu().float() for name, tensor in states[stage].items()}
            for stage in STAGES
            if stage in states
        }
        return formats.of_state(self.elite.config, whole)

    def _check_prompts(self) -> None:
        """What would otherwise be met in the middle of a run: prompts without the word, and words that Mini does not know."""
        config, inputs = self.config, self.inputs
        views = ("", *FAR, *NEAR) if config.stage == "local" and config.zoom else ("",)
        for template in config.templates:
            for text in (in_view(filled(template), view) for view in views):
                if config.base == MINI:
                    check_words(text)
                if not fits(inputs.tokenizer, text, inputs.words, inputs.length):
                    raise ValueError(
                        f'templates: "{text[:80]}" does not say the subject\'s word once as a token of its own, or leaves no room for '
                        f"{inputs.words}. Write it apart from other words, as in {config.templates[0][:60]!r}."
                    )
        for wanted in config.validation:
            if wanted.more:
                raise ValueError("validation: ELITE in training draws one subject a picture; leave `more` out.")
            if not fits(inputs.tokenizer, wanted.prompt, 1, inputs.length):
                raise ValueError(
                    f'validation: the prompt "{wanted.prompt[:80]}" does not say the subject\'s word, "{host.PLACEHOLDER}", as a word of '
                    f'its own; write for instance "a {host.PLACEHOLDER}".'
                )


def _started(config: EliteTrainingConfig, base: Base) -> Elite:
    """In full precision; with a local mapper in the local stage alone."""
    if base.is_xl:
        raise ValueError("ELITE is for Stable Diffusion 1.x; this base is XL. Give another `base`.")
    found: Elite | None = None
    if config.start_from:
        found = formats.load([Path(path) for path in config.start_from], dtype=torch.float32)
    tower = base.vision_encoder.config
    shapes = EliteConfig(
        layout=base.layout,
        text_width=base.text_width,
        vision_width=tower.hidden_size,
        hidden_width=config.hidden_width,
        vision_layers=config.vision_layers,
        grid=tower.image_size // tower.patch_size,
    )
    if config.stage == "global":
        made = Elite(shapes if found is None else found.config, local=False)
        if found is None:
            _start_projections(made.global_mapper, base)
        else:
            made.global_mapper = found.global_mapper
        return made
    assert found is not None  # the configuration has refused it
    if found.local_mapper is None:
        check_unet(base.unet, found.config.layout)
        found.local_mapper = LocalMapper(found.config)
        _start_projections(found.local_mapper, base)
    return found


@torch.no_grad()
def _start_projections(mapper: Mapper, base: Base) -> None:
    """In both stages they begin as the UNet's own of the text (csyxwei/ELITE, train_global.py and train_local.py)."""
    attentions = check_unet(base.unet, mapper.config.layout)
    for own in mapper.matrices():
        theirs = attentions[own.layer.diffusers_name]
        for matrix, linear in ((own.key, theirs.to_k), (own.value, theirs.to_v)):
            if matrix.shape != linear.weight.shape:
                raise ValueError(
                    f"The mapper to start from makes words of width {matrix.shape[1]}, this UNet reads texts of width "
                    f"{linear.weight.shape[1]}. Load the base that it was made for."
                )
            matrix.copy_(linear.weight.float())
