// The page: search, give stars, watch the recommendations move. Talks to the endpoints beside it.

const NUM_RECOMMENDED = 10;
const NUM_REASONS = 3;
const NUM_SUGGESTED = 6;
const NUM_MATCHES = 8;
const PAUSE = 120; // milliseconds without another key or star before a request
const SHOW_WAITING = 300; // milliseconds before a request counts as slow
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

const $ = (id) => document.getElementById(id);

/** Create an element with properties and children. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---------------------------------------------------------------------------------------------------------- requests

const controllers = new Map(); // of the current request on each channel

/** Ask the server. A newer request on the same channel aborts this one, which then returns null. */
async function ask(channel, path, body) {
  cancel(channel);
  const controller = new AbortController();
  controllers.set(channel, controller);
  const options = { signal: controller.signal };
  if (body) Object.assign(options, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  try {
    const response = await fetch(path, options);
    const answer = await response.json();
    if (controller.signal.aborted) return null;
    if (!response.ok) throw new Error(answer.detail);
    return { answer, run: decodeURIComponent(response.headers.get("ratinglab-run") ?? "") };
  } catch (error) {
    if (controller.signal.aborted) return null;
    throw error instanceof TypeError || error instanceof SyntaxError ? new Error("The server does not answer.") : error;
  }
}

const cancel = (channel) => controllers.get(channel)?.abort();

// -------------------------------------------------------------------------------------------------------------- state

let run = null; // answer of /health
let ratings = new Map(); // id → { id, title, rating }, the newest first; rating is null until given
let suggested = []; // items of /items
let offset = 0; // of the suggestions among all items
let hasMore = false; // whether there are further suggestions
let byKeyboard = false; // whether the last input came from the keyboard
let ranks = new Map(); // id → rank in the list that is shown
const opened = new Set(); // ids of the recommended items whose reasons are shown

const name = (item) => item.title ?? `Item ${item.item_id}`;
const given = () => [...ratings.values()].filter((each) => each.rating !== null);
const storageKey = () => `ratinglab ${run.data}`;

function save() {
  try {
    localStorage.setItem(storageKey(), JSON.stringify(given()));
  } catch {
    // private windows may refuse; the ratings then last as long as the page
  }
}

function restore() {
  try {
    const stored = JSON.parse(localStorage.getItem(storageKey())) ?? [];
    ratings = new Map(stored.map((each) => [each.id, each]));
  } catch {
    ratings = new Map();
  }
}

// ------------------------------------------------------------------------------------------------------------- ratings

/** Return whether the scale is shown as stars: whole or half ones, not too many for a phone. */
function hasStars({ lowest, highest, step }) {
  const most = step === 1 ? 10 : step === 0.5 ? 5 : 0;
  return lowest > 0 && highest <= most && Number.isInteger(highest) && Number.isInteger(lowest / step);
}

/** Format a rating that was given, such as "3.5 stars". */
function inWords(rating) {
  const number = rating.toLocaleString("en", { maximumFractionDigits: 2 });
  return hasStars(run.rating) ? `${number} ${rating === 1 ? "star" : "stars"}` : number;
}

/** Format a prediction with the digits that its scale needs. */
function shown(value) {
  const digits = run.predicts_scores ? 3 : run.rating.highest - run.rating.lowest > 20 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Make the stars of an item, as radio buttons. */
function starControl(item, rating) {
  const group = element("div", { className: "stars", role: "radiogroup", ariaLabel: `Your rating of ${name(item)}` });
  const paint = (state, upTo) => {
    for (const label of group.children) label.classList.toggle(state, +label.firstChild.value <= upTo);
  };
  const { lowest, highest, step } = run.rating;
  let before = 0;
  for (let level = lowest; level <= highest; level += step) { // exact: the steps are 1 or 0.5
    const input = element("input", { type: "radio", name: `rating ${item.item_id}`, value: level, ariaLabel: inWords(level) });
    input.checked = level === rating;
    const label = element("label", { title: inWords(level) }, input, element("span"));
    label.style.setProperty("--width", level - before);
    label.style.setProperty("--shift", before % 1);
    label.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && paint("preview", level));
    group.append(label);
    before = level;
  }
  const checked = () => +(group.querySelector("input:checked")?.value ?? 0);
  group.addEventListener("pointerleave", () => paint("preview", 0));
  group.addEventListener("change", () => {
    paint("on", checked());
    paint("preview", 0);
    rate(item, checked());
  });
  paint("on", rating ?? 0);
  return group;
}

/** Make the slider of an item, for other scales. */
function slideControl(item, rating) {
  const { lowest, highest, step } = run.rating;
  const input = element("input", { type: "range", min: lowest, max: highest, step, ariaLabel: `Your rating of ${name(item)}` });
  input.value = rating ?? (lowest + highest) / 2;
  const output = element("output", { value: rating === null ? "–" : inWords(rating), ariaHidden: "true" });
  const control = element("div", { className: "slide" }, input, output);
  control.classList.toggle("unrated", rating === null);
  input.addEventListener("input", () => {
    control.classList.remove("unrated");
    output.value = inWords(+input.value);
  });
  input.addEventListener("change", () => rate(item, +input.value));
  return control;
}

/** Set a rating, keep it, and ask for recommendations. */
function rate(item, rating) {
  const id = String(item.item_id);
  const isNew = !ratings.has(id);
  const entry = { id, title: item.title, rating };
  ratings = isNew ? new Map([[id, entry], ...ratings]) : ratings.set(id, entry);
  save();
  if (isNew) showRatings(id, { scrolls: byKeyboard });
  recommendSoon();
}

/** Show an item among the user's ratings, and move the focus to its stars. */
function pick(item) {
  const id = String(item.item_id);
  if (!ratings.has(id)) ratings = new Map([[id, { id, title: item.title, rating: null }], ...ratings]);
  showRatings(id, { scrolls: true });
}

function remove(id) {
  const ids = [...ratings.keys()];
  const next = ids[ids.indexOf(id) + 1] ?? ids[ids.indexOf(id) - 1];
  say(`${titleOf(id)} removed.`);
  ratings.delete(id);
  save();
  showRatings();
  (next ? rowOf(next).querySelector(".remove") : $("query")).focus();
  recommendSoon();
}

const titleOf = (id) => name({ item_id: id, title: ratings.get(id)?.title });
const rowOf = (id) => $("ratings").querySelector(`[data-id="${CSS.escape(id)}"]`);

/** Make the row of an item that has been or may be rated. */
function ratingRow(item, rating, extra) {
  const control = hasStars(run.rating) ? starControl(item, rating) : slideControl(item, rating);
  const row = element("li", {}, nameElement(item), control, ...extra);
  row.dataset.id = item.item_id;
  return row;
}

/** Make the element of a name, with the year in smaller letters. */
function nameElement(item) {
  const [, title, year] = name(item).match(/^(.*?)( \(\d{4}\))?$/s);
  return element("span", { className: "name" }, title, ...(year ? [element("small", {}, year)] : []));
}

/** List the suggestions that have not been rated. */
const unrated = () => suggested.filter((item) => !ratings.has(String(item.item_id)));

/** Show the ratings and the suggestions that are not among them; focus the stars of an item. */
function showRatings(focused = null, { scrolls = false } = {}) {
  const before = places("#ratings > li, #suggestions > li");
  const rows = [...ratings.values()].map(({ id, title, rating }) => {
    const button = element("button", { type: "button", className: "remove", ariaLabel: `Remove ${titleOf(id)}` }, "×");
    button.addEventListener("click", () => remove(id));
    return ratingRow({ item_id: id, title }, rating, [button]);
  });
  $("ratings").replaceChildren(...rows);
  $("mine").hidden = rows.length === 0;
  $("suggestions-heading").textContent = rows.length === 0 ? "Start with one of these" : "Rate more";
  const shownSuggestions = unrated().slice(0, NUM_SUGGESTED);
  $("suggestions").replaceChildren(...shownSuggestions.map((item) => ratingRow(item, null, [])));
  if (shownSuggestions.length < NUM_SUGGESTED && hasMore) suggestOrSay();
  moveRows([...rows, ...$("suggestions").children], before);
  if (focused === null) return;
  const row = rowOf(focused);
  (row.querySelector("input:checked") ?? row.querySelector("input")).focus({ preventScroll: true });
  if (scrolls) row.scrollIntoView({ block: "nearest", behavior: STILL.matches ? "auto" : "smooth" });
}

// --------------------------------------------------------------------------------------------------------- suggestions

/** Fetch items worth rating, enough to fill the list beside those already rated. */
async function suggest() {
  const limit = Math.min(100, NUM_SUGGESTED + ratings.size + 6);
  const found = await ask("suggestions", `items?limit=${limit}&offset=${offset}`);
  if (found === null) return;
  suggested = found.answer.items;
  hasMore = found.answer.more && limit < 100;
  if (unrated().length === 0 && offset > 0) {
    offset = 0;
    return suggest();
  }
  showRatings();
}

const suggestOrSay = () => suggest().catch((error) => showError(error.message, suggestOrSay));

// -------------------------------------------------------------------------------------------------------------- search

let matches = [];
let active = -1;
let searchTimer = 0;

async function search() {
  const query = $("query").value.trim();
  if (!query) return closeMatches();
  try {
    const found = await ask("search", `items?limit=${NUM_MATCHES}&query=${encodeURIComponent(query)}`);
    if (found === null) return;
    matches = found.answer.items;
    showMatches(query);
  } catch (error) {
    closeMatches();
    showError(error.message, search);
  }
}

function showMatches(query) {
  const options = matches.map((item, number) => {
    const rated = ratings.get(String(item.item_id))?.rating;
    const count = `${item.num_ratings.toLocaleString("en")} ${item.num_ratings === 1 ? "rating" : "ratings"}`;
    const option = element("li", { id: `match-${number}`, role: "option" }, nameElement(item), element("span", {}, rated ? `yours: ${inWords(rated)}` : count));
    option.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus in the field
    option.addEventListener("click", () => choose(number));
    return option;
  });
  $("matches").replaceChildren(...options);
  $("matches").hidden = matches.length === 0;
  $("no-match").hidden = matches.length > 0;
  $("no-match").textContent = `Nothing matches “${query}”.`;
  $("query").ariaExpanded = String(matches.length > 0);
  say(matches.length === 0 ? `Nothing matches ${query}.` : `${matches.length} found.`);
  activate(matches.length > 0 ? 0 : -1);
}

function activate(number) {
  active = number;
  [...$("matches").children].forEach((option, each) => {
    option.ariaSelected = String(each === number);
    if (each === number) option.scrollIntoView({ block: "nearest" });
  });
  if (number < 0) $("query").removeAttribute("aria-activedescendant");
  else $("query").setAttribute("aria-activedescendant", `match-${number}`);
}

function closeMatches() {
  cancel("search");
  clearTimeout(searchTimer);
  matches = [];
  $("matches").replaceChildren();
  $("matches").hidden = $("no-match").hidden = true;
  $("query").ariaExpanded = "false";
  activate(-1);
}

function choose(number) {
  const item = matches[number];
  $("query").value = "";
  closeMatches();
  pick(item);
  say(`${name(item)}: choose a rating.`);
}

function onSearchKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && matches.length > 0) {
    event.preventDefault();
    activate((active + step + matches.length) % matches.length);
  } else if (event.key === "ArrowDown") {
    search();
  } else if (event.key === "Enter" && active >= 0) {
    event.preventDefault();
    choose(active);
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (matches.length === 0 && $("no-match").hidden) $("query").value = "";
    closeMatches();
  }
}

