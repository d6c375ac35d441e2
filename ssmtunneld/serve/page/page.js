// The status page: asks for status.json every second and shows what it says.
//
// Names of tunnels and hosts, and what a service or an agent said, are data: they only
// ever become text nodes, never markup.
"use strict";

const INTERVAL_MS = 1000;
const PATIENCE_MS = 5000;
const EVENTS_KEPT = 200;
const SVG = "http://www.w3.org/2000/svg";

// A glyph and a tone for each state; the word itself is always shown beside them.
const STATES = {
  ready: ["✓", "good"],
  idle: ["○", "calm"],
  starting: ["…", "wait"],
  resuming: ["↻", "wait"],
  retrying: ["↻", "wait"],
  needs_login: ["!", "bad"],
  needs_access: ["!", "bad"],
  awaiting_approval: ["…", "wait"],
  access_rejected: ["✕", "bad"],
  access_revoked: ["✕", "bad"],
  access_expired: ["!", "bad"],
  asleep: ["○", "calm"],
  waking: ["…", "wait"],
  waiting: ["!", "bad"],
  failed: ["✕", "bad"],
  unbound: ["✕", "bad"],
  unhealthy: ["!", "bad"],
  paused: ["‖", "calm"],
  disabled: ["–", "calm"],
  draining: ["‖", "calm"],
};
const LEVELS = { info: ["i", "calm"], warning: ["!", "wait"], error: ["✕", "bad"] };
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

const byId = (id) => document.getElementById(id);

// What the daemon has told so far.
const memory = { pid: null, uptime: 0, sample: 0, event: 0, length: 120, series: new Map(), events: [] };
const rows = new Map();
let connected = null;
let filter = "";

// Words.

function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

const rate = (bytes) => `${size(bytes)}/s`;
const trip = (seconds) => (seconds === null ? "–" : milliseconds(seconds * 1000));
const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function duration(seconds) {
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [Math.floor(seconds) % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

// Elements.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Written only when it differs: a screen reader's place and a selection survive.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function badge() {
  return make("span", { class: "badge" }, make("span", { class: "glyph", "aria-hidden": "true" }), " ", make("span", { class: "words" }));
}

function showBadge(element, [glyph, tone], words) {
  set(element, "data-tone", tone);
  say(element.querySelector(".glyph"), glyph);
  say(element.querySelector(".words"), words);
}

const cell = (attributes = {}, ...children) => make("td", { role: "cell", ...attributes }, ...children);
const columnHeader = (text) => make("th", { scope: "col", role: "columnheader" }, text);

// Plots.

function pathOf(values, top) {
  const start = memory.length - values.length;
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path += `${pen}${start + index},${(40 - (value / top) * 38).toFixed(2)}`;
    pen = "L";
  });
  return path;
}

function surface(lines) {
  const svg = draw("svg", { viewBox: `0 0 ${memory.length - 1} 40`, preserveAspectRatio: "none", role: "img" });
  svg.append(draw("path", { class: "base", d: `M0,40H${memory.length - 1}` }));
  svg.append(draw("path", { class: "top", d: `M0,2H${memory.length - 1}` }));
  if (lines[0] !== "rtt") svg.append(draw("path", { class: "area" }));
  for (const line of lines) svg.append(draw("path", { class: line }));
  return svg;
}

function plotLines(svg, columns, top) {
  for (const [line, values] of Object.entries(columns)) {
    set(svg.querySelector(`.${line}`), "d", pathOf(values, top));
  }
  const area = svg.querySelector(".area");
  if (area !== null && columns.down.length > 0) {
    const start = memory.length - columns.down.length;
    set(area, "d", `${pathOf(columns.down, top)}L${memory.length - 1},40L${start},40Z`);
  }
}

// The end of a scale: one, two or five times a power of ten (for bytes, of 1024).
function scale(peak, floor) {
  let unit = 1;
  while (floor === 1024 && peak / unit >= 1024) unit *= 1024;
  let top = floor === 1024 && unit === 1 ? 1024 : unit;
  while (top < peak) {
    if (top * 2 >= peak) return top * 2;
    if (top * 5 >= peak) return top * 5;
    top *= 10;
  }
  return Math.max(top, floor);
}

