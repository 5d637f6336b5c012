"""A recorded pass as a list of calls, whose results lie in memory that is laid out once.

A replay calls the operations that were recorded, with the same weights, in the same order, or those
that write the same results to given memory. It leaves out what another pass would repeat in vain:
the modules' Python code, views, what does not depend on the inputs, and the allocation of results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from models.engine.layers.nf4 import direct_call
from models.engine.replay.recording import Call, NotReplayable, storage_of, tensors_in

_ALIGNMENT = 64
"""Bytes at a multiple of which each result begins."""
_MAX_CONSTANT_BYTES = 65_536
"""Bytes of a result that is kept because it does not depend on the inputs. Larger ones, as weights
that were unpacked for the pass, are computed again."""
_aten = torch.ops.aten
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    _aten.add.out: torch.add,
    _aten.sub.out: torch.sub,
    _aten.mul.out: torch.mul,
    _aten.div.out: torch.div,
    _aten.neg.out: torch.neg,
    _aten.cat.out: torch.cat,
    _aten.gelu.out: torch._C._nn.gelu,
    _aten.silu.out: torch._C._nn.silu,
    _aten.add_.Tensor: Tensor.add_,
    _aten.mul_.Tensor: Tensor.mul_,
    _aten.layer_norm.default: torch.layer_norm,
}
"""Functions that compute what these operations do, and are called in half the time."""


class _Operation:
    """A recorded call, and the memory that it reads, makes and writes."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.inputs = list(tensors_in((call.args, call.kwargs)))
        self.outputs = list(tensors_in(call.result))
        self.reads = _storages(self.inputs)
        self.makes = _storages(self.outputs) - self.reads
        self.writes = _storages(call.written)

    @property
    def is_view(self) -> bool:
        """Whether it returns nothing but parts of its arguments, or empty tensors."""
        return bool(self.outputs) and not self.makes and not self.writes and self.call.is_operation


class Program:
    """A recorded pass, which can be replayed with other inputs."""

    def __init__(self, calls: Sequence[Call], inputs: Sequence[Tensor], output: Tensor) -> None:
        """Lay out the memory of a pass, and prepare its calls.

        Args:
            calls: the operations; all their tensors are still alive.
            inputs: tensors that other passes have others of, of the same shapes and dtypes.
            output: what the pass returned.

        Raises:
            NotReplayable: the pass depends on values or chance, or writes to lasting memory.
        """
        operations = [_Operation(call) for call in calls]
        operations = [operation for operation in operations if not operation.is_view]
        operations = _needed(_dependent(operations, inputs), output)
        layout = _Layout(operations, inputs, output)
        self._inputs = [layout.placed(tensor) for tensor in inputs]
        self._output = layout.placed(output)
        self._runs = [layout.prepared(operation) for operation in operations]
        self._tensors = [  # whose addresses `direct_call` knows
            layout.placed(tensor) for operation in operations for tensor in operation.inputs
        ]
        self._names = [operation.call.name for operation in operations]

    def __len__(self) -> int:
        """Return the number of calls of a replay."""
        return len(self._runs)

    def __call__(self, *inputs: Tensor, seconds: dict[str, float] | None = None) -> Tensor:
        """Replay the pass.

        Args:
            *inputs: the tensors that take the place of the recorded pass's.
            seconds: to which the duration of each call is added, under its operation's name.
        """
        for placed, tensor in zip(self._inputs, inputs, strict=True):
            placed.copy_(tensor)
        if seconds is None:
            for run in self._runs:
                run()
        else:
            for name, run in zip(self._names, self._runs, strict=True):
                began = time.perf_counter()
                run()
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
        return self._output.clone()


def _dependent(operations: Sequence[_Operation], inputs: Sequence[Tensor]) -> list[_Operation]:
    """Return the operations that a replay repeats; what the others returned is constant.

    Raises:
        NotReplayable: see `Program`.
    """
    changing = {key for operation in operations for key in operation.writes}
    if changing - {key for operation in operations for key in operation.makes}:
        raise NotReplayable("it writes to memory that outlasts it")
    changing |= _storages(inputs)
    repeated = []
    for operation in operations:
        if torch.Tag.nondeterministic_seeded in getattr(operation.call.function, "tags", ()):
            raise NotReplayable(f"{operation.call.function} depends on chance")
        if (
            changing & (operation.reads | operation.makes)
            or not operation.call.is_operation
            or any(tensor.nbytes > _MAX_CONSTANT_BYTES for tensor in operation.outputs)
        ):
            _check(operation)
            changing |= operation.makes
            repeated.append(operation)
    return repeated


def _check(operation: _Operation) -> None:
    """Raise NotReplayable if an operation does more to a pass than its tensors show."""
    function, tags = operation.call.function, getattr(operation.call.function, "tags", ())
    if not operation.outputs and not operation.writes:
        raise NotReplayable(f"its Python code reads what {function} returns")
    masks = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in operation.inputs[1:])
    if torch.Tag.dynamic_output_shape in tags and (function is not _aten.index.Tensor or masks):
        raise NotReplayable(f"the size of what {function} returns depends on values")


