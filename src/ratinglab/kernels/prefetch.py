"""The processor's prefetch instruction, for loops over rows in random order."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 16
"""Number of float32 in a cache line of 64 bytes."""


@intrinsic
def prefetch(_context: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of array[row, column], which will be read and written; changes nothing else."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        indices = [
            context.cast(builder, value, type_, types.intp)
            for value, type_ in zip(arguments[1:], signature.args[1:], strict=True)
        ]
        place = cgutils.get_item_pointer(
            context, builder, kind, context.make_array(kind)(context, builder, arguments[0]), indices, wraparound=False
        )
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        # 1: for writing; 3: keep in all caches; 1: data, not instructions
        builder.call(function, [builder.bitcast(place, byte), *(ir.Constant(number, value) for value in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, row, column), generate
