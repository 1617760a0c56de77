// The live page. Texts come from the net: they are only ever set as textContent, never as markup.

import { columns, draw } from "./chart.js";
import { byId, clock, element } from "./elements.js";
import { offerSilence, showSilences, startSilencing } from "./silences.js";

const HOUR = 3600 * 1000;
const view = { book: null, kind: "topic", hours: 24, state: "all" };
const books = new Map(); // book -> series key -> Map(bucket start -> point)
const alerts = new Map(); // id -> latest record
let watermark = null;
let model = null;

const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(2);
const amount = (value) => (Number.isInteger(value) || value >= 10 ? value.toFixed(0) : value.toFixed(1));

function kindOf(key) {
  if (key === "all") return "all";
  if (key.includes("|topic:")) return "company topic";
  return key.slice(0, key.indexOf(":"));
}

const nameOf = (key) => (key === "all" ? "All texts" : key.replace(/^(topic|company):/, "").replace("|topic:", " · "));

function firingSeries() {
  const keys = new Set();
  for (const alert of alerts.values()) if (alert.state === "firing" && alert.book === view.book) keys.add(alert.series);
  return keys;
}

function card(key, points, from, to, firing) {
  const joined = columns(points, from, to, key === "all" ? 120 : 60);
  let documents = 0, negative = 0, sum = 0;
  for (const column of joined) {
    documents += column.documents;
    negative += column.negative;
    sum += column.sum;
  }
  if (!documents) return null;
  const mean = sum / documents;
  const made = element("article", firing ? "card firing" : "card");
  const title = element("h3");
  title.append(element("span", "", nameOf(key)), element("span", `mean ${mean < 0 ? "down" : "up"}`, signed(mean)));
  const share = Math.round((100 * negative) / documents);
  const facts = `${documents} ${documents === 1 ? "text" : "texts"}, ${share} % negative`;
  made.append(title, element("p", "", firing ? `${facts} · alert firing` : facts),
    draw(joined, `${nameOf(key)}: mean sentiment ${signed(mean)}, ${facts}`));
  return { made, documents };
}

function showSeries() {
  const to = (watermark ?? 0) + 1;
  const from = to - view.hours * HOUR;
  const firing = firingSeries();
  const cards = [];
  const overall = [];
  for (const [key, points] of books.get(view.book) ?? []) {
    const kind = kindOf(key);
    if (kind !== "all" && kind !== view.kind) continue;
    const made = card(key, points.values(), from, to, firing.has(key));
    if (made) (kind === "all" ? overall : cards).push(made);
  }
  cards.sort((a, b) => b.documents - a.documents);
  byId("overall").replaceChildren(...overall.map((one) => one.made));
  byId("series").replaceChildren(...cards.slice(0, 60).map((one) => one.made));
  byId("series-empty").hidden = cards.length > 0;
  byId("texts").textContent = overall.length ? overall[0].documents.toLocaleString("en") : "–";
}

/** The beginning of a text, with the words that made it negative marked. */
function marked(text) {
  const item = element("li");
  const places = (text.words ?? []).map((word) => [text.text.indexOf(word), word]).filter(([start]) => start >= 0);
  let at = 0;
  for (const [start, word] of places.sort((a, b) => a[0] - b[0])) {
    if (start < at) continue;
    item.append(text.text.slice(at, start), element("mark", "", word));
    at = start + word.length;
  }
  item.append(text.text.slice(at));
  return item;
}

function alertCard(alert) {
  const made = element("article", `alert ${alert.state} ${alert.severity}`);
  const head = element("header");
  head.append(
    element("span", "badge", alert.state === "firing" ? alert.severity : alert.state),
    element("h3", "", nameOf(alert.series)), element("time", "", clock(alert.at_ms)),
  );
  const seen = alert.peak;
  made.append(head, element("p", "", alert.line), element("p", "numbers",
    `${seen.window} at its peak: ${amount(seen.negative)} negative of ${amount(seen.documents)}, ` +
    `${amount(seen.expected_negative)} expected · ${alert.sources} ${alert.sources === 1 ? "source" : "sources"} · ` +
    `since ${clock(alert.since_ms)}${alert.muted_by?.length ? ` · muted by ${alert.muted_by.join(", ")}` : ""}`));
  const list = element("ul");
  for (const text of alert.texts.slice(0, 3)) {
    const item = marked(text);
    const copies = text.copies ? `${text.copies} ${text.copies === 1 ? "copy" : "copies"}` : "";
    item.append(element("br"), element("span", "",
      [text.source, clock(text.published_at_ms), copies].filter(Boolean).join(" · ")));
    list.append(item);
  }
  if (list.childElementCount) made.append(list);
  if (alert.state === "firing") made.append(offerSilence(alert));
  return made;
}

