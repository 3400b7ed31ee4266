"""Requests per second of the server on loopback, and of the same calls in Python; reloads; malformed requests.

    pip install 'ratinglab[serve]'
    python scripts/benchmarks/serving.py outputs/…

Starts serve.py in a process of its own, and asks from this one over connections that stay open: 1, 8 and 32 clients, a
few seconds each. The Python calls run alone, before the server starts, on the same number of threads. Then the run is
reloaded five times while 8 clients ask, and 1,000 malformed requests are counted by their status.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from measurement import REPOSITORY, argument_parser, environment, print_table

from ratinglab.process.startup import SLEEPING_THREADS

os.environ |= SLEEPING_THREADS  # as the server has it, before torch is imported

from ratinglab.inference.run import Run

NUM_MALFORMED = 1_000
NUM_RELOADS, RELOADING_CLIENTS = 5, 8
K, WHY = 10, 3


class Task(NamedTuple):
    """A request, and the Python call that computes its answer."""

    path: str
    body: dict[str, Any]
    call: Callable[[], object]


class Answered(NamedTuple):
    """Answers of a server: the status and the seconds of each, and of requests that got none."""

    seconds: list[float]
    statuses: Counter[str]


def main() -> None:
    """Measure, and print the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement (default: %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="default: 1 8 32")
    arguments = parser.parse_args()
    tasks = tasks_of(Run.load(arguments.run))
    in_python = {name: calls_per_second(task.call, arguments.seconds) for name, task in tasks.items()}
    with server(arguments) as (process, port):
        asyncio.run(measure(tasks, in_python, arguments, process, port))
    print(f"load average of the last minute: {os.getloadavg()[0]:.1f}")


def tasks_of(run: Run) -> dict[str, Task]:
    """Make the requests: a user, five ratings and a hundred pairs of the run."""
    user_ids, item_ids = (ids.ids.astype(str).tolist() for ids in (run.user_ids, run.item_ids))
    popular = np.argsort(-run.tables.train_counts[1][: run.record.num_items])[:5]
    lowest, highest = run.record.scale or (1.0, 5.0)
    ratings = {item_ids[item]: highest if number % 2 else lowest for number, item in enumerate(popular)}
    pairs = [(user_ids[number % 7], item_ids[number % run.record.num_items]) for number in range(100)]
    users, items = map(list, zip(*pairs, strict=True))

    def fold_in_and_explain() -> None:
        folded = run.fold_in(ratings)
        folded.explain(folded.recommend(k=K)["item_id"].tolist(), k=WHY)

    return {
        "predict a pair": Task(
            "predict", pairs_body(users[:1], items[:1]), lambda: run.predict_table(users[:1], items[:1])
        ),
        "predict 100 pairs": Task("predict", pairs_body(users, items), lambda: run.predict_table(users, items)),
        "recommend": Task("recommend", {"user_id": users[0], "k": K}, lambda: run.recommend(users[0], k=K)),
        "fold in 5 ratings": Task("fold_in", {"ratings": ratings, "k": K}, lambda: run.fold_in(ratings).recommend(k=K)),
        "fold in, with why": Task("fold_in", {"ratings": ratings, "k": K, "why": WHY}, fold_in_and_explain),
        "similar": Task("similar", {"item": items[0], "k": K}, lambda: run.similar(items[0], k=K)),
    }


def pairs_body(users: list[str], items: list[str]) -> dict[str, Any]:
    """Make the body of /predict."""
    return {"pairs": [{"user_id": user, "item_id": item} for user, item in zip(users, items, strict=True)]}


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Count the calls of a function in a loop, after a first one."""
    call()
    started, count = perf_counter(), 0
    while perf_counter() < started + seconds:
        call()
        count += 1
    return count / (perf_counter() - started)


@contextmanager
def server(arguments: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start serve.py on a free port, and stop it at the end."""
    script = str(REPOSITORY / "scripts" / "serve.py")
    command = [sys.executable, script, arguments.run, "port=0", f"threads={arguments.threads}"]
    env = environment(threads=arguments.threads)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("serving ")), None)
        if line is None:
            raise SystemExit(process.communicate()[1])
        yield process, int(line.split(" at http://127.0.0.1:")[1].split()[0])
        process.terminate()


