"""Responses of the server: equal to the Python calls; every mistake is one line of JSON, never a fault of ours."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import pytest

pytest.importorskip("fastapi")

from odd_requests import odd_request
from served_run import TITLES, client_of, write_served_run

from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.serving.schemas import Item
from ratinglab.serving.service import Service

RATINGS = {"0": 5, "Alien (1979)": 2.5, "matrix, the (1999)": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_served_run(tmp_path_factory.mktemp("runs") / "run", is_sampled=True)


@pytest.fixture(scope="module")
def run(folder) -> Run:
    return Run.load(folder)


@pytest.fixture(scope="module")
def client(folder):
    limits = {"max_k": 15, "max_pairs": 40, "max_ratings": 6, "max_body_bytes": 20_000}
    with client_of(folder, **limits) as client:
        yield client


def answer(response):
    assert response.status_code == 200, response.text
    return response.json()


def mistake(response, status=422):
    """Check that a response is one line of JSON, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert list(content) == ["detail"]
    (line,) = content["detail"].splitlines()
    return line


def rows(frame):
    """List the rows of a data frame as they stand in JSON."""
    plain = frame.to_dict("records")
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in plain]


def without_why(recommended):
    """List the columns of recommended items that a run of ratings has."""
    assert all(item["score"] is None for item in recommended)
    return [{key: value for key, value in item.items() if key not in ("why", "score")} for item in recommended]


def reasons(recommended):
    """List the reasons of all recommended items as rows of `explain`."""
    return [
        {
            "item_id": item["item_id"], "rated_item_id": why["item_id"], "rated_title": why["title"],
            "rating": why["rating"], "change": why["change"],
        }
        for item in recommended
        for why in item["why"]
    ]  # fmt: skip


def test_predict_equals_the_python_call(client, run):
    users, items = [0, "1", 2, "nobody"], [3, 4, "nothing", "x"]
    pairs = [{"user_id": user, "item_id": item} for user, item in zip(users, items, strict=True)]
    found = answer(client.post("/predict", json={"pairs": pairs}))["predictions"]
    assert [(row.pop("user_id"), row.pop("item_id")) for row in found] == list(zip(users, items, strict=True))
    assert found == rows(run.predict_table(list(map(str, users)), list(map(str, items))))


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"k": 3}, {"exclude_seen": False}, {"candidates": [1, "2", 3]}, {"k": 15, "candidates": [5, 6]},
        {"by": "prediction"}, {"by": "lower_bound"}, {"threshold": 2},
    ],
)  # fmt: skip
def test_recommend_equals_the_python_call(client, run, changed):
    found = answer(client.post("/recommend", json={"user_id": 4, "why": 2} | changed))["recommended"]
    arguments = {"k": 10} | changed
    arguments["candidates"] = list(map(str, changed["candidates"])) if "candidates" in changed else None
    expected = run.recommend("4", **arguments)
    expected["standard_deviation"] = run.standard_deviation(["4"] * len(expected), expected["item_id"])
    assert without_why(found) == rows(expected)
    assert reasons(found) == rows(run.explain("4", expected["item_id"].tolist(), k=2))


@pytest.mark.parametrize(("path", "body"), [("recommend", {"user_id": 4}), ("fold_in", {"ratings": RATINGS})])
def test_why_may_be_true_or_false_as_on_the_command_line(client, path, body):
    for why, number in ((True, 3), (False, 0)):
        found = answer(client.post(f"/{path}", json={**body, "why": why}))
        assert found == answer(client.post(f"/{path}", json={**body, "why": number}))
    assert mistake(client.post(f"/{path}", json={**body, "why": "true"})) == 'why must be an integer, got "true"'