function showAlerts() {
  const all = [...alerts.values()].filter((alert) => alert.book === view.book && alert.state !== "pending");
  const firing = all.filter((alert) => alert.state === "firing");
  const shown = (view.state === "firing" ? firing : all).sort((a, b) => b.at_ms - a.at_ms);
  byId("alerts").replaceChildren(...shown.slice(0, 50).map(alertCard));
  byId("alerts-empty").hidden = shown.length > 0;
  byId("open").textContent = String(firing.length);
}

let due = false;
function show() {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    byId("watermark").textContent = clock(watermark);
    byId("model").textContent = model ?? "–";
    showSeries();
    showAlerts();
  }, 250);
}

function takePoint(book, key, point) {
  if (!books.has(book)) {
    books.set(book, new Map());
    showBooks();
  }
  const series = books.get(book);
  if (!series.has(key)) series.set(key, new Map());
  series.get(key).set(point[0], point);
}

/** A choice of books, where there is more than one. */
function showBooks() {
  const names = [...books.keys()].sort();
  if (!books.has(view.book)) view.book = names[0] ?? null;
  const choice = byId("books");
  choice.hidden = names.length < 2;
  choice.replaceChildren(...names.map((name) => {
    const button = element("button", "", name);
    button.setAttribute("aria-pressed", String(name === view.book));
    button.addEventListener("click", () => {
      view.book = name;
      showBooks();
      show();
    });
    return button;
  }));
}

function takeOverview(overview) {
  books.clear();
  alerts.clear();
  watermark = overview.watermark_ms;
  model = overview.model;
  for (const [book, key, points] of overview.series) for (const point of points) takePoint(book, key, point);
  for (const alert of overview.alerts) alerts.set(alert.id, alert);
  show();
}

async function showSinks() {
  try {
    const answer = await fetch("api/sinks");
    const sinks = answer.ok ? await answer.json() : [];
    byId("sinks").hidden = sinks.length === 0;
    byId("sinks").querySelector("tbody").replaceChildren(...sinks.map((sink) => {
      const row = element("tr", sink.failing ? "failing" : "");
      const waiting = sink.waiting ? `${sink.waiting}, ${sink.age_seconds} s` : "0";
      const state = sink.failing ? sink.last_error : "in order";
      for (const text of [`${sink.name} (${sink.kind})`, sink.delivered, waiting, sink.failed, state]) {
        row.append(element("td", "", text));
      }
      return row;
    }));
  } catch {
    // The line at the top says that the connection is lost.
  }
}

function connect() {
  const link = byId("link");
  const events = new EventSource("api/events");
  events.addEventListener("overview", (event) => {
    link.className = "link live";
    link.textContent = "live";
    takeOverview(JSON.parse(event.data));
  });
  events.addEventListener("points", (event) => {
    const news = JSON.parse(event.data);
    watermark = news.watermark_ms;
    model = news.model;
    for (const [book, key, point] of news.points) takePoint(book, key, point);
    show();
  });
  events.addEventListener("alert", (event) => {
    const alert = JSON.parse(event.data);
    alerts.set(alert.id, alert);
    show();
  });
  events.onerror = () => {
    link.className = "link lost";
    link.textContent = "connection lost, trying again";
  };
}

for (const choice of ["kind", "hours", "state"]) {
  for (const button of document.querySelectorAll(`button[data-${choice}]`)) {
    button.addEventListener("click", () => {
      view[choice] = choice === "hours" ? Number(button.dataset.hours) : button.dataset[choice];
      for (const other of document.querySelectorAll(`button[data-${choice}]`)) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      show();
    });
  }
}
connect();
startSilencing();

for (const refresh of [showSinks, showSilences]) {
  refresh();
  setInterval(refresh, 10_000);
}
