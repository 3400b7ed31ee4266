"""A parallel map that returns results in order. Unlike Executor.map, it limits the number of values in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


def map_in_order(function: Callable[[Value], Result], values: Iterable[Value], *, num_threads: int) -> Iterator[Result]:
    """Yield the function's result for each value, in order. Computes at most `num_threads` values in advance."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as threads:
        for value in values:
            pending.append(threads.submit(function, value))
            if len(pending) > num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