function plot(title, lines) {
  const svg = surface(lines);
  const keys = Object.fromEntries(lines.map((line) => [line, make("span", { class: "key", "data-line": line })]));
  const top = make("span", {});
  const caption = make("figcaption", {}, make("strong", {}, title), ...Object.values(keys), top);
  const ends = make("div", { class: "ends", "aria-hidden": "true" }, make("span", {}, "2 minutes ago"), make("span", {}, "now"));
  return { parts: [caption, svg, ends], svg, keys, top, title };
}

function showTraffic(chart, { sent, received }) {
  const peak = Math.max(0, ...sent, ...received);
  const top = scale(peak, 1024);
  plotLines(chart.svg, { down: received, up: sent }, top);
  const [down, up] = [received.at(-1) ?? 0, sent.at(-1) ?? 0];
  if (chart.keys) {
    say(chart.keys.down, `down ${rate(down)}`);
    say(chart.keys.up, `up ${rate(up)}`);
    say(chart.top, `scale ${rate(top)}`);
  }
  set(chart.svg, "aria-label", `${chart.title}, last two minutes: now ${rate(down)} down and ${rate(up)} up, at most ${rate(peak)}`);
}

function showTrips(chart, values) {
  const known = values.filter((value) => value !== null);
  const top = scale(Math.max(0, ...known), 1);
  plotLines(chart.svg, { rtt: values }, top);
  const last = values.at(-1) ?? null;
  const words = last === null ? "unknown" : milliseconds(last);
  say(chart.keys.rtt, words);
  say(chart.top, `scale ${milliseconds(top)}`);
  set(chart.svg, "aria-label", `${chart.title}, last two minutes: now ${words}, at most ${milliseconds(Math.max(0, ...known))}`);
}

// One tunnel: a row, a row that says why, and a row with everything.

class Row {
  constructor(name) {
    this.state = null;
    this.body = make("tbody", { role: "rowgroup", class: "tunnel", id: `tunnel-${name}` });
    this.toggle = make("button", { type: "button", class: "toggle", "aria-expanded": "false", "aria-controls": `details-${name}` }, name);
    this.optional = make("div", { class: "optional" }, "not required");
    this.badge = badge();
    this.listen = make("div");
    this.via = make("div", { class: "via" });
    this.connections = cell({ class: "number", "data-label": "Connections" });
    this.down = cell({ class: "number", "data-label": "Down" });
    this.up = cell({ class: "number", "data-label": "Up" });
    this.rtt = cell({ class: "number", "data-label": "Round trip" });
    this.spark = { svg: surface(["down", "up"]), title: `Throughput of ${name}` };
    this.spark.svg.setAttribute("class", "spark");
    this.reason = make("span");
    this.todo = make("span", { class: "todo" });
    this.why = make("tr", { role: "row", class: "more", hidden: "" }, cell({ colspan: "8", class: "wide why" }, this.reason, " ", this.todo));
    this.details = make("tr", { role: "row", class: "more", id: `details-${name}`, hidden: "" }, this.makeDetails(name));
    const head = make("th", { scope: "row", role: "rowheader" }, this.toggle, this.optional);
    this.body.append(
      make("tr", { role: "row" }, head, cell({}, this.badge), cell({ class: "route wide" }, this.listen, this.via), this.connections, this.down, this.up, this.rtt, cell({ class: "wide" }, this.spark.svg)),
      this.why,
      this.details,
    );
    this.toggle.addEventListener("click", () => this.open(this.details.hidden));
  }

