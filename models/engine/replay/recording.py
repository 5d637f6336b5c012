"""Records the operations of a forward pass: what torch computes, from which tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
"""What hands values to Python without an operation."""
MAX_BYTES = 256_000_000
"""Bytes that the results of a recorded pass may take; they are all kept until it is laid out."""


class NotReplayable(Exception):
    """A pass does what a replay would not repeat."""


class TooLarge(NotReplayable):
    """Recording a pass of this shape takes too much memory."""


class Call(NamedTuple):
    """An operation of a pass, with the tensors that it read and returned."""

    function: Callable[..., Any]
    """An operation of torch, or a function that is replayed as a whole."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def is_operation(self) -> bool:
        """Whether this is an operation of torch, whose effects are known."""
        return isinstance(self.function, OpOverload)

    @property
    def name(self) -> str:
        """Torch's name of an operation, without its overload; a function's own."""
        if isinstance(self.function, OpOverload):
            return str(self.function._schema.name)
        return self.function.__name__

    @property
    def written(self) -> list[Tensor]:
        """The arguments that an operation of torch writes to."""
        if not isinstance(self.function, OpOverload):
            return []
        arguments = self.function._schema.arguments
        values = dict(zip((argument.name for argument in arguments), self.args, strict=False))
        values.update(self.kwargs)
        return [
            tensor
            for argument in arguments
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tensors_in(values.get(argument.name))
        ]


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what torch computes.

    Raises:
        NotReplayable: Python reads values.
        TooLarge: the results take too much memory.
    """
    recorder = Recorder()
    with _Reads(recorder), recorder:
        yield recorder


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations that torch computes while it is active, in order."""

    def __init__(self) -> None:
        """Begin without calls."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.paused = False
        self._bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute an operation and record it.

        Raises:
            TooLarge: the results take too much memory.
        """
        result = function(*args, **(kwargs or {}))
        if not self.paused:
            self._append(Call(function, tuple(args), dict(kwargs or {}), result))
        return result

    def record(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that is to be replayed as a whole, and return its result."""
        self.paused = True
        try:
            result = function(*args)
        finally:
            self.paused = False
        self._append(Call(function, args, {}, result))
        return result

    def _append(self, call: Call) -> None:
        self.calls.append(call)
        sources = {storage_of(tensor) for tensor in tensors_in((call.args, call.kwargs))}
        new = [tensor for tensor in tensors_in(call.result) if storage_of(tensor) not in sources]
        self._bytes += sum(tensor.nbytes for tensor in new)
        if self._bytes > MAX_BYTES:
            raise TooLarge(f"its results take more than {MAX_BYTES / 1e6:.0f} MB")


class _Reads(TorchFunctionMode):
    """Refuses what hands values to Python while a pass is recorded, and is no operation."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch.

        Raises:
            NotReplayable: it hands values to Python.
        """
        if function in _READS and not self._recorder.paused:
            raise NotReplayable(f"its Python code reads what Tensor.{function.__name__} returns")
        return function(*args, **(kwargs or {}))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))


def storage_of(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, which its views share; 0 if it has none.

    Weights in oneDNN's layout have none that torch knows of, and are never written to.
    """
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0
