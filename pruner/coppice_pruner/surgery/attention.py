"""Attention modules as they are published, seen as groups of heads.

A head, or with grouped queries a key/value head with all queries that read it, is one channel of a group: it owns rows
of the query, key and value layers and columns of the output layer. All attention of transformers 5 takes the number of
heads from its tensors and the head's size from an attribute, which stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from coppice_pruner.surgery.layers import is_linear, is_transposed_linear, layer_widths

_SEPARATE = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("query", "key", "value", "dense"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
)
_HEAD_SIZES = ("head_dim", "attention_head_size")
_HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
_BIAS_TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class Attention:
    """One attention module of a model."""

    owner: str
    """Name of the module whose forward pass splits and joins heads."""
    queries: str
    keys: str
    """The same module as `queries` where one layer gives all three."""
    values: str
    output: str
    """Layer that reads the heads; inside the owner or beside it."""
    head_size: int
    heads: int
    """Query heads."""
    key_value_heads: int
    bias_table: str | None = None
    """Module that holds a position bias for each head."""

    @property
    def fused(self) -> bool:
        """Whether one layer gives queries, keys and values."""
        return self.queries == self.keys

    @property
    def queries_each(self) -> int:
        """Query heads that read one key/value head."""
        return self.heads // self.key_value_heads

    @property
    def query_channels(self) -> tuple[tuple[int, ...], ...]:
        """For each key/value head, the channels of the queries that read it; the output layer's columns too."""
        size = self.queries_each * self.head_size
        return tuple(tuple(range(head * size, (head + 1) * size)) for head in range(self.key_value_heads))

    @property
    def key_channels(self) -> tuple[tuple[int, ...], ...]:
        """For each key/value head, its channels in the key layer, and in the value layer."""
        size = self.head_size
        return tuple(tuple(range(head * size, (head + 1) * size)) for head in range(self.key_value_heads))

    @property
    def fused_channels(self) -> tuple[tuple[int, ...], ...]:
        """For each head, its channels in a layer that gives queries, then keys, then values."""
        width = self.heads * self.head_size
        return tuple(
            tuple(part * width + index for part in range(3) for index in indices) for indices in self.query_channels
        )


def find_attention(model: nn.Module) -> tuple[Attention, ...]:
    """Return the attention modules of a model whose heads can be told apart."""
    found = (_read(model, name, module) for name, module in model.named_modules())
    return tuple(item for item in found if item is not None)


def find_unknown_attention(model: nn.Module) -> tuple[str, ...]:
    """Return the modules that split channels into heads in a way not known here, going by their class's name."""
    known = {item.owner for item in find_attention(model)}
    return tuple(
        name
        for name, module in model.named_modules()
        if name
        and name not in known
        and type(module).__name__.endswith("Attention")
        and any(is_linear(part) for part in module.children())
    )


def set_head_count(owner: nn.Module, before: int, after: int, head_size: int) -> None:
    """Write a new number of query heads into an attention module's attributes."""
    for name in _HEAD_COUNTS:
        if getattr(owner, name, None) == before:
            setattr(owner, name, after)
    for name in ("all_head_size", "split_size"):
        if getattr(owner, name, None) == before * head_size:
            setattr(owner, name, after * head_size)


def _read(model: nn.Module, name: str, module: nn.Module) -> Attention | None:
    size = next((int(getattr(module, key)) for key in _HEAD_SIZES if isinstance(getattr(module, key, None), int)), 0)
    if not size:
        return None
    fused = getattr(module, "c_attn", None)
    if isinstance(fused, nn.Module) and is_transposed_linear(fused) and hasattr(module, "c_proj"):
        width = layer_widths(fused)[1] // 3
        layer = f"{name}.c_attn"
        return Attention(name, layer, layer, layer, f"{name}.c_proj", size, width // size, width // size)
    for query, key, value, output in _SEPARATE:
        layers = [getattr(module, item, None) for item in (query, key, value)]
        if not all(isinstance(layer, nn.Module) and is_linear(layer) for layer in layers):
            continue
        reader = _output(model, name, module, output)
        heads, key_value_heads = (layer_widths(layer)[1] // size for layer in layers[:2])  # type: ignore[arg-type]
        if reader is None or not key_value_heads or heads % key_value_heads:
            return None
        table = next((part for part, item in module.named_modules() if hasattr(item, _BIAS_TABLE)), None)
        return Attention(
            name, f"{name}.{query}", f"{name}.{key}", f"{name}.{value}", reader, size, heads, key_value_heads,
            None if table is None else f"{name}.{table}".rstrip("."),
        )  # fmt: skip
    return None


def _output(model: nn.Module, name: str, module: nn.Module, output: str) -> str | None:
    if isinstance(getattr(module, output, None), nn.Module):
        return f"{name}.{output}"
    # BERT's lies beside the attention: attention.self and attention.output.dense.
    parent = name.rpartition(".")[0]
    beside = f"{parent}.output.{output}"
    try:
        layer = model.get_submodule(beside)
    except AttributeError:
        return None
    return beside if is_linear(layer) else None
