"""MovieLens data sets: from a folder, from an archive, and downloaded, also from a faulty server."""

import hashlib
import http.server
import io
import socket
import ssl
import threading
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from conftest import REAL_DATA
from tables import rows_of

from ratinglab.datasets import download, movielens
from ratinglab.datasets.sources import MOVIELENS, MovieLensOptions
from ratinglab.errors import UserError
from ratinglab.options import check_options
from ratinglab.ratings.side_information import Needs
from ratinglab.reading.cleaning_options import Duplicates

RATINGS = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t4\t891717742\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n196,242,3,881250949\n186,302,4,891717742\n",
    "ratings.dat": "196::242::3::881250949\n186::302::4::891717742\n",
}
TITLES = {
    "u.item": "242|Amélie (1997)|24-Jan-1997||http://x|0|1|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n",
    "movies.csv": 'movieId,title,genres\n242,"Amélie (1997)",Action|Comedy\n',
    "movies.dat": "242::Amélie (1997)::Action|Comedy\n",
}
USERS = {
    "u.user": "1|20|M|writer|00000\n196|49|F|artist|T8H1N\n",
    "users.dat": "196::F::45::2::55105\n",
}
USER_COLUMNS = {  # of users 186 and 196
    "movielens_100k": {"age": ["nan", "49.0"], "age_group": ["", "49"], "gender": ["", "F"],
                       "occupation": ["", "artist"], "zip_code": ["", "T8H1N"]},
    "movielens_1m": {"gender": ["", "F"], "age_group": ["", "45"], "occupation": ["", "2"], "zip_code": ["", "55105"]},
}  # fmt: skip


def columns(found) -> dict[str, list[str]]:
    """Convert columns of users or items to text."""
    return {name: [str(value) for value in column] for name, column in found.items()}