  makeDetails(name) {
    this.facts = make("dl", { class: "facts-of" });
    this.traffic = plot("Throughput", ["down", "up"]);
    this.trips = plot("Round trip to the agent", ["rtt"]);
    this.sessions = make("tbody", { role: "rowgroup" });
    const titles = ["Number", "Session", "Phase", "Age", "Streams", "Rate", "Round trip", "Agent", "Sent again"];
    const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...titles.map(columnHeader)));
    this.table = make("table", { role: "table", class: "sessions" }, make("caption", {}, "Sessions"), head, this.sessions);
    const charts = make("div", { class: "pair" }, make("figure", { class: "plot" }, ...this.traffic.parts), make("figure", { class: "plot" }, ...this.trips.parts));
    const box = make("div", { class: "session-box", tabindex: "0", role: "region", "aria-label": `Sessions of ${name}` }, this.table);
    return cell({ colspan: "8", class: "wide" }, this.facts, charts, box);
  }

  open(wanted) {
    this.details.hidden = !wanted;
    set(this.toggle, "aria-expanded", String(wanted));
    if (wanted && this.last) this.showDetails(this.last);
  }

  show(tunnel) {
    this.last = tunnel;
    const series = memory.series.get(tunnel.name) ?? { sent: [], received: [], rtt: [] };
    this.optional.hidden = tunnel.required || tunnel.state === "disabled";
    showBadge(this.badge, STATES[tunnel.state] ?? ["?", "calm"], tunnel.state);
    say(this.listen, `${tunnel.listen.join(", ") || "not listening"} → ${tunnel.destination}`);
    say(this.via, `through ${tunnel.target}`);
    say(this.connections, tunnel.waiting > 0 ? `${tunnel.connections} (${tunnel.waiting} waiting)` : String(tunnel.connections));
    say(this.down, rate(series.received.at(-1) ?? 0));
    say(this.up, rate(series.sent.at(-1) ?? 0));
    say(this.rtt, trip(tunnel.rtt));
    showTraffic(this.spark, series);
    this.why.hidden = tunnel.reason === "";
    say(this.reason, tunnel.reason.endsWith(".") ? tunnel.reason : `${tunnel.reason}.`);
    say(this.todo, tunnel.advice === "" ? "" : `What to do: ${tunnel.advice}.`);
    if (!this.details.hidden) this.showDetails(tunnel);
    this.announce(tunnel);
    this.body.hidden = !this.matches(tunnel);
  }

  announce(tunnel) {
    const before = this.state;
    this.state = tunnel.state;
    if (before !== null && before !== tunnel.state) {
      announce(`${tunnel.name} is ${tunnel.state}${tunnel.reason ? `: ${tunnel.reason}` : ""}`);
    }
  }

  matches(tunnel) {
    const text = [tunnel.name, tunnel.state, tunnel.target, tunnel.destination, ...tunnel.listen, ...tunnel.groups].join(" ");
    return text.toLowerCase().includes(filter);
  }

  showDetails(tunnel) {
    const series = memory.series.get(tunnel.name) ?? { sent: [], received: [], rtt: [] };
    showTraffic(this.traffic, series);
    showTrips(this.trips, series.rtt);
    const { counts } = tunnel;
    showFacts(this.facts, [
      ["Accepted", `${tunnel.accepted} (limit ${tunnel.max_connections} at once)`],
      ["Refused", tunnel.refused],
      ["Last refusal", lastRefusal(tunnel.last_refusal)],
      ["Rejected", tunnel.rejected],
      ["Received", size(tunnel.received)],
      ["Sent", size(tunnel.sent)],
      ["Sessions started", counts.started],
      ["Resumed", counts.resumed],
      ["Lost", counts.restarted],
      ["Messages sent again", counts.retransmitted],
      ["Next attempt", tunnel.retry_in === null ? "–" : `in ${duration(tunnel.retry_in)}`],
    ]);
    const texts = tunnel.sessions.map((s) => [
      s.number, s.session_id ?? "–", s.retiring ? `${s.phase}, retiring` : s.stalled ? `${s.phase}, stalled` : s.phase,
      duration(s.age), s.streams, rate(s.rate), trip(s.rtt), s.agent === null ? "–" : `${s.agent} (${s.mode})`, s.retransmitted,
    ]);
    fillTable(this.sessions, texts, 1);
    this.table.hidden = texts.length === 0;
  }
}

function lastRefusal(refusal) {
  if (!refusal) return "–";
  const cure = refusal.advice ? `; ${refusal.advice}` : "";
  return `${duration(refusal.age)} ago: ${refusal.reason || "unknown"}${cure}`;
}

function showFacts(list, facts) {
  if (list.children.length !== facts.length) {
    list.replaceChildren(...facts.map(([name]) => make("div", {}, make("dt", {}, name), make("dd"))));
  }
  facts.forEach(([, value], index) => say(list.children[index].querySelector("dd"), String(value)));
}

function fillTable(body, texts, idColumn) {
  while (body.children.length > texts.length) body.lastElementChild.remove();
  while (body.children.length < texts.length) {
    const cells = texts[0].map((_, column) => cell(column === idColumn ? { class: "id" } : {}));
    body.append(make("tr", { role: "row" }, ...cells));
  }
  texts.forEach((row, index) => row.forEach((text, column) => say(body.children[index].children[column], String(text))));
}

