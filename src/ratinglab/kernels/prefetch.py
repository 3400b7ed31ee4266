"""The processor's prefetch instruction, for loops over rows in random order."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FLOATS_PER_CACHE_LINE = 16
"""Number of float32 in a cache line of 64 bytes."""


@intrinsic
def prefetch(_context: Any, array: Any, row: Any, column: Any) -> Any:
    """Load the cache line of array[row, column] into the caches, without waiting for it. Changes no value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type = signature.args[0]
        indices = [
            context.cast(builder, value, value_type, types.intp)
            for value, value_type in zip(arguments[1:], signature.args[1:], strict=True)
        ]
        struct = context.make_array(array_type)(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(context, builder, array_type, struct, indices, wraparound=False)
        byte_pointer = ir.IntType(8).as_pointer()
        int32 = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte_pointer,), ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32])
        )
        # 1: for writing; 3: keep in all caches; 1: data, not instructions
        flags = [ir.Constant(int32, value) for value in (1, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte_pointer), *flags])
        return context.get_dummy_value()

    return types.void(array, row, column), generate
