"""Functions run by a pool of threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


def in_order(
    threads: ThreadPoolExecutor, function: Callable[[Value], Result], values: Iterable[Value], *, ahead: int
) -> Iterator[Result]:
    """Yield the function's result for each value, in order. Threads compute at most `ahead` values ahead."""
    pending: deque[Future[Result]] = deque()
    for value in values:
        pending.append(threads.submit(function, value))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