def test_recommend_to_an_unknown_user_asks_for_the_baseline(client, run):
    assert mistake(client.post("/recommend", json={"user_id": "nobody"})).startswith("user_id: 'nobody' has no")
    body = {"user_id": "nobody", "unknown": "baseline", "k": 5, "why": 3}
    found = answer(client.post("/recommend", json=body))["recommended"]
    assert [row["item_id"] for row in found] == run.recommend("nobody", k=5, unknown="baseline")["item_id"].tolist()
    assert [(row["standard_deviation"], row["why"]) for row in found] == [(None, [])] * 5


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"k": 3, "why": 2}, {"candidates": [5, 6, 7]}, {"exclude_seen": False},
        {"by": "prediction"}, {"by": "lower_bound"}, {"threshold": 2},
    ],
)  # fmt: skip
def test_fold_in_equals_the_python_call(client, run, changed):
    items = [8, "9", "nothing"]
    found = answer(client.post("/fold_in", json={"ratings": RATINGS, "item_ids": items} | changed))
    folded, arguments = run.fold_in(RATINGS), {"k": 10} | changed
    why = arguments.pop("why", 0)
    expected = folded.recommend(**arguments)
    found_rows = without_why(found["recommended"])
    assert found_rows == [{"standard_deviation": None} | row for row in rows(expected)]
    if why:
        assert reasons(found["recommended"]) == rows(folded.explain(expected["item_id"].tolist(), k=why))
    assert [row.pop("item_id") for row in found["predictions"]] == items
    predicted = rows(folded.predict_table(list(map(str, items))))
    assert found["predictions"] == [{"standard_deviation": None} | row for row in predicted]


def test_fold_in_of_a_known_user_adds_to_their_ratings(client, run):
    seen = set(run.part("train").item[run.part("train").user == 4])
    new = next(item for item in range(20) if item not in seen)
    found = answer(client.post("/fold_in", json={"ratings": {str(new): 5}, "user_id": 4, "k": 2}))["recommended"]
    expected = run.fold_in({str(new): 5}, user_id="4").recommend("4", k=2)
    assert [(row["item_id"], row["prediction"]) for row in found] == list(
        expected[["item_id", "prediction"]].itertuples(index=False, name=None)
    )


@pytest.mark.parametrize("item", [2, "2", "Alien (1979)", "alien"])
def test_similar_equals_the_python_call(client, run, item):
    found = answer(client.post("/similar", json={"item": item, "k": 4}))
    assert (found["item"]["item_id"], found["item"]["title"]) == (2, "Alien (1979)")
    expected = rows(run.similar(str(item), k=4))
    assert found["similar"] == [{"standard_deviation": None} | row for row in expected]


def test_health_describes_the_run(client, folder, run):
    found = answer(client.get("/health"))
    assert found["run"] == str(folder)
    assert (found["val_rmse"], found["test_rmse"]) == (0.9, 0.8)
    assert (found["num_users"], found["num_items"]) == (run.record.num_users, run.record.num_items)
    assert found["rating"] == {"lowest": 1, "highest": 5, "step": 1}


def test_items_without_a_query_are_all_items(client, run):
    counts, _ = run.tables.train_counts[1], run.record
    pages = [answer(client.get("/items", params={"limit": 8, "offset": offset})) for offset in (0, 8, 16)]
    assert [page["more"] for page in pages] == [True, True, False]
    found = [item for page in pages for item in page["items"]]
    assert sorted(item["item_id"] for item in found) == list(range(run.record.num_items))
    assert all(item["title"] == TITLES[item["item_id"]] for item in found)
    assert all(item["num_ratings"] == counts[item["item_id"]] for item in found)


