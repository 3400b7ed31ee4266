"""A parallel map that returns results in order. Unlike Executor.map, it limits the number of values in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


def map_in_order(
    threads: ThreadPoolExecutor, function: Callable[[Value], Result], values: Iterable[Value], *, ahead: int
) -> Iterator[Result]:
    """Yield the function's result for each value, in order. Computes at most `ahead` values in advance."""
    pending: deque[Future[Result]] = deque()
    for value in values:
        pending.append(threads.submit(function, value))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