async def measure(
    tasks: Mapping[str, Task],
    in_python: Mapping[str, float],
    arguments: argparse.Namespace,
    process: subprocess.Popen[str],
    port: int,
) -> None:
    """Measure the server, and print one table and two lines."""
    rows = {}
    for name, task in tasks.items():
        content = request_of(task.path, json.dumps(task.body).encode())
        for clients in arguments.clients:
            answered = await ask_for(port, every_time(content), clients, arguments.seconds)
            rate = len(answered.seconds) / arguments.seconds
            p50, p99 = 1000 * np.quantile(answered.seconds, [0.5, 0.99])
            label = f"{name}, {clients} {'client' if clients == 1 else 'clients'}"
            rows[label] = [rate, p50, p99, in_python[name], rate / in_python[name], failures(answered)]
    columns = {"requests/s": ",.0f", "p50 ms": ".1f", "p99 ms": ".1f", "Python calls/s": ",.0f", "ratio": ".2f"}
    print_table("", columns | {"not 200": ".0f"}, rows)

    reloaded = await ask_during_reloads(tasks["recommend"], process, port)
    counts = ", ".join(f"{status}: {count:,}" for status, count in sorted(reloaded.statuses.items()))
    print(f"{NUM_RELOADS} reloads, {RELOADING_CLIENTS} clients: {counts}; p99 {p99_of(reloaded):.1f} ms")

    bodies = malformed([(task.path, task.body) for task in tasks.values()])
    refused = Counter[str]()
    for body in bodies:
        refused += (await cache_answers(port, body)).statuses
    print(f"malformed: {', '.join(f'{status}: {count:,}' for status, count in sorted(refused.items()))}")


def failures(answered: Answered) -> int:
    """Count the answers other than 200."""
    return answered.statuses.total() - answered.statuses["200"]


def p99_of(answered: Answered) -> float:
    """Return the 99th percentile of the milliseconds to an answer."""
    return float(1000 * np.quantile(answered.seconds, 0.99))


def request_of(path: str, body: bytes) -> bytes:
    """Make the bytes of a POST request."""
    head = f"POST /{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def every_time(content: bytes) -> Callable[[int], bytes]:
    """Make all requests of a client the same."""
    return lambda _: content


async def ask_for(port: int, content: Callable[[int], bytes], clients: int, seconds: float) -> Answered:
    """Ask from several clients for some seconds; `content` makes the n-th request of a client."""
    answered, end = Answered([], Counter()), perf_counter() + seconds

    async def client() -> None:
        number = 0
        while perf_counter() < end:  # again, if the connection is lost
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while perf_counter() < end:
                    await exchange(reader, writer, content(number), answered)
                    number += 1
            except (OSError, asyncio.IncompleteReadError):
                answered.statuses["lost"] += 1
            finally:
                writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answered


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes, answered: Answered
) -> None:
    """Send a request and read its answer."""
    started = perf_counter()
    writer.write(content)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(line.partition(":")[2] for line in head.splitlines() if line.startswith("content-length:"))
    await reader.readexactly(int(length))
    answered.seconds.append(perf_counter() - started)
    answered.statuses[head.split()[1]] += 1


async def ask_during_reloads(task: Task, process: subprocess.Popen[str], port: int) -> Answered:
    """Ask from several clients while the server reloads its run several times."""
    content = request_of(task.path, json.dumps(task.body).encode())

    async def reload() -> None:
        for _ in range(NUM_RELOADS):
            await asyncio.sleep(1)
            process.send_signal(signal.SIGUSR1)

    asking: Awaitable[Answered] = ask_for(port, every_time(content), RELOADING_CLIENTS, NUM_RELOADS + 2)
    answered, _ = await asyncio.gather(asking, reload())
    return answered


async def cache_answers(port: int, content: bytes) -> Answered:
    """Ask once, over a connection of its own."""
    answered = Answered([], Counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await exchange(reader, writer, content, answered)
    except (OSError, asyncio.IncompleteReadError):
        answered.statuses["lost"] += 1
    finally:
        writer.close()
    return answered


def malformed(valid: list[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
    """Make requests with a value of another kind, a misspelt or missing key, or a damaged body."""
    chosen = random.Random(0)
    odd: list[Any] = [None, True, -1, 1.5, 10**400, float("nan"), "", "\ud800", "x" * 600, [], {}, [[]], {"": None}]
    for number in range(NUM_MALFORMED):
        path, body = chosen.choice(valid)
        key = chosen.choice(list(body))
        if number % 4 == 0:
            spoilt = json.dumps({**body, key: chosen.choice(odd)}).encode()
        elif number % 4 == 1:
            spoilt = json.dumps({(f"{name}s" if name == key else name): value for name, value in body.items()}).encode()
        elif number % 4 == 2:
            text = json.dumps(body).encode()
            spoilt = text[: chosen.randrange(len(text))]
        else:
            spoilt = bytes(chosen.randrange(256) for _ in range(chosen.randrange(1, 200)))
        yield request_of(path, spoilt)


if __name__ == "__main__":
    main()
