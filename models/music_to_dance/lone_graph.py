"""The graph of one step for a lone dancer on the CPU: what `StageStep` computes, in ONNX Runtime's own large operators.

Between two steps of a show the caches forget everything, the code of the operators too, so a step of one dancer costs
by the operator: a whole attention, a rotation of all heads, a sum with the norm after it are one each here, less than
half as many as in `models.music_to_dance.stage_graph`. The attention copies the rings, which a lone dancer does not
feel; crowds take the other graph. Only for export: these operators exist in ONNX Runtime alone (domain com.microsoft).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.onnx.ops import symbolic, symbolic_multi_out

from models.music_to_dance.network import Gmd
from models.music_to_dance.stage_graph import StageStep


class LoneStep(StageStep):
    """`StageStep`, weights, inputs and outputs alike, in other operators. Cannot be run by torch, only exported."""

    place: Tensor

    def __init__(self, model: Gmd, temperature: float = 1.0) -> None:
        super().__init__(model, temperature)
        # Which row of the table of angles: the table is the one row of this step.
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64), persistent=False)

    def forward(
        self,
        music: Tensor,
        condition: Tensor,
        history: Tensor,
        noise: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latent (B, L) and the new keys and values (attentions, B, heads, head_size)."""
        model, config = self.model, self.model.config
        width = config.width
        # The token itself, after the ring, is always seen.
        mask = functional.pad(mask, (0, 1))[:, None, None]
        angles = cos[None], sin[None]
        new_keys: list[Tensor] = []
        new_values: list[Tensor] = []

        def look(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            ring = len(new_keys)
            new_keys.append(key)
            new_values.append(value)
            return self._attend(query, key, value, mask, keys[ring], values[ring])

        def look_back(joint: Tensor) -> Tensor:
            turned, value = joint[:, None].split([2 * width, width], dim=-1)
            query, key = self._rotate(turned, angles).split(width, dim=-1)
            return look(query, key, value)

        x = model.music_in(torch.cat([music, condition], dim=-1))
        y = model.encoder[0].norms[0](x)
        following = [layer.norms[0] for layer in list(model.encoder)[1:]] + [model.encoder_norm]
        for layer, attention, norm in zip(model.encoder, self.encoder_attention, following, strict=True):
            y, x = _add_and_norm(x, attention.out(look_back(attention.joint(y))), layer.norms[1])
            y, x = _add_and_norm(x, layer.feed_forward(y), norm)

        layers = len(self.decoder_attention)
        memory_keys, memory_values = self.cross_memory(y)[:, None].split(layers * width, dim=-1)
        memories = zip(
            self._rotate(memory_keys, angles).split(width, dim=-1), memory_values.split(width, dim=-1), strict=True
        )

        x = model.motion_in(torch.cat([history, condition], dim=-1))
        y = model.decoder[0].norms[0](x)
        following = [layer.norms[0] for layer in list(model.decoder)[1:]] + [model.decoder_norm]
        layers_of = zip(model.decoder, self.decoder_attention, self.cross_query, self.cross_out, strict=True)
        for (layer, attention, ask, out), memory, norm in zip(layers_of, memories, following, strict=True):
            y, x = _add_and_norm(x, attention.out(look_back(attention.joint(y))), layer.norms[1])
            y, x = _add_and_norm(x, out(look(self._rotate(ask(y)[:, None], angles), *memory)), layer.norms[2])
            y, x = _add_and_norm(x, layer.feed_forward(y), norm)
        latent = self.head(y, history, noise)
        fresh = (len(new_keys), -1, config.heads, config.head_size)
        return latent, torch.cat(new_keys).reshape(fresh), torch.cat(new_values).reshape(fresh)

    def _rotate(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Return the heads of x (B, 1, n * head_size) turned by cosines and sines (1, head_size / 2)."""
        sizes = {"num_heads": x.shape[-1] // self.model.config.head_size, "interleaved": 0}
        return _operator("RotaryEmbedding", (x, self.place, *angles), sizes, (x,))[0]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (B, width): attention of a token (B, 1, width) over a ring and itself; the query is scaled."""
        heads, window, size = keys.shape[1:]
        longer = query.new_empty(query.shape[0], heads, window + 1, size)
        given = (query, key, value, None, None, mask, keys, values)
        sizes = {"num_heads": heads, "scale": 1.0}
        # The rings with the token behind them are made by the operator and looked at by nobody.
        return _operator("MultiHeadAttention", given, sizes, (query, longer, longer))[0][:, 0]


def _add_and_norm(x: Tensor, y: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the layer norm of x + y, both (B, width), and x + y."""
    given, some = (x, y, norm.weight, norm.bias), x.new_empty(x.shape[0], 1)
    normed, _, _, total = _operator("SkipLayerNormalization", given, {"epsilon": norm.eps}, (x, some, some, x))
    return normed, total


def _operator(
    name: str, given: Sequence[Any], attributes: dict[str, int | float], like: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Return what one of ONNX Runtime's operators gives, with the shapes and types of `like`."""
    name = f"com.microsoft::{name}"
    if len(like) == 1:
        return [symbolic(name, given, attributes, dtype=like[0].dtype, shape=like[0].shape, version=1)]
    shapes, types = [tensor.shape for tensor in like], [tensor.dtype for tensor in like]
    return symbolic_multi_out(name, given, attributes, dtypes=types, shapes=shapes, version=1)