MISTAKES = [
    ("predict", {}, "pairs must be given"),
    ("predict", {"pairs": []}, "pairs must not be empty"),
    ("predict", {"pairs": {}}, "pairs must be a list, got {}"),
    ("predict", {"pairs": [7]}, "pairs[0] must be an object, got 7"),
    ("predict", {"pairs": [{"user_id": 1}]}, "pairs[0].item_id must be given"),
    ("predict", {"pairs": [{"user_id": 1, "itm_id": 2}]}, "unknown key pairs[0].itm_id; did you mean item_id?"),
    ("predict", {"pairs": [{"user_id": True, "item_id": 2}]}, "pairs[0].user_id must be an integer or text, got true"),
    (
        "predict",
        {"pairs": [{"user_id": 1, "item_id": 2, "time": "noon"}]},
        'pairs[0].time must be a time such as 1998-04-04T12:30:00, got "noon"',
    ),
    ("predict", {"pairs": [{"user_id": 1, "item_id": 2}] * 41}, "pairs must have at most 40 entries, got 41"),
    ("predict", {"pairs": [{"user_id": "u" * 501, "item_id": 2}]}, "pairs[0].user_id must have at most 500 characters"),
    ("recommend", {"user_id": 1, "k": 0}, "k must be at least 1, got 0"),
    ("recommend", {"user_id": 1, "k": 16}, "k must be at most 15, got 16"),
    ("recommend", {"user_id": 1, "k": "3"}, 'k must be an integer, got "3"'),
    ("recommend", {"user_id": 1, "k": 1.5}, "k must be an integer, got 1.5"),
    ("recommend", {"user_id": 1, "candidates": [99]}, "candidates: no item has training ratings among 1 id, such as"),
    ("recommend", {"user_id": 1, "candidates": ["1"] * 41}, "candidates must have at most 40 entries, got 41"),
    ("recommend", {"user_id": 1, "exclude_seen": 1}, "exclude_seen must be true or false, got 1"),
    ("recommend", {"user_id": 1, "unknown": "bias"}, 'unknown must be one of error, baseline, got "bias"'),
    ("recommend", {"user_id": 1, "by": "gain"}, 'by must be one of expected_gain, prediction, lower_bound, got "gain"'),
    ("recommend", {"user_id": 1, "why": 21}, "why must be at most 20, got 21"),
    ("recommend", [], "the body must be an object, got []"),
    ("fold_in", {"ratings": {}}, "ratings must not be empty"),
    ("fold_in", {"ratings": {"0": "5"}}, 'ratings.0 must be a number, got "5"'),
    ("fold_in", {"ratings": dict.fromkeys(map(str, range(7)), 3)}, "ratings must have at most 6 entries, got 7"),
    ("fold_in", {"ratings": {"t" * 501: 3}}, "must have at most 500 characters, got 501"),
    ("fold_in", {"rating": {"0": 5}}, "unknown key rating; did you mean ratings?"),
    ("recommend", {"items": [1]}, "unknown key items; did you mean candidates?"),
    ("fold_in", {"items": [1]}, "unknown key items; did you mean candidates?"),
    ("recommend", {"ranking.by": "prediction"}, "unknown key ranking.by; did you mean by?"),
    ("recommend", {"ranking.threshold": 3}, "unknown key ranking.threshold; did you mean threshold?"),
    ("predict", {"pairs": [{"timestamp": 1}]}, "unknown key pairs[0].timestamp; did you mean time?"),
    ("fold_in", {"two\nlines\u2028or three": 5}, "unknown key two lines or three"),
    ("similar", {"item": "Toy Stroy (1995)"}, "item: no item has the id or the title 'Toy Stroy (1995)'; did you mean"),
    ("similar", {"item": "Hamlet"}, "item: 2 items have the title 'Hamlet'"),
    ("similar", {"item": 1.5}, "item must be an integer or text, got 1.5"),
    ("similar", {"item": None}, "item must be an integer or text, got null"),
]


@pytest.mark.parametrize(("path", "body", "message"), MISTAKES)
def test_mistake_is_one_line_in_the_words_of_the_command_line(client, path, body, message):
    assert message in mistake(client.post(f"/{path}", json=body))