// ----------------------------------------------------------------------------------------------------- recommendations

let isListVisible = false;
let recommendTimer = 0;

function recommendSoon() {
  clearTimeout(recommendTimer);
  recommendTimer = setTimeout(recommend, PAUSE);
}

async function recommend() {
  const rated = given();
  if (rated.length === 0) {
    cancel("recommendations");
    showWaiting(false);
    showRecommended([]);
    return;
  }
  const slow = setTimeout(() => showWaiting(true), SHOW_WAITING);
  const request = { ratings: Object.fromEntries(rated.map(({ id, rating }) => [id, rating])), k: NUM_RECOMMENDED, why: run.predicts_scores ? 0 : NUM_REASONS };
  try {
    const found = await ask("recommendations", "fold_in", request);
    if (found === null) return;
    $("error").hidden = true;
    showRecommended(found.answer.recommended);
    if (found.run !== run.run) await start(); // the server has reloaded
  } catch (error) {
    showError(error.message, recommend);
  } finally {
    clearTimeout(slow);
    showWaiting(false);
  }
}

function showWaiting(isWaiting) {
  $("recommend").classList.toggle("waiting", isWaiting);
  $("recommend").ariaBusy = String(isWaiting);
}

let retry = null;

function showError(message, again) {
  retry = again;
  $("error-text").textContent = message;
  $("error").hidden = false;
}

