"""Models that others wrote, as their libraries make them: small, with random weights and an input for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """make() gives the model, inputs() what it is called with, result() the tensor of what it returns."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    result: Callable[[Any], Tensor]
    image_format: torch.memory_format | None = None
    # Whether all its norms are hand-written, so that enable() alone finds nothing and adopt() is needed.
    by_hand: bool = False


def _first(output: Any) -> Tensor:
    y: Tensor = output[0]
    return y


def _image(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(shape),)


def _tokens() -> tuple[Tensor, ...]:
    return (torch.randint(0, 50, (2, 12)),)


def _resnet() -> nn.Module:
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic"))


def _convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextModel

    return ConvNextModel(ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], image_size=32))


def _bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertModel(BertConfig(intermediate_size=64, **sizes, **no_dropout))


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaModel(LlamaConfig(intermediate_size=64, use_cache=False, **sizes))


def _unet() -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        layers_per_block=1,
    )


def _autoencoder() -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    )


def _basic_unet() -> nn.Module:
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4))


CASES = {
    "transformers ResNet": Case(_resnet, _image(2, 3, 32, 32), _first, torch.channels_last),
    "transformers ConvNeXt": Case(_convnext, _image(2, 3, 32, 32), _first, torch.channels_last),
    "transformers BERT": Case(_bert, _tokens, _first),
    "transformers Llama": Case(_llama, _tokens, _first, by_hand=True),
    "diffusers UNet2DModel": Case(
        _unet, lambda: (torch.randn(2, 3, 16, 16), torch.tensor([3, 7])), _first, torch.channels_last
    ),
    "diffusers AutoencoderKL": Case(_autoencoder, _image(2, 3, 16, 16), _first, torch.channels_last),
    "monai BasicUNet 3-D": Case(_basic_unet, _image(1, 1, 32, 32, 32), lambda y: y, torch.channels_last_3d),
}