def test_predict_takes_times_for_all_pairs_or_none(client):
    pairs = [{"user_id": 0, "item_id": 0, "time": "1998-04-04T12:30:00+02:00"}, {"user_id": 0, "item_id": 1}]
    message = "pairs[1].time must be given, since other pairs have a time"
    assert mistake(client.post("/predict", json={"pairs": pairs})) == message
    message = mistake(client.post("/predict", json={"pairs": pairs[:1]}))
    assert message == "biased_mf takes no timestamps: it predicts the same on all days"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=x", 'limit must be an integer, got "x"'),
        ("limit=0", 'limit must be at least 1, got "0"'),
        ("limt=3", "unknown key limt; did you mean limit?"),
        ("q=toy", "unknown key q; did you mean query?"),
        ("k=2", "unknown key k; did you mean limit?"),
        (f"query={'q' * 501}", "query must have at most 500 characters, got 501"),
    ],
)
def test_mistake_in_a_search_is_one_line(client, query, message):
    assert mistake(client.get(f"/items?{query}")) == message


BODIES = [
    (b"", "EOF while parsing a value"),
    (b"{", "EOF while parsing an object"),
    (b'{"item": NaN}', "expected value"),
    (b'{"item": 1, "item": 2}', "the body has the key 'item' twice"),
    (b'{"item": "\\ud800"}', "hex escape"),
    (b'{"item": "\xff"}', "invalid"),
    ('{"item": "é"}'.encode("utf-16"), "expected value"),
    (b"[" * 5000 + b"]" * 5000, "recursion"),
    (b'{"item": ' + b"9" * 5000 + b"}", "not valid JSON"),
    (b"\x00", "expected value"),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
def test_body_that_is_not_strict_json_is_refused(client, body, message):
    found = client.post("/similar", content=body, headers={"content-type": "application/json"})
    assert message in mistake(found)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_other_content_types_are_refused(client, kind):
    """A form of another web page cannot declare JSON."""
    found = client.post("/similar", content=b'{"item": 0}', headers={"content-type": kind})
    assert mistake(found, 415) == f"content-type must be application/json, got {kind or 'none'}"


def test_unknown_path_and_wrong_method_are_one_line(client):
    assert mistake(client.get("/fold_inn"), 404) == "there is no path /fold_inn; did you mean /fold_in?"
    wrong = client.get("/predict")
    assert mistake(wrong, 405) == "/predict takes POST, got GET"
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/health", "/items?query=toy", "/", "/docs", "/openapi.json"])
def test_head_has_the_headers_of_get(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == 200
    assert head.headers == get.headers
    assert "GET" in mistake(client.post(path), 405)


def test_schema_leaves_out_head(client):
    assert all("head" not in methods for methods in client.get("/openapi.json").json()["paths"].values())


def test_large_body_is_refused_by_its_length_and_in_chunks(client):
    headers = {"content-type": "application/json"}
    for content in (b" " * 20_001, iter([b" " * 10_000] * 3), iter([b" " * 10_000] * 1000)):
        found = client.post("/predict", content=content, headers=headers)
        assert mistake(found, 413) == "the body must have at most 20,000 bytes"


def test_fault_of_ours_is_one_line_without_details(folder, monkeypatch):
    client = client_of(folder)
    monkeypatch.setattr(Run, "predict_table", lambda *_, **__: 1 / 0)
    found = client.post("/predict", json={"pairs": [{"user_id": 0, "item_id": 0}]})
    assert mistake(found, 500) == "internal error; the server's log has the traceback"


def test_hundreds_of_malformed_requests_never_are_a_fault_of_ours(client):
    statuses = []
    random = np.random.default_rng(0)
    for _ in range(400):
        path, content = odd_request(random)
        found = client.post(f"/{path}", content=content, headers={"content-type": "application/json"})
        statuses.append(found.status_code)
        if found.status_code != 200:
            assert found.status_code in (413, 422), f"{found.status_code} {path} {content!r} {found.text}"
            assert mistake(found, found.status_code)
        else:
            json.dumps(found.json(), allow_nan=False)
    assert statuses.count(422) > 250


def test_requests_at_the_same_time_get_the_answers_they_get_alone(client):
    requests = [
        *(("recommend", {"user_id": user, "k": 5, "why": 2}) for user in range(10)),
        *(("fold_in", {"ratings": {str(item): 5, "Aliens (1986)": 1}, "k": 5, "why": 2}) for item in range(3)),
        *(("predict", {"pairs": [{"user_id": user, "item_id": 2}]}) for user in range(10)),
        *(("similar", {"item": item}) for item in range(10)),
    ]

    def ask(request):
        return answer(client.post(f"/{request[0]}", json=request[1]))

    alone = list(map(ask, requests))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, requests * 3)) == alone * 3


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_answers_are_computed_at_once_than_there_are_threads(folder, monkeypatch, threads):
    running, most, lock, is_crowded = 0, 0, Lock(), Event()
    health = Service.health

    def counted(service):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running > threads:
                is_crowded.set()
        is_crowded.wait(0.1)  # gives other requests time to begin
        with lock:
            running -= 1
        return health(service)

    monkeypatch.setattr(Service, "health", counted)
    with client_of(folder, threads=threads) as client, ThreadPoolExecutor(8) as asking:
        assert {each.status_code for each in asking.map(client.get, ["/health"] * 8)} == {200}
    assert most <= threads