/** Show the list; rows that stay move to their new places. */
function showRecommended(recommended) {
  const list = $("list");
  const before = places("#list > li");
  const focused = list.contains(document.activeElement) ? document.activeElement.closest("li[data-id]").dataset.id : null;
  const wasEmpty = ranks.size === 0;
  const rows = recommended.map((item) => recommendedRow(item, wasEmpty ? undefined : ranks.get(String(item.item_id))));
  list.replaceChildren(...rows);
  $("invitation").hidden = rows.length > 0 || given().length > 0;
  const hasDeviation = recommended.some((item) => item.standard_deviation !== null);
  $("legend").hidden = rows.length === 0;
  $("scale").hidden = rows.length === 0 || run.predicts_scores;
  $("legend").textContent = run.predicts_scores && rows.length > 0 && recommended.every((item) => item.score === 0)
    ? "The most popular items: none of your ratings is high enough to count as a like."
    : run.predicts_scores
    ? "Best first: what you are most likely to try. The number is a score for ordering the list, not a rating."
    : hasDeviation
    ? "Best first: what you are most likely to try and like. Dot: predicted rating. Bar: one standard deviation to each side; about two thirds of ratings fall within."
    : "Best first: what you are most likely to try and like. Dot: predicted rating. This run does not know how certain it is.";
  moveRows(rows, before);
  if (focused !== null) list.querySelector(`[data-id="${CSS.escape(focused)}"] .why`)?.focus({ preventScroll: true });
  summarize(recommended, wasEmpty);
  ranks = new Map(recommended.map((item) => [String(item.item_id), item.rank]));
  showPeek(recommended[0]);
}

