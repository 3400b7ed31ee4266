"""Generate ratings in Parquet files, train on them with the rows on disk, and print seconds, memory and disk by phase.

    python scripts/benchmarks/larger_than_memory.py --rows 1000000000 --folder /data/billion

The files hold ratings in half stars, from biases and factors of users and items, both long-tailed. The noise floor is
the error of the model that generated them. Disk: about 9 bytes per row for the files, 12 for the table, up to 20 more
while training, and 9 for the run.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from measurement import REPOSITORY, argument_parser, environment

STRENGTHS = (0.5, 0.4, 0.3, 0.2)
"""Standard deviation of each product of factors, in stars."""
FILE_ROWS = 50_000_000
"""Rows per file, about."""
SEEDED = 1 << 14
"""Users, or rows, that share a stream of random numbers."""
NOISE = 0.7
"""Standard deviation of the noise, in stars."""


def main() -> None:
    """Generate, train, print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000, help="ratings, about (default: %(default)s)")
    parser.add_argument("--users", type=int, help="users (default: a hundredth of the ratings)")
    parser.add_argument("--items", type=int, help="items (default: a twentieth of the users)")
    parser.add_argument("--folder", type=Path, required=True, help="folder for all files, which stay")
    parser.add_argument("settings", nargs="*", help="settings of train.py, such as optimizer=als trainer.max_epochs=3")
    arguments = parser.parse_args()
    num_users = arguments.users or arguments.rows // 100
    num_items = arguments.items or max(1000, num_users // 20)
    numba.set_num_threads(arguments.threads)
    data = arguments.folder / "ratings"
    if not (arguments.folder / "floor.json").is_file():
        started = time.perf_counter()
        floor, rows = generate(data, rows=arguments.rows, num_users=num_users, num_items=num_items)
        (arguments.folder / "floor.json").write_text(json.dumps({"rmse": floor, "rows": rows}))
        print(f"generated   {rows:,} rows in {time.perf_counter() - started:.0f} s, {size_of(data) / 1e9:.1f} GB")
    generated = json.loads((arguments.folder / "floor.json").read_text())
    print(f"ratings     {generated['rows']:,}, noise floor: RMSE {generated['rmse']:.4f}")
    settings = [
        "data=csv",
        f"data.path={data}",
        "data.on_disk=true",
        f"data.cache={arguments.folder / 'cache'}",
        "recipe=fast",
        "split.validation=0.005",
        "split.test=0.005",
        "logger=none",
        "trainer.max_epochs=10",
        *arguments.settings,
    ]
    measure(settings, folder=arguments.folder, threads=arguments.threads)


def generate(folder: Path, *, rows: int, num_users: int, num_items: int) -> tuple[float, int]:
    """Write the files; return the noise floor, an RMSE, and the number of rows.

    Each file has all users and its own share of the items, so that no pair is repeated, in random order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    num_files = max(1, round(rows / FILE_ROWS))
    scale = np.sqrt(np.array(STRENGTHS, np.float32))
    users, items = (
        (random.normal(0, 0.4, n).astype(np.float32), random.normal(0, scale, (n, len(scale))).astype(np.float32))
        for n in (num_users, num_items)
    )
    activity = random.lognormal(0, 1.0, num_users)
    mean = activity * (rows / num_files / activity.sum())
    squares, total = 0.0, 0
    for number in range(num_files):
        wanted = random.poisson(mean * 1.06)  # some draws repeat an item
        start = np.concatenate([[0], np.cumsum(wanted)])
        user, item = np.empty(start[-1], np.int32), np.empty(start[-1], np.int32)
        draw_items(start, number, num_files, num_items, user, item)
        distinct = np.flatnonzero(item >= 0)
        random.shuffle(distinct)
        user, item = user[distinct], item[distinct]
        rating, file_squares = rate(user, item, *users, *items, NOISE, number)
        squares, total = squares + file_squares, total + len(user)
        table = pa.table({"user_id": user, "item_id": item, "rating": rating})
        pyarrow.parquet.write_table(table, folder / f"part-{number:03}.parquet", use_dictionary=["rating"])
    return math.sqrt(squares / total), total


@numba.njit(parallel=True)
def draw_items(start, number, num_files, num_items, user, item):  # type: ignore[no-untyped-def]
    """Draw distinct items for each user, popular ones more often; −1 for a draw that repeats an item."""
    num_users = len(start) - 1
    for chunk in numba.prange(-(-num_users // SEEDED)):
        np.random.seed(chunk * 1009 + number)
        for u in range(chunk * SEEDED, min((chunk + 1) * SEEDED, num_users)):
            for row in range(start[u], start[u + 1]):
                rank = int(num_items / num_files * np.random.random() ** 2.5)
                drawn = min(rank * num_files + number, num_items - 1)
                user[row], item[row] = u, drawn
                for earlier in range(start[u], row):
                    if item[earlier] == drawn:
                        item[row] = -1
                        break


@numba.njit(parallel=True)
def rate(user, item, user_bias, user_factors, item_bias, item_factors, noise, seed):  # type: ignore[no-untyped-def]
    """Rate pairs in half stars, from 0.5 to 5; return the ratings and the squared error of the model behind them."""
    rating = np.empty(len(user), np.float32)
    squares = 0.0
    for chunk in numba.prange(-(-len(user) // SEEDED)):
        np.random.seed(chunk * 1009 + seed)
        for row in range(chunk * SEEDED, min((chunk + 1) * SEEDED, len(user))):
            u, i = user[row], item[row]
            mean = 3.4 + user_bias[u] + item_bias[i]
            for d in range(user_factors.shape[1]):
                mean += user_factors[u, d] * item_factors[i, d]
            value = min(max(round((mean + noise * np.random.normal()) * 2) / 2, 0.5), 5.0)
            rating[row] = value
            squares += (min(max(mean, 0.5), 5.0) - value) ** 2
    return rating, squares


def measure(settings: list[str], *, folder: Path, threads: int) -> None:
    """Run train.py and print its lines.

    Before each line come the seconds so far, the CPU seconds of all cores, and the peak memory since the line before,
    in GB. The last line has the peaks of the whole run.
    """
    command = [sys.executable, "-u", str(REPOSITORY / "scripts" / "train.py"), *settings]
    started, free = time.perf_counter(), shutil.disk_usage(folder).free
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(threads=threads),
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
    )
    peaks = {"RssAnon": 0, "RssFile": 0, "VmRSS": 0, "disk": 0, "since the last line": 0}
    watcher = threading.Thread(target=watch, args=(process.pid, folder, free, peaks), daemon=True)
    watcher.start()
    assert process.stdout is not None
    for line in process.stdout:
        seconds, memory = time.perf_counter() - started, peaks["since the last line"] / 1e9
        print(f"{seconds:7.1f} {cpu_seconds(process.pid):7.1f} {memory:5.1f}  {line.rstrip()}", flush=True)
        if memory > 0:  # else the watcher has not looked since
            peaks["since the last line"] = 0
    status = process.wait()
    watcher.join()
    del peaks["since the last line"]
    print(f"status {status}; " + ", ".join(f"peak {name} {value / 1e9:.1f} GB" for name, value in peaks.items()))


def cpu_seconds(pid: int) -> float:
    """Return the seconds that a process has run so far, added over cores; NaN once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(pid: int, folder: Path, free: int, peaks: dict[str, int]) -> None:
    """Follow the memory of a process and the disk it uses, in bytes, until it ends."""
    while True:
        try:
            text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            return
        memory = {name: int(size) * 1024 for name, size in re.findall(r"(?m)^(Rss\w+|VmRSS):\s+(\d+) kB", text)}
        if "VmRSS" not in memory:  # it has ended
            return
        peaks |= {name: max(peaks[name], value) for name, value in memory.items() if name in peaks}
        peaks["since the last line"] = max(peaks["since the last line"], memory["VmRSS"])
        peaks["disk"] = max(peaks["disk"], free - shutil.disk_usage(folder).free)
        time.sleep(0.2)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