// The whole page.

function announce(text) {
  const place = byId("announcer");
  place.append(make("span", {}, `${text}. `));
  while (place.children.length > 5) place.firstElementChild.remove();
}

function showOverview(status) {
  const enabled = status.tunnels.filter((m) => m.state !== "disabled");
  const usable = enabled.filter((m) => m.usable).length;
  byId("tile-usable").replaceChildren(String(usable), make("span", { class: "of" }, ` of ${enabled.length}`));
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  say(byId("tile-connections"), String(sum(status.tunnels.map((m) => m.connections))));
  say(byId("tile-sessions"), String(sum(status.tunnels.map((m) => m.sessions.length))));
  const all = sumOfSeries();
  say(byId("tile-down"), rate(all.received.at(-1) ?? 0));
  say(byId("tile-up"), rate(all.sent.at(-1) ?? 0));
  showTraffic(total, all);
  const words = status.draining ? ", draining" : status.ready ? "" : ", not ready";
  say(byId("daemon"), `${status.program}${words}, running for ${duration(status.uptime)}, pid ${status.pid}, ${status.config}`);
  // A start that goes as it should needs nobody; one in trouble has a reason.
  showAttention(enabled.filter((m) => !m.usable && (m.state !== "starting" || m.reason)));
}

function showAttention(troubled) {
  const key = troubled.map((m) => `${m.name} ${m.state}`).join("\n");
  const place = byId("attention-list");
  byId("attention").hidden = troubled.length === 0;
  document.title = troubled.length > 0 ? `(${troubled.length}) ssmtunneld` : "ssmtunneld";
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const shown = troubled.slice(0, 12).map((m) => make("a", { href: `#tunnel-${m.name}` }, `${m.name} (${m.state})`));
  const more = troubled.length > shown.length ? [`and ${troubled.length - shown.length} more`] : [];
  place.replaceChildren(...shown.flatMap((link) => [link, " "]), ...more);
}

function sumOfSeries() {
  const longest = Math.max(0, ...[...memory.series.values()].map(({ sent }) => sent.length));
  const total = { sent: Array(longest).fill(0), received: Array(longest).fill(0) };
  for (const { sent, received } of memory.series.values()) {
    const start = longest - sent.length;
    sent.forEach((value, index) => { total.sent[start + index] += value; });
    received.forEach((value, index) => { total.received[start + index] += value; });
  }
  return total;
}

function showTunnels(tunnels) {
  const names = new Set(tunnels.map((m) => m.name));
  for (const [name, row] of rows) {
    if (!names.has(name)) {
      row.body.remove();
      rows.delete(name);
    }
  }
  const table = byId("tunnel-table");
  tunnels.forEach((tunnel, index) => {
    if (!rows.has(tunnel.name)) rows.set(tunnel.name, new Row(tunnel.name));
    const row = rows.get(tunnel.name);
    // Behind the head; moved only if a reload changed the order, so that focus stays.
    const place = table.children[index + 1] ?? null;
    if (place !== row.body) table.insertBefore(row.body, place);
    row.show(tunnel);
  });
  byId("nothing").hidden = [...rows.values()].some((row) => !row.body.hidden);
}

function eventRow(event) {
  const time = make("time", { datetime: event.time }, new Date(event.time).toLocaleTimeString([], { hourCycle: "h23" }));
  const level = badge();
  showBadge(level, LEVELS[event.level] ?? LEVELS.info, event.level);
  const facts = Object.entries(event.facts).flatMap(([name, value]) => [make("i", {}, `${name} `), `${value}  `]);
  const owner = event.tunnel === null ? [] : [make("b", {}, event.tunnel), "  "];
  const row = make("tr", { role: "row", "data-level": event.level }, cell({}, time), cell({}, level), cell({ class: "name" }, event.event), cell({ class: "facts" }, ...owner, ...facts));
  row.hidden = isHidden(row);
  return row;
}

const isHidden = (row) => byId("level").value === "trouble" && row.dataset.level === "info";

function showEvents(events) {
  const place = byId("events");
  for (const event of events) place.prepend(eventRow(event));
  while (place.children.length > EVENTS_KEPT) place.lastElementChild.remove();
  byId("no-events").hidden = [...place.children].some((row) => !row.hidden);
}

// Who is connected: asked for only while somebody looks.