/** Show the best recommendation beside the stars, where the screen is too narrow for the list. */
function showPeek(best) {
  $("peek").hidden = !best || isListVisible;
  if (!best) return;
  $("peek-name").textContent = name(best);
  $("peek-rating").textContent = shown(best.prediction ?? best.score);
}

/** Measure where rows are, by the id of their item. */
function places(selector) {
  return new Map([...document.querySelectorAll(selector)].map((row) => [row.dataset.id, row.getBoundingClientRect().top]));
}

/** Animate each row from its earlier place, if motion is welcome. */
function moveRows(rows, before) {
  if (STILL.matches) return;
  for (const row of rows) {
    const top = before.get(row.dataset.id);
    if (top === undefined) {
      row.animate([{ opacity: 0, transform: "translateY(0.75rem)" }, { opacity: 1, transform: "none" }], { duration: 350, easing: "ease-out" });
    } else {
      const distance = top - row.getBoundingClientRect().top;
      if (distance) row.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], { duration: 450, easing: "cubic-bezier(0.2, 0.8, 0.2, 1)" });
    }
  }
}

/** Say in a sentence what has changed, for those who do not see it. */
function summarize(recommended, wasEmpty) {
  if (recommended.length === 0) return say("No recommendations.");
  const arrived = recommended.filter((item) => !ranks.has(String(item.item_id))).length;
  const change = wasEmpty ? `${recommended.length} recommendations` : arrived === 0 ? "Same titles" : `${arrived} new`;
  say(`${change}. First: ${name(recommended[0])}, ${run.predicts_scores ? "score" : "predicted"} ${shown(recommended[0].prediction ?? recommended[0].score)}.`);
}

function recommendedRow(item, earlier) {
  const id = String(item.item_id);
  const row = element("li", {}, element("span", { className: "rank", ariaHidden: "true" }, item.rank), titleCell(item, earlier), track(item), predicted(item));
  row.dataset.id = id;
  const why = item.why.filter((reason) => shown(Math.abs(reason.change)) !== shown(0));
  if (why.length > 0) addReasons(row, item, why);
  return row;
}

function titleCell(item, earlier) {
  const cell = element("div", { className: "title" }, nameElement(item));
  if (ranks.size === 0 || earlier === item.rank) return cell;
  const text = earlier === undefined ? "new" : earlier > item.rank ? `▲ ${earlier - item.rank}` : `▼ ${item.rank - earlier}`;
  const words = earlier === undefined ? "new in the list" : `${earlier > item.rank ? "up" : "down"} ${Math.abs(earlier - item.rank)}`;
  cell.append(element("span", { className: "move", title: words }, element("span", { ariaHidden: "true" }, text), element("span", { className: "hidden" }, words)));
  return cell;
}

