// Silences: the list, the form that makes one, the buttons that end one. Who may is for the server to decide.

import { byId, clock, element } from "./elements.js";

let access = "off"; // "open", "token" or "off"

function say(text, wrong) {
  byId("silencing-said").className = wrong ? "said wrong" : "said";
  byId("silencing-said").textContent = text;
}

/** Ask the server for a change; returns what it answers, null where it refused. The token is kept in the form alone. */
async function change(path, body) {
  const headers = { "Content-Type": "application/json", "X-Bearwire": "page" };
  if (access === "token") headers["X-Bearwire-Token"] = byId("silence").elements.token.value;
  try {
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const told = await answer.json();
    if (answer.ok) return told;
    say(told.error, true);
  } catch (error) {
    say(`The request failed: ${error.message}`, true);
  }
  return null;
}

/** What was written comes back through Kafka, a moment later. */
function showSoon() {
  for (const wait of [300, 1500, 4000]) setTimeout(showSilences, wait);
}

async function make(event) {
  event.preventDefault();
  const { elements } = byId("silence");
  const made = await change("api/silences", {
    matchers: elements.matchers.value.split("\n").map((line) => line.trim()).filter(Boolean),
    for: elements.for.value, author: elements.author.value, reason: elements.reason.value,
  });
  if (!made) return;
  say(`Silence ${made.id} lasts until ${clock(made.ends_ms)}.`);
  elements.matchers.value = "";
  elements.reason.value = "";
  showSoon();
}

async function expire(silence, button) {
  button.disabled = true;
  if (await change(`api/silences/${encodeURIComponent(silence.id)}/expire`, {})) {
    say(`Silence ${silence.id} was ended.`);
    showSoon();
  } else {
    button.disabled = false;
  }
}

/** Matchers as they are written on the command line. */
function written(matchers) {
  return Object.entries(matchers).flatMap(([name, patterns]) => patterns.map(
    (pattern) => (pattern.startsWith("!") ? `${name}!=${pattern.slice(1)}` : `${name}=${pattern}`))).join(", ");
}

function row(silence) {
  const made = element("tr");
  for (const text of [written(silence.matchers), clock(silence.ends_ms), silence.author, silence.reason]) {
    made.append(element("td", "", text));
  }
  const last = element("td");
  if (access !== "off") {
    const button = element("button", "plain", "Expire");
    button.setAttribute("aria-label", `Expire silence ${silence.id}`);
    button.addEventListener("click", () => expire(silence, button));
    last.append(button);
  }
  made.append(last);
  return made;
}

export async function showSilences() {
  try {
    const answer = await fetch("api/silences");
    const silences = answer.ok ? await answer.json() : [];
    byId("silences").hidden = silences.length === 0;
    byId("silences").querySelector("tbody").replaceChildren(...silences.map(row));
  } catch {
    // The line at the top says that the connection is lost.
  }
}

/** A pattern that fits this text alone. */
function exactly(text) {
  return text.replace(/[*?[]/g, "[$&]");
}

/** A button that fills the form in for one alert; hidden where nobody may make silences here. */
export function offerSilence(alert) {
  const button = element("button", "plain", "Silence…");
  button.hidden = access === "off";
  button.addEventListener("click", () => {
    byId("silencing").open = true;
    const { elements } = byId("silence");
    elements.matchers.value = `book=${exactly(alert.book)}\nseries=${exactly(alert.series)}`;
    elements.reason.focus();
  });
  return button;
}

export async function startSilencing() {
  byId("silence").addEventListener("submit", make);
  try {
    const answer = await fetch("api/silences/access");
    if (answer.ok) ({ access } = await answer.json());
  } catch {
    // Then nothing can be changed from here.
  }
  byId("silencing").hidden = access === "off";
  byId("token").hidden = access !== "token";
  byId("silence").elements.token.required = access === "token";
  if (access !== "off") for (const button of document.querySelectorAll(".alert .plain")) button.hidden = false;
  showSilences();
}