function connectionTexts(c) {
  return [
    c.id, c.tunnel, c.user ?? "–", c.pid === null ? "–" : `${c.program ?? ""} (${c.pid})`, duration(c.age),
    size(c.received), size(c.sent), rate(c.received_rate), rate(c.sent_rate),
    c.session === null ? "waiting" : `${c.session} on ${c.target ?? "–"}`, c.destination || "–", c.peer,
  ];
}

function showConnections({ connections, more }) {
  fillTable(byId("connections"), connections.map(connectionTexts), 0);
  byId("connection-box").hidden = connections.length === 0;
  const none = connections.length === 0 ? "Nobody." : "";
  // This page only looks; whoever may end a connection has the command.
  const how = none || "To end one: ssmtunneld kill ID.";
  say(byId("connections-note"), more > 0 ? `And ${more} more: ssmtunneld connections shows all. ${how}` : how);
}

async function lookAtConnections() {
  const answer = await fetch("connections.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`connections ${answer.status}`);
  showConnections(await answer.json());
}

// Talking to the daemon.

function remember({ history, events }) {
  memory.length = history.length;
  for (const name of [...memory.series.keys()]) {
    if (!(name in history.tunnels)) memory.series.delete(name);
  }
  // There may be more than was asked for.
  const missed = Math.max(0, history.newest - memory.sample);
  const lacking = (values) => (missed < values.length ? values.slice(values.length - missed) : values);
  for (const [name, added] of Object.entries(history.tunnels)) {
    const known = memory.series.get(name) ?? { sent: [], received: [], rtt: [] };
    memory.series.set(name, {
      sent: [...known.sent, ...lacking(added.sent)].slice(-memory.length),
      received: [...known.received, ...lacking(added.received)].slice(-memory.length),
      rtt: [...known.rtt, ...lacking(added.rtt_ms)].slice(-memory.length),
    });
  }
  memory.sample = history.newest;
  if (events.length > 0) memory.event = events.at(-1).number;
}

// Another daemon than a moment ago: what we hold is of the one before.
function isAnother(status) {
  const restarted = memory.pid !== null && (status.pid !== memory.pid || status.uptime < memory.uptime);
  memory.pid = status.pid;
  memory.uptime = status.uptime;
  return restarted;
}

function forget() {
  memory.sample = 0;
  memory.event = 0;
  memory.series.clear();
  byId("events").replaceChildren();
}

function show(status) {
  remember(status);
  showOverview(status);
  showTunnels(status.tunnels);
  showEvents(status.events);
}

function showConnected(now) {
  document.body.classList.toggle("lost", !now);
  showBadge(byId("link"), now ? ["✓", "good"] : ["✕", "bad"], now ? "live" : "connection lost, trying again");
  if (connected !== null && connected !== now) {
    announce(now ? "The daemon answers again" : "The connection to the daemon is lost");
  }
  connected = now;
}

async function ask() {
  const address = `status.json?sample=${memory.sample}&event=${memory.event}`;
  const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

async function askUntilWhole() {
  const status = await ask();
  if (!isAnother(status)) return status;
  forget();
  return ask();
}

async function look() {
  let status;
  try {
    status = await askUntilWhole();
    if (!byId("connections-shown").hidden) await lookAtConnections();
  } catch {
    showConnected(false); // unreachable, too slow, or broken off in the middle
    return;
  }
  show(status);
  showConnected(true);
}

async function keepLooking() {
  for (;;) {
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    } else {
      await look();
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  }
}

const total = plot("Throughput of all tunnels", ["down", "up"]);
byId("plot-all").append(...total.parts);
byId("filter").addEventListener("input", (event) => {
  filter = event.target.value.trim().toLowerCase();
  for (const row of rows.values()) if (row.last) row.body.hidden = !row.matches(row.last);
  byId("nothing").hidden = [...rows.values()].some((row) => !row.body.hidden);
});
byId("level").addEventListener("change", () => {
  for (const row of byId("events").children) row.hidden = isHidden(row);
  byId("no-events").hidden = [...byId("events").children].some((row) => !row.hidden);
});
byId("connections-toggle").addEventListener("click", ({ currentTarget }) => {
  const place = byId("connections-shown");
  place.hidden = !place.hidden;
  set(currentTarget, "aria-expanded", String(!place.hidden));
  say(currentTarget, place.hidden ? "Show connections" : "Hide connections");
});
keepLooking();