/** Draw a prediction on the rating scale, with its interval of one standard deviation to each side. */
function track(item) {
  const { lowest, highest } = run.rating;
  const place = (rating) => Math.min(1, Math.max(0, (rating - lowest) / (highest - lowest || 1)));
  const cell = element("div", { className: "track", ariaHidden: "true" });
  if (run.predicts_scores) {
    cell.style.visibility = "hidden"; // scores are on no scale
    return cell;
  }
  if (item.standard_deviation !== null) {
    const from = place(item.prediction - item.standard_deviation);
    const interval = cell.appendChild(element("span", { className: "interval" }));
    interval.style.setProperty("--from", `${100 * from}%`);
    interval.style.setProperty("--extent", `${100 * (place(item.prediction + item.standard_deviation) - from)}%`);
  }
  cell.appendChild(element("span", { className: "dot" })).style.setProperty("--at", `${100 * place(item.prediction)}%`);
  return cell;
}

function predicted(item) {
  const cell = element("div", { className: "predicted" }, element("span", { className: "hidden" }, run.predicts_scores ? "score " : "predicted "), shown(item.prediction ?? item.score));
  if (item.standard_deviation !== null) cell.append(element("small", {}, `± ${shown(item.standard_deviation)}`));
  return cell;
}

/** Add the button that shows why an item is recommended. */
function addReasons(row, item, why) {
  const id = String(item.item_id);
  const reasons = element("ul", { className: "reasons", id: `why-${item.rank}`, hidden: !opened.has(id) });
  const verb = hasStars(run.rating) ? "gave" : "rated";
  for (const reason of why) {
    const [word, sign] = reason.change < 0 ? ["although", "−"] : ["because", "+"];
    reasons.append(element("li", {}, element("span", {}, `${word} you ${verb} ${name(reason)} ${inWords(reason.rating)}`), element("b", {}, `${sign}${shown(Math.abs(reason.change))}`)));
  }
  const button = element("button", { type: "button", className: "why", ariaExpanded: String(opened.has(id)), ariaLabel: `Why ${name(item)}?` }, "Why?");
  button.setAttribute("aria-controls", reasons.id);
  button.addEventListener("click", () => {
    reasons.hidden = !reasons.hidden;
    button.ariaExpanded = String(!reasons.hidden);
    opened[reasons.hidden ? "delete" : "add"](id);
  });
  row.querySelector(".title").append(button);
  row.append(reasons);
}

// --------------------------------------------------------------------------------------------------------------- start

function say(text) {
  $("status").textContent = text;
}

function showRun() {
  const rmse = run.test_rmse ?? run.val_rmse;
  const error = rmse === null ? [] : [`${run.test_rmse === null ? "validation" : "test"} RMSE ${rmse.toFixed(3)}`];
  const count = (number, noun) => `${number.toLocaleString("en")}\u00a0${noun}`;
  $("run").textContent = [run.model, ...error, count(run.num_users, "users"), count(run.num_items, "items")].join(" · ");
  $("run").title = run.run;
  $("lowest").textContent = run.rating.lowest.toLocaleString("en");
  $("highest").textContent = run.rating.highest.toLocaleString("en");
}

/** Ask which run answers, and show the ratings kept for its data. */
async function start() {
  try {
    const found = await ask("start", "health");
    if (found === null) return;
    const isOther = run?.data !== found.answer.data;
    run = found.answer;
    showRun();
    if (isOther) restore();
    await suggest();
    $("error").hidden = true;
  } catch (error) {
    showError(error.message, start);
    return;
  }
  await recommend();
}

$("query").addEventListener("input", () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(search, PAUSE);
});
$("query").addEventListener("keydown", onSearchKey);
$("query").addEventListener("blur", closeMatches);
$("clear").addEventListener("click", () => {
  ratings.clear();
  save();
  showRatings();
  recommendSoon();
  say("All ratings cleared.");
  $("query").focus();
});
$("others").addEventListener("click", () => {
  const last = unrated()[NUM_SUGGESTED - 1];
  offset = last ? offset + suggested.indexOf(last) + 1 : 0;
  suggestOrSay();
});
$("retry").addEventListener("click", () => {
  $("error").hidden = true;
  retry();
});
$("peek").addEventListener("click", (event) => {
  event.preventDefault(); // the address would keep #recommend
  $("recommend").scrollIntoView({ behavior: STILL.matches ? "auto" : "smooth" });
});
new IntersectionObserver(([entry]) => {
  isListVisible = entry.isIntersecting;
  $("peek").hidden = isListVisible || ranks.size === 0;
}, { rootMargin: "0px 0px -25%" }).observe($("recommend"));
document.addEventListener("keydown", () => (byKeyboard = true), true);
document.addEventListener("pointerdown", () => (byKeyboard = false), true);
start();