def test_equation_without_factors_predicts_and_recommends(tmp_path):
    client = client_of(write_served_run(tmp_path / "run", model="bias"))
    found = answer(client.post("/predict", json={"pairs": [{"user_id": 0, "item_id": 1}]}))["predictions"]
    assert found[0]["standard_deviation"] is None
    assert (
        len(answer(client.post("/recommend", json={"user_id": 0, "k": 2, "exclude_seen": False}))["recommended"]) == 2
    )
    refused = mistake(client.post("/fold_in", json={"ratings": {"0": 5}}))
    assert refused == "model=bias cannot fold in or explain ratings: only factor equations can"
    assert "no factors" in mistake(client.post("/similar", json={"item": 0}))


@pytest.mark.parametrize("recipe", ["ials", "ease"])
def test_run_that_predicts_scores_recommends_by_them(train_here, recipe):
    folder = train_here(f"recipe={recipe}", "trainer.max_epochs=1", "split.test=0")
    run, client = Run.load(folder), client_of(folder)
    item_ids = run.item_ids.ids[:3].tolist()
    user_id, taste = str(run.user_ids.ids[3]), {str(item_id): 5.0 for item_id in item_ids}
    for path, body, listed in (
        ("/recommend", {"user_id": user_id}, run.recommend(user_id, k=4)),
        ("/fold_in", {"ratings": taste}, run.fold_in(taste).recommend(k=4)),
    ):
        found = answer(client.post(path, json={**body, "k": 4}))["recommended"]
        assert [row["item_id"] for row in found] == listed["item_id"].tolist()
        assert [row["score"] for row in found] == pytest.approx(listed["score"].tolist())
        assert {row["prediction"] for row in found} == {None}
    assert answer(client.get("/health"))["predicts_scores"]
    model = run.record.model
    pairs = {"pairs": [{"user_id": user_id, "item_id": item_ids[0]}]}
    for path, body in (("/predict", pairs), ("/fold_in", {"ratings": taste, "why": 1})):
        assert model in mistake(client.post(path, json=body))


def test_run_that_lost_its_metrics_is_not_served_without_them(tmp_path):
    folder = write_served_run(tmp_path / "run")
    assert answer(client_of(folder).get("/health"))["val_rmse"] == pytest.approx(0.9)
    (folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"metrics\.json is missing$"):
        client_of(folder)


def test_integers_that_javascript_would_round_are_text():
    large = Item(item_id=2**53, num_ratings=1).model_dump()["item_id"]
    assert (large, Item(item_id=7, num_ratings=1).model_dump()["item_id"]) == ("9007199254740992", 7)
