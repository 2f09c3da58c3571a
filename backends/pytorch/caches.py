"""Cache layers for the transformers modules: one class per way to hold, omit or reorder keys and values.

They plug into ``transformers.cache_utils`` (v5) as layers of an ``EncoderDecoderCache``; the modules call ``update`` and
``get_seq_length`` only, the session calls ``select``. Imported inside functions only: it imports torch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from stepscope.core.plan import Reorder


class Omitted(DynamicLayer):  # type: ignore[misc]
    """Holds nothing: the modules project all keys and values of this call and attend to them."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0

    def select(self, parents: Tensor) -> None:
        pass


class Contiguous(DynamicLayer):  # type: ignore[misc]
    """Self-attention keys and values [rows, heads, capacity, size], written in place at their step.

    ``select`` copies what is held: row by row (Reorder.COPY) or by one gather per tensor (Reorder.INDEX_SELECT).
    """

    keys: Tensor | None
    values: Tensor | None

    def __init__(self, capacity: int, reorder: Reorder) -> None:
        super().__init__()
        self._capacity, self._reorder, self._length = capacity, reorder, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        if self.keys is None:
            rows, heads, _, size = key_states.shape
            self.keys = key_states.new_empty(rows, heads, self._capacity, size)
            self.values = key_states.new_empty(rows, heads, self._capacity, size)
        assert self.keys is not None and self.values is not None
        end = self._length + key_states.shape[2]
        self.keys[:, :, self._length : end] = key_states
        self.values[:, :, self._length : end] = value_states
        self._length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self._length

    def select(self, parents: Tensor) -> None:
        assert self.keys is not None and self.values is not None
        self.keys, self.values = self._selected(self.keys, parents), self._selected(self.values, parents)

    def _selected(self, held: Tensor, parents: Tensor) -> Tensor:
        used = held[:, :, : self._length]
        if self._reorder is Reorder.COPY:
            moved = torch.stack([used[parent].clone() for parent in parents.tolist()])
        else:
            moved = used.index_select(0, parents)
        if len(parents) != len(held):
            held = held.new_empty(len(parents), *held.shape[1:])
        held[:, :, : self._length] = moved
        return held


class RowTable:
    """Says for every step and row which physical row holds that step's keys and values; shared by all layers."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._capacity, self._device = capacity, device
        self.physical = 0  # rows of the buffers
        self.rows = 0
        self.length = 0
        self._origin = torch.empty(0)
        self._flat: Tensor | None = None
        self._arange = torch.arange(0)

    def begin(self, rows: int) -> None:
        self.physical = self.rows = rows
        self._arange = torch.arange(rows, device=self._device)
        self._origin = torch.zeros(self._capacity, rows, dtype=torch.long, device=self._device)

    def append(self) -> None:
        """The next step is written by row i at physical row i."""
        self._origin[self.length] = self._arange
        self.length += 1
        self._flat = None

    def select(self, parents: Tensor) -> None:
        rows = len(parents)
        if rows == self.rows and torch.equal(parents, self._arange):
            return
        if rows > self.physical:
            self.physical = rows
        self._origin = self._origin[:, parents]
        self.rows = rows
        self._arange = torch.arange(rows, device=self._device)
        self._flat = None

    def identity(self) -> bool:
        return self.rows == self.physical and bool((self._origin[: self.length] == self._arange).all())

    def flat(self) -> Tensor | None:
        """[length x rows] indices into [capacity x physical], or None when every row holds its own steps."""
        if self._flat is None and not self.identity():
            steps = torch.arange(self.length, device=self._device)[:, None] * self.physical
            self._flat = (self._origin[: self.length] + steps).ravel()
        return self._flat


class Indexed(DynamicLayer):  # type: ignore[misc]
    """Self-attention keys and values [capacity, physical rows, heads, size] that are never moved (Reorder.LAZY).

    ``update`` gathers what attention reads through the shared table, or hands out a view when no beam has moved.
    """

    keys: Tensor | None
    values: Tensor | None

    def __init__(self, capacity: int, table: RowTable, *, first: bool) -> None:
        super().__init__()
        self._capacity, self._table, self._first, self._length = capacity, table, first, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        table = self._table
        rows, heads, _, size = key_states.shape
        if self.keys is None:
            if self._first:
                table.begin(rows)
            self.keys = key_states.new_empty(self._capacity, rows, heads, size)
            self.values = key_states.new_empty(self._capacity, rows, heads, size)
        elif table.physical > self.keys.shape[1]:
            self.keys, self.values = self._widened(self.keys), self._widened(self.values)
        assert self.keys is not None and self.values is not None
        if self._first:
            table.append()
        self.keys[self._length, :rows] = key_states[:, :, 0]
        self.values[self._length, :rows] = value_states[:, :, 0]
        self._length += 1
        return self._read(self.keys), self._read(self.values)

    def _widened(self, held: Tensor) -> Tensor:
        wide = held.new_empty(self._capacity, self._table.physical, *held.shape[2:])
        wide[: self._length, : held.shape[1]] = held[: self._length]
        return wide

    def _read(self, held: Tensor) -> Tensor:
        flat = self._table.flat()
        if flat is None:
            steps = held[: self._length]
        else:
            steps = held.view(-1, *held.shape[2:]).index_select(0, flat).view(self._length, -1, *held.shape[2:])
        return steps.permute(1, 2, 0, 3)

    def get_seq_length(self) -> int:
        return self._length

    def select(self, parents: Tensor) -> None:
        if self._first:
            self._table.select(parents)


class Projected(DynamicLayer):  # type: ignore[misc]
    """Cross-attention keys and values, projected in step 0 and kept."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def select(self, parents: Tensor) -> None:
        if self.keys is not None:
            self.keys, self.values = self.keys.index_select(0, parents), self.values.index_select(0, parents)


def new_cache(
    layers: int, capacity: int, *, self_kv: bool, cross_kv: bool, reorder: Reorder, device: torch.device
) -> EncoderDecoderCache:
    """The cache object that the decoder is given. capacity: the most decode steps."""
    table = RowTable(capacity, device)
    own: list[DynamicLayer] = []
    for layer in range(layers):
        if not self_kv:
            own.append(Omitted())
        elif reorder is Reorder.LAZY:
            own.append(Indexed(capacity, table, first=layer == 0))
        else:
            own.append(Contiguous(capacity, reorder))
    cross = [Projected() if cross_kv else Omitted() for _ in range(layers)]
    return EncoderDecoderCache(Cache(layers=own), Cache(layers=cross))