def _needed(operations: Sequence[_Operation], output: Tensor) -> list[_Operation]:
    """Return the operations that the output needs, and the recorded functions.

    A function is attention, which also writes keys and values to the caches.
    """
    needed, kept = _storages([output]), []
    for operation in reversed(operations):
        if needed & (operation.makes | operation.writes) or not operation.call.is_operation:
            needed |= operation.reads
            kept.append(operation)
    return kept[::-1]


class _Layout:
    """Where the tensors of a replay lie: results share memory that is free again."""

    def __init__(
        self, operations: Sequence[_Operation], inputs: Sequence[Tensor], output: Tensor
    ) -> None:
        first = dict.fromkeys(_storages(inputs), -1)
        last = {storage_of(output): len(operations)}
        sizes = {storage_of(tensor): _size(tensor) for tensor in inputs}
        for n, operation in enumerate(operations):
            first.update(dict.fromkeys(operation.makes, n))
            for key in operation.reads | operation.makes:
                last[key] = max(n, last.get(key, n))
            for tensor in operation.outputs:
                if key := storage_of(tensor):
                    sizes[key] = _size(tensor)
        self._begins: dict[int, int] = {}
        """Where the memory of each result begins, by the address of the recorded one."""
        taken: list[tuple[int, int, int]] = []
        """Begin, end and last operation of each result whose memory is not free yet."""
        size = 0
        for key, n in first.items():
            taken = sorted(part for part in taken if part[2] >= n)
            begin = 0
            for other, end, _ in taken:
                if begin + sizes[key] <= other:
                    break
                begin = end
            taken.append((begin, begin + sizes[key], last.get(key, n)))
            self._begins[key] = begin
            size = max(size, begin + sizes[key])
        self._memory = torch.zeros(size, dtype=torch.uint8)
        self._placed: dict[Any, Tensor] = {}

    def placed(self, tensor: Tensor) -> Tensor:
        """Return the tensor of a replay in the place of a recorded one: itself if constant."""
        begin = self._begins.get(storage_of(tensor))
        if begin is None:
            return tensor
        offset = begin // tensor.itemsize + tensor.storage_offset()
        place = tensor.dtype, tensor.shape, tensor.stride(), offset
        if place not in self._placed:
            memory = self._memory.view(tensor.dtype)
            self._placed[place] = memory.as_strided(tensor.shape, tensor.stride(), offset)
        return self._placed[place]

    def prepared(self, operation: _Operation) -> Callable[[], object]:
        """Return a function that does a recorded call in a replay."""
        function = operation.call.function
        args = self._placed_in(operation.call.args)
        kwargs = self._placed_in(operation.call.kwargs)
        results = [self.placed(tensor) for tensor in operation.outputs]
        if operation.writes:
            return partial(_FUNCTIONS.get(function, function), *args, **kwargs)
        if direct := direct_call(function, args, results):
            return direct
        if function in (_aten.clone.default, _aten._to_copy.default):
            return partial(results[0].copy_, args[0])
        if out := _out_variant(function):
            return partial(_FUNCTIONS.get(out, out), *args, **kwargs, out=results[0])
        return partial(
            _copy_results, results, partial(_FUNCTIONS.get(function, function), *args, **kwargs)
        )

    def _placed_in(self, value: Any) -> Any:
        """Return nested arguments with the tensors of a replay."""
        if isinstance(value, Tensor):
            return self.placed(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._placed_in, value))
        if isinstance(value, dict):
            return {name: self._placed_in(part) for name, part in value.items()}
        return value


def _copy_results(results: Sequence[Tensor], function: Callable[[], Any]) -> None:
    returned = function()
    if isinstance(returned, Tensor):  # most often
        results[0].copy_(returned)
        return
    for result, tensor in zip(results, tensors_in(returned), strict=True):
        result.copy_(tensor)


@cache
def _out_variant(function: Any) -> Any:
    """Return the operation that writes its result to an argument `out`; None if torch has none.

    Those that torch derives from the operation itself are left out: they allocate, and copy.
    """
    if not isinstance(function, OpOverload):
        return None
    wanted = [(argument.name, str(argument.type)) for argument in function._schema.arguments]
    for name in function.overloadpacket.overloads():
        variant = getattr(function.overloadpacket, name)
        *given, last = variant._schema.arguments
        if (
            last.name == "out"
            and [(argument.name, str(argument.type)) for argument in given] == wanted
            and torch._C._dispatch_has_kernel_for_dispatch_key(variant.name(), "CPU")
        ):
            return variant
    return None


def _storages(tensors: Iterable[Tensor]) -> set[int]:
    return {storage_of(tensor) for tensor in tensors} - {0}


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor's storage, rounded up."""
    return -(-tensor.untyped_storage().nbytes() // _ALIGNMENT) * _ALIGNMENT