def archive(name: str) -> bytes:
    """Make an archive like the publisher's, with two ratings, one title and, if it has them, users."""
    data_set = movielens.DATA_SETS[name]
    item_file, items = next(iter(data_set.items.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for member, content in (
            ("README", b"x"),
            (data_set.ratings, RATINGS[data_set.ratings].encode()),
            *((user_file, USERS[user_file].encode()) for user_file in list(data_set.users)[:1]),
            (item_file, TITLES[item_file].encode(items.dialect.encoding)),
        ):
            file.writestr(zipfile.ZipInfo(f"{data_set.folder}/{member}"), content)  # with a constant timestamp
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def editions_of_two_ratings(monkeypatch):
    """Accept archives of two ratings as editions of the data sets."""
    for name, data_set in movielens.DATA_SETS.items():
        monkeypatch.setitem(movielens.DATA_SETS, name, replace(data_set, num_ratings=(2, *data_set.num_ratings)))


def options(name: str, cache: Path | None, *, root: Path | None = None, address: str = "http://127.0.0.1:9"):
    return MovieLensOptions(
        name=name, duplicates=Duplicates.error, batch_size=1,
        min_rating=None, min_ratings_per_user=0, min_ratings_per_item=0,
        cache=None if cache is None else str(cache),
        root=None if root is None else str(root), address=address,
    )  # fmt: skip


EXPECTED = [(196, 242, 3.0, 881_250_949_000), (186, 302, 4.0, 891_717_742_000)]


@pytest.mark.parametrize("name", MOVIELENS)
@pytest.mark.parametrize("where", ["zip", "folder", "folder around", "folder of the zip"])
def test_every_data_set_is_read_from_folder_and_archive(tmp_path, name, where):
    path = tmp_path / movielens.DATA_SETS[name].archive
    path.write_bytes(archive(name))
    if "folder" in where and where != "folder of the zip":
        with zipfile.ZipFile(path) as file:
            file.extractall(tmp_path / "own")
    inside = tmp_path / "own" / movielens.DATA_SETS[name].folder
    root = {"zip": path, "folder": inside, "folder around": inside.parent, "folder of the zip": tmp_path}[where]
    table = options(name, tmp_path / "cache", root=root).load()
    assert rows_of(table) == EXPECTED
    assert table.titles.tolist() == ["Amélie (1997)", ""]
    assert columns(table.item_columns) == {"genres": ["Action|Comedy", ""]}
    assert columns(table.user_columns) == USER_COLUMNS.get(name, {})
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", MOVIELENS)
def test_columns_have_names_only_if_the_file_has_a_header(tmp_path, name):
    names = options(name, tmp_path).column_names()
    if names:
        assert list(names.values()) == RATINGS[movielens.DATA_SETS[name].ratings].splitlines()[0].split(",")
    assert bool(names) is (movielens.DATA_SETS[name].ratings == "ratings.csv")


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no real ratings in {REAL_DATA}")
def test_local_copy_of_movielens_100k_is_read(tmp_path):
    table = options("movielens_100k", tmp_path, root=REAL_DATA / "ml-100k").load()
    assert (len(table.ratings), table.num_users, table.num_items) == (100_000, 943, 1_682)
    assert rows_of(table)[0] == (196, 242, 3.0, 881_250_949_000)
    assert table.titles[0] == "Toy Story (1995)"
    assert columns(table.item_columns)["genres"][0] == "Animation|Children's|Comedy"
    assert {name: values[0] for name, values in columns(table.user_columns).items()} == {
        "age": "24.0", "age_group": "24–25", "gender": "M", "occupation": "technician",
    }  # fmt: skip


def test_own_users_table_can_have_other_columns(tmp_path):
    (tmp_path / "u.data").write_text(RATINGS["u.data"])
    (tmp_path / "users.csv").write_text("user_id,town\n196,Oslo\n")
    table = options("movielens_100k", None, root=tmp_path).load()
    assert columns(table.user_columns) == {"town": ["", "Oslo"]}
    with pytest.raises(UserError, match=r"^model.user_features: users.csv has no column age; it has town$"):
        table.side_information(Needs(user_features=("age",)), needed_by="a test")


def test_users_file_with_wrong_columns_is_refused(tmp_path):
    (tmp_path / "u.data").write_text(RATINGS["u.data"])
    (tmp_path / "u.user").write_text("196|49|F|artist\n")
    with pytest.raises(UserError, match=r"u.user has 4 columns, not 5$"):
        options("movielens_100k", None, root=tmp_path).load()


@pytest.mark.parametrize(
    ("name", "ratings", "advice"),
    [
        ("movielens_100k", "u.data", "put u.user or users.csv next to u.data"),
        ("movielens_10m", "ratings.dat", "movielens_10m has none"),
    ],
)
def test_missing_users_table_is_reported_when_needed(tmp_path, name, ratings, advice):
    (tmp_path / ratings).write_text(RATINGS[ratings])
    table = options(name, None, root=tmp_path).load()
    with pytest.raises(UserError, match=rf"^model.user_features=\[age\] needs a table of users: {advice}$"):
        table.side_information(Needs(user_features=("age",)), needed_by="a test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "is not a zip archive, or is cut off: File is not a zip file"),
        (archive("movielens_1m")[:-30], "is not a zip archive, or is cut off"),
        (archive("movielens_latest_small"), "has no ml-1m/ratings.dat; it has ml-latest-small/README, "),
    ],
)
def test_wrong_archive_is_refused(tmp_path, content, message):
    path = tmp_path / "own.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        options("movielens_1m", tmp_path, root=path).load()


def test_archive_with_an_oversized_member_is_refused(tmp_path, monkeypatch):
    (tmp_path / "own.zip").write_bytes(archive("movielens_1m"))
    monkeypatch.setattr(movielens, "MAX_MEMBER_BYTES", 40)
    with pytest.raises(UserError, match=r"ml-1m/ratings.dat would unpack to 46 bytes, more than 40"):
        options("movielens_1m", tmp_path, root=tmp_path / "own.zip").load()


def test_folder_without_the_data_set_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data.root: .* has neither ratings.dat nor ml-1m.zip; without data.root"):
        options("movielens_1m", tmp_path, root=tmp_path).load()


def test_other_data_set_of_the_same_format_is_refused(tmp_path, monkeypatch):
    changed = replace(movielens.DATA_SETS["movielens_25m"], num_ratings=(25_000_095,))
    monkeypatch.setitem(movielens.DATA_SETS, "movielens_25m", changed)
    (tmp_path / "ratings.csv").write_text(RATINGS["ratings.csv"])
    message = r"ratings.csv has 2 ratings, movielens_25m has 25,000,095: is this another data set\?$"
    with pytest.raises(UserError, match=message):
        options("movielens_25m", tmp_path, root=tmp_path).load()


def test_unknown_data_set_name_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^data.name must be one of movielens_100k, .*, got ml_1m$"):
        check_options(options("ml_1m", tmp_path), "data.")
    with pytest.raises(UserError, match=r"got movielens_1mm; did you mean movielens_1m\?$"):
        check_options(options("movielens_1mm", tmp_path), "data.")


def test_data_set_without_a_cache_is_read_from_root_only(tmp_path):
    path = tmp_path / "ml-1m.zip"
    path.write_bytes(archive("movielens_1m"))
    assert rows_of(options("movielens_1m", None, root=path).load()) == EXPECTED
    with pytest.raises(
        UserError, match=r"set data.cache to a folder to download movielens_1m, or data.root to an existing copy"
    ):
        options("movielens_1m", None).load()


class Handler(http.server.BaseHTTPRequestHandler):
    """Server of ml-1m.zip and ml-32m.zip with its checksum file; the first part of the path selects the fault."""

    def do_GET(self) -> None:
        _, fault, name = self.path.split("/")
        content = archive("movielens_32m" if name.startswith("ml-32m") else "movielens_1m")
        self.server.requests.append(self.path)
        if fault == "missing":
            self.send_error(404)
            return
        if name.endswith(".md5"):
            content = f"{hashlib.md5(content).hexdigest()}  ml-32m.zip\n".encode() if fault != "bare" else b"none"
        elif fault == "changed":
            content = content[:-1] + b"x"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "silent":
            self.server.released.wait(10)
        self.wfile.write(content[:100] if fault == "short" else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """Start a local server; `requests` lists the requested paths."""
    data_set = movielens.DATA_SETS["movielens_1m"]
    digest = hashlib.sha256(archive("movielens_1m")).hexdigest()
    changed = replace(data_set, sha256=digest)
    monkeypatch.setitem(movielens.DATA_SETS, "movielens_1m", changed)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.released = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()


def address(server, fault: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{fault}"


@pytest.mark.parametrize("name", ["movielens_1m", "movielens_32m"])
def test_data_set_is_downloaded_once(tmp_path, server, capsys, name):
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        assert rows_of(options(name, cache, address=address(server, "well")).load()) == EXPECTED
    folder = movielens.DATA_SETS[name].archive
    assert sum(path.endswith(".zip") for path in server.requests) == 1
    assert [path.name for path in cache.iterdir()] == [folder]
    assert "100%" in capsys.readouterr().err  # the progress bar


@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("movielens_1m", "missing", "HTTP Error 404: Not Found"),
        ("movielens_1m", "changed", "its sha256 is [0-9a-f]{64}, not [0-9a-f]{64}"),
        ("movielens_1m", "short", "it was cut off [0-9]+ bytes before its end"),
        ("movielens_1m", "silent", "the server was silent for 0.2 s"),
        ("movielens_32m", "changed", "its md5 is [0-9a-f]{32}, not [0-9a-f]{32}"),
        ("movielens_32m", "bare", "http://.*.md5 holds no MD5"),
    ],
)
def test_failed_download_explains_the_manual_download(tmp_path, monkeypatch, server, name, fault, reason):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2 if fault == "silent" else 30)
    path = tmp_path / movielens.DATA_SETS[name].archive
    by_hand = f"; download it by hand to {path}, or set data.root to an existing copy"
    with pytest.raises(UserError, match=f"^http://.*.zip cannot be downloaded: {reason}{by_hand}$"):
        options(name, tmp_path, address=address(server, fault)).load()
    assert list(tmp_path.iterdir()) == []


def test_download_without_a_network_explains_the_manual_download(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for host in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid"):
        with pytest.raises(UserError, match=r"cannot be downloaded: \[Errno .*; download it by hand to"):
            options("movielens_1m", tmp_path, address=host).load()


def test_expired_certificate_is_reported(tmp_path, server, monkeypatch):
    authority, yesterday = trustme.CA(), datetime.now(UTC) - timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=yesterday).configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with pytest.raises(UserError, match=r"its certificate is not valid \(.*\); download it by hand"):
        options("movielens_1m", tmp_path / "cache", address=address(server, "well").replace("http:", "https:")).load()


def test_cache_folder_that_cannot_be_created_is_reported(tmp_path, server):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"data.cache: .*cache cannot be made: File exists"):
        options("movielens_1m", tmp_path / "cache", address=address(server, "well")).load()
