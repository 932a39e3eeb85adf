"use strict";
// The page of a running server. It draws what /api/stream tells once a second, and asks /api/requests/ID for one request.
// Everything that came from outside (targets, ids, causes) is set as text, never as markup.

const STEPS = ["accept", "tls", "buffer", "loop", "read", "decrypt", "parse", "decode", "queue", "process", "pool", "dial",
  "upstream", "encode", "encrypt", "send", "client", "unknown"];
const WAITING = new Set(["accept", "buffer", "loop", "queue", "pool", "dial", "client"]);
const TITLES = { before: "Before", app: "App or upstream", after: "After" };
const view = { tab: "latest", frame: null, open: "", rows: new Map(), closed: new Set() };
const $ = (id) => document.getElementById(id);

// ---- small tools

function make(tag, cls, text) {
  const found = document.createElement(tag);
  if (cls) found.className = cls;
  if (text !== undefined) found.textContent = text;
  return found;
}
function shape(tag, attributes) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  return found;
}
function short(us) {
  if (!us) return "–";
  if (us >= 1e6) return (us / 1e6).toPrecision(3) + " s";
  if (us >= 1e5) return (us / 1e3).toFixed(0) + " ms";
  if (us >= 1e3) return (us / 1e3).toPrecision(3) + " ms";
  return us >= 100 ? us.toFixed(0) + " µs" : us.toPrecision(2) + " µs";
}
const count = (n) => n >= 1e7 ? (n / 1e6).toFixed(1) + " M" : n >= 1e5 ? (n / 1e3).toFixed(0) + " k" : Math.round(n).toLocaleString("en");
const rate = (n) => n >= 100 ? count(n) : n ? n.toPrecision(2) : "0";
const percent = (x) => x >= .0995 ? (x * 100).toFixed(0) + " %" : x >= .001 ? (x * 100).toFixed(1) + " %" : x > 0 ? "<0.1 %" : "0 %";
const size = (n) => n >= 1e9 ? (n / 1e9).toPrecision(3) + " GB" : n >= 1e6 ? (n / 1e6).toPrecision(3) + " MB" : n >= 1e3 ? (n / 1e3).toPrecision(3) + " kB" : n + " B";
function age(s) {
  if (s >= 86400) return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
  if (s >= 3600) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return s >= 60 ? Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s" : Math.floor(s) + " s";
}
function piece(step, left, width) {
  const found = make("i", WAITING.has(step) ? "wait" : "");
  found.style.setProperty("--c", `var(--${step})`);
  if (left !== null) found.style.left = left + "%";
  found.style.width = width + "%";
  found.title = step;
  return found;
}
function dot(step) {
  const found = make("span", WAITING.has(step) ? "dot wait" : "dot");
  found.style.setProperty("--c", `var(--${step})`);
  return found;
}
function table(target, heads, rows) {
  const top = make("thead"), line = make("tr"), body = make("tbody");
  for (const name of heads) line.append(make("th", "", name));
  top.append(line);
  for (const cells of rows) {
    const row = make("tr");
    for (const cell of cells) {
      if (cell instanceof HTMLTableCellElement) { row.append(cell); continue; }
      const td = make("td");
      td.append(cell);
      row.append(td);
    }
    body.append(row);
  }
  target.replaceChildren(top, body);
}
function named(text, cls) {
  const td = make("td", "name " + (cls || ""), text);
  td.title = text;
  return td;
}

// ---- the top: state, verdict, tiles

function drawTop(frame) {
  const server = frame.server || {};
  $("state").className = "pill " + (server.state || "");
  $("state").textContent = server.state || "connected";
  const facts = [server.version && "v" + server.version, server.compiled === false ? "interpreted" : null, server.pattern,
    server.workers && server.workers.length + (server.workers.length === 1 ? " worker" : " workers"), server.loop, server.tls,
    server.uptime && "up " + age(server.uptime)];
  $("facts").textContent = facts.filter(Boolean).join("  ·  ");
  const verdict = frame.verdict;
  $("verdict").className = "card verdict " + verdict.level;
  $("verdict").title = "rule: " + verdict.rule;
  $("verdict-text").textContent = verdict.text;
  $("verdict-advice").textContent = verdict.advice ? "What to do: " + verdict.advice + "." : "";
  const check = frame.check;
  const facts2 = [["in flight, by Little’s law", check.in_flight_expected], ["in flight, sampled", check.in_flight_sampled],
    ["without a kernel stamp", percent(check.unstamped)], ["clock set back", check.clamped]];
  if (check.log_lost) facts2.push(["log lines lost", check.log_lost]);
  $("check").replaceChildren(...facts2.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
}
function spark(values, tone) {
  const top = Math.max(...values, 1e-9), n = Math.max(values.length - 1, 1);
  const line = values.map((v, i) => `${i ? "L" : "M"}${(i / n * 100).toFixed(2)} ${(29 - v / top * 25).toFixed(2)}`).join("");
  const svg = shape("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none" });
  if (tone) svg.style.setProperty("--tone", `var(--${tone})`);
  svg.append(shape("path", { d: line + "L100 30L0 30Z" }), shape("path", { d: line, class: "line" }));
  return svg;
}
function tile(name, value, unit, values, tone) {
  const found = make("div", "tile"), b = make("b", "", value);
  if (unit) b.append(make("small", "", " " + unit));
  found.append(make("span", "", name), b, spark(values.length > 1 ? values : [0, 0], tone));
  return found;
}
function drawTiles(frame) {
  const past = frame.history, of = (pick) => past.map(pick), t = frame.totals;
  const failed = frame.rates.requests ? frame.rates.status_5xx / frame.rates.requests : 0;
  const split = (us) => us ? short(us).split(" ") : ["–", ""];
  $("tiles").replaceChildren(
    tile("Requests", rate(frame.rates.requests), "/s", of((p) => p.requests / p.seconds)),
    tile("Median", ...split(frame.latency.p50_us), of((p) => p.p50_us), "parse"),
    tile("99th percentile", ...split(frame.latency.p99_us), of((p) => p.p99_us), "tls"),
    tile("Errors (5xx)", percent(failed), "", of((p) => p.requests ? p.errors / p.requests : 0), "bad"),
    tile("In flight", count(t.in_flight || 0), "now", of((p) => p.in_flight || 0), "buffer"),
    tile("Connections", count(t.open || 0), "open", of((p) => p.open || 0), "send"));
}

// ---- where the time goes

function drawGroups(frame) {
  const pieces = frame.groups.flatMap((g) => g.steps).filter((s) => s.share > 0);
  $("bar").replaceChildren(...pieces.map((s) => {
    const found = piece(s.name, null, s.share * 100);
    found.title = `${s.name}: ${percent(s.share)}`;
    return found;
  }));
  $("groups").replaceChildren(...frame.groups.map(drawGroup));
}
function drawGroup(group) {
  const found = make("div", "group" + (view.closed.has(group.name) ? " closed" : "")), head = make("button");
  head.append(make("b", "", percent(group.share)), make("span", "", TITLES[group.name]));
  head.onclick = () => {
    if (!view.closed.delete(group.name)) view.closed.add(group.name);
    found.classList.toggle("closed");
  };
  const steps = make("table");
  table(steps, ["step", "share", "p50", "p90", "p99"], group.steps.map((s) => {
    const name = make("td");
    name.append(dot(s.name), s.name);
    return [name, percent(s.share), short(s.p50_us), short(s.p90_us), short(s.p99_us)];
  }));
  found.append(head);
  if (group.steps.length) found.append(steps);
  return found;
}

function drawTail(tail) {
  $("tail-part").hidden = !tail;
  if (!tail) return;
  $("tail-text").textContent = tail.sentence;
  table($("tail"), ["step", "middle", "slowest", "more"], tail.steps.map((s) => {
    const name = make("td");
    name.append(dot(s.name), s.name);
    const more = s.tail_us - s.median_us;
    return [name, short(s.median_us), short(s.tail_us), make("td", s.name === tail.step ? "watch-text" : "", more > 0 ? "+ " + short(more) : "–")];
  }));
}

// ---- requests

function drawRows() {
  const frame = view.frame, all = frame[view.tab] || [], text = $("filter").value.trim().toLowerCase();
  $("running-count").textContent = frame.running.length || "";
  if ($("pause").checked || view.open) return;
  const shown = text ? all.filter((r) => `${r.method} ${r.target} ${r.status} ${r.route} ${r.id} ${r.end} http/${r.version}`.toLowerCase().includes(text)) : all;
  const longest = $("common").checked ? Math.max(...shown.map((r) => r.total_us), 1) : 0;
  const kept = new Map(), fresh = view.tab === "running";
  for (const request of shown) {
    const key = `${view.tab} ${longest} ${request.id}`;
    kept.set(key, (!fresh && view.rows.get(key)) || drawRow(request, longest));
  }
  view.rows = kept;
  $("rows").replaceChildren(...kept.values());
  $("empty").hidden = kept.size > 0;
  $("empty").textContent = text ? "No request matches." : view.tab === "running" ? "Nothing has been running for more than 0.1 s." : "No request yet.";
}
function versioned(request) {
  const found = make("span", "version v" + request.version[0], request.version);
  found.title = `HTTP/${request.version}` + (request.version === "3" ? " over QUIC" : request.tls ? " over TLS" : "");
  return found;
}
function drawRow(request, longest) {
  const row = make("div", "row"), bar = make("div", "bar"), whole = longest || Math.max(request.total_us, .1);
  for (const [step, start, length] of request.pieces) {
    const one = piece(step, start / whole * 100, length / whole * 100);
    one.title = `${step} ${short(length)}`;
    bar.append(one);
  }
  const target = make("span", "target", request.target);
  target.title = `${request.target}\nroute ${request.route}\nid ${request.id}${request.end ? "\nended early: " + request.end : ""}`;
  row.append(make("span", "time", request.time.slice(11, 23)), versioned(request), make("span", "method", request.method), target,
    make("span", "s" + Math.floor(request.status / 100), request.status || "–"), bar, make("span", "total", short(request.total_us)));
  row.tabIndex = 0;
  row.setAttribute("role", "button");
  row.dataset.id = request.id;
  row.onclick = () => toggle(row, request.id);
  row.onkeydown = (event) => { if (event.key === "Enter") toggle(row, request.id); };
  return row;
}
async function toggle(row, id) {
  const was = view.open;
  for (const old of document.querySelectorAll(".detail")) old.remove();
  for (const old of document.querySelectorAll(".row.open")) old.classList.remove("open");
  view.open = "";
  if (was === id) return;
  view.open = id;
  row.classList.add("open");
  const answer = await fetch("/api/requests/" + encodeURIComponent(id));
  const detail = make("div", "detail");
  if (answer.ok) drawDetail(detail, await answer.json());
  else detail.append(make("p", "note", "This request is no longer remembered."));
  if (view.open === id) row.after(detail);
}
function drawDetail(target, why) {
  target.append(make("p", "sentence", why.sentence));
  if (why.advice) target.append(make("p", "advice", "What to do: " + why.advice + "."));
  const facts = make("div", "facts");
  const pairs = [["id", why.id], ["route", why.route], ["client", why.client], ["host", why.host], ["protocol", why.protocol], ["received", size(why.bytes_in)],
    ["sent", size(why.bytes_out)], ["worker", why.worker], ["attempts", why.attempts > 1 ? why.attempts : ""], ["ended", why.end],
    ...(why.socket ? [["round trip", short(why.socket.rtt_us)], ["client's window full", why.socket.window_us ? short(why.socket.window_us) : ""],
      ["send buffer full", why.socket.sndbuf_us ? short(why.socket.sndbuf_us) : ""], why.version === "3" ? ["packets lost", String(why.socket.retransmits)] : ["sent again", why.socket.retransmits || ""]] : [])];
  for (const [name, value] of pairs.filter(([, value]) => value !== "" && value !== undefined)) {
    const one = make("span", "", name + " ");
    one.append(make("b", "", value));
    facts.append(one);
  }
  target.append(facts, drawFall(why));
  const points = make("div", "points");
  for (const [name, at] of Object.entries(why.points).sort((a, b) => a[1] - b[1])) {
    const one = make("span", "", name + " ");
    one.append(make("b", "", at ? short(at) : "0"));
    points.append(one);
  }
  target.append(points);
}
function drawFall(why) {
  const fall = make("div", "fall"), whole = Math.max(why.total_us, .1), axis = make("div", "axis");
  for (let i = 0; i <= 4; i++) {
    const tick = make("span", "", i ? short(whole * i / 4) : "0");
    tick.style.left = i * 25 + "%";
    axis.append(tick);
  }
  fall.append(make("span"), axis, make("span"), make("span", "q"));
  const times = Object.fromEntries(why.steps.map((s) => [s.name, s]));
  const pieces = [...why.pieces].sort((a, b) => a[1] - b[1] || STEPS.indexOf(a[0]) - STEPS.indexOf(b[0]));
  for (const [step, start, length] of pieces) {
    const bar = make("div", "bar"), known = step === "unknown" ? { us: length, quality: "unknown" } : times[step] || { us: length, quality: "" };
    bar.append(piece(step, start / whole * 100, length / whole * 100));
    const name = make("span");
    name.append(dot(step), step);
    if (known.also) name.append(make("span", "also", known.also));
    name.title = known.is || "";
    fall.append(name, bar, make("span", "num", short(known.us)), make("span", "q", known.quality));
    if (step === "process") {
      for (const own of why.custom) {
        const inner = make("div", "bar");
        inner.append(piece("process", own.start_us / whole * 100, own.us / whole * 100));
        fall.append(make("span", "own", own.name), inner, make("span", "num soft", short(own.us)), make("span", "q", "yours"));
      }
    }
  }
  return fall;
}

// ---- heat map, tables

function drawHeat(frame) {
  const past = frame.history, width = 600, height = 190, left = 44, low = 6, rows = 21;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}` });
  const high = (height - 18) / rows, wide = (width - left) / 120, most = Math.max(1, ...past.flatMap((p) => p.heat));
  const bottom = (octave) => height - 16 - (octave - low + 1) * high;
  past.forEach((second, i) => {
    const x = width - (past.length - i) * wide;
    second.heat.forEach((n, octave) => {
      if (n && octave >= low && octave < low + rows) svg.append(shape("rect", { x, y: bottom(octave), width: wide + .2, height: high + .2, "fill-opacity": (.12 + .88 * Math.sqrt(n / most)).toFixed(2) }));
    });
  });
  const level = (us) => Math.log2(Math.max(us, .128) / .128) - 2;  // octave with its fraction: bound(8 * k) is 1.024 us * 2^(k - 1)
  let line = "", pen = "M";
  past.forEach((p, i) => {
    if (!p.p99_us) { pen = "M"; return; }
    const x = width - (past.length - i - .5) * wide, y = height - 16 - (level(p.p99_us) - low) * high;
    line += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  if (line) svg.append(shape("path", { d: line, "stroke-linecap": "round" }));
  const holder = $("heat");
  holder.replaceChildren(svg);
  for (const [us, name] of [[100, "100 µs"], [1000, "1 ms"], [10000, "10 ms"], [1e5, "100 ms"], [1e6, "1 s"], [1e7, "10 s"]]) {
    const y = height - 16 - (level(us) - low) * high;
    const text = shape("text", { x: 0, y: y + 3 });
    text.textContent = name;
    svg.append(text, shape("path", { d: `M${left} ${y}H${width}`, "stroke-dasharray": "1 5" }));
  }
  for (const [i, name] of [[0, "2 min ago"], [60, "1 min"], [113, "now"]]) {
    const text = shape("text", { x: left + i * wide, y: height - 3 });
    text.textContent = name;
    svg.append(text);
  }
}
function threads(t) {
  return t.all ? `${t.busy} of ${t.all} busy${t.waiting ? `, ${t.waiting} wait` : ""}` : "none";
}
function drawTables(frame) {
  table($("routes"), ["route", "total", "/s", "p50", "p90", "p99", "errors", ""], frame.routes.map((r) => {
    const bar = make("div", "bar"), cell = make("td", "wide");
    let at = 0;
    for (const step of STEPS) {
      const share = (r.shares[step] || 0) * 100;
      if (share > .2) bar.append(piece(step, at, share));
      at += share;
    }
    cell.append(bar);
    return [named(r.name), count(r.requests), rate(r.rate), short(r.p50_us), short(r.p90_us), short(r.p99_us),
      r.errors ? make("td", "bad-text", count(r.errors)) : "0", cell];
  }));
  const roles = Object.fromEntries(((frame.server || {}).workers || []).map((w) => [w.pid, w]));
  table($("workers"), ["worker", "pid", "state", "/s", "in flight", "connections", "loop late", "threads", "requests"], frame.workers.map((w) => {
    const role = roles[w.pid] || {}, stuck = w.beat_age > 3;
    return [String(role.index ?? w.slot), w.pid, make("td", stuck ? "bad-text" : "", stuck ? `no sign for ${w.beat_age.toFixed(0)} s` : role.state || "alive"),
      rate(w.rate), count(w.in_flight), count(w.open), make("td", w.lag_us > 1e5 ? "bad-text" : w.lag_us > 1e4 ? "watch-text" : "", short(w.lag_us)),
      make("td", w.threads.waiting ? "watch-text" : "", threads(w.threads)), count(w.requests)];
  }));
  const listeners = (frame.server || {}).listeners || [];
  table($("listeners"), ["listener", "address", "waiting", "queue"], listeners.map((l) => [named(l.name || l.kind || ""), named([].concat(l.bind || l.address || l.url || "").join(", ")),
    String(l.depth ?? l.queue?.depth ?? "–"), String(l.limit ?? l.queue?.limit ?? "–")]));
  const ends = Object.entries(frame.ends).sort((a, b) => b[1] - a[1]);
  table($("ends"), ["ended early", "requests"], ends.map(([name, n]) => [named(name), count(n)]));
  $("ends").hidden = !ends.length;
}

// ---- the stream, and what can be changed

function draw(frame) {
  view.frame = frame;
  drawTop(frame);
  drawTiles(frame);
  drawGroups(frame);
  drawTail(frame.tail);
  drawRows();
  drawHeat(frame);
  drawTables(frame);
}
async function drawGrpc() {
  if (!document.hidden) {
    const answer = await fetch("/api/grpc").catch(() => null);
    const said = answer && answer.ok ? await answer.json() : { servers: {} };
    const servers = Object.entries(said.servers);
    $("grpc-card").hidden = !servers.length;
    const calls = servers.reduce((sum, [, one]) => sum + one.calls, 0);
    $("grpc-text").textContent = `${count(calls)} calls open${said.silent ? `, ${said.silent} workers silent` : ""}`;
    table($("grpc"), ["server", "method", "calls", "good", "failed", "messages in", "messages out"], servers.flatMap(([name, one]) =>
      Object.entries(one.methods).filter(([, m]) => m.started).map(([path, m]) => [named(name), named(path), count(m.started), count(m.succeeded),
        m.failed ? make("td", "bad-text", count(m.failed)) : "0", count(m.messages_in), count(m.messages_out)])));
  }
  setTimeout(drawGrpc, 3000);
}
const KINDS = [["sse", "SSE"], ["websocket", "WebSocket"], ["long-poll", "long poll"], ["grpc", "gRPC"], ["python", "Python"]];
const ago = (at) => at ? age(Math.max(0, Date.now() / 1000 - at)) : "–";
function button(text, act) {
  const found = make("button", "small", text);
  found.onclick = act;
  return found;
}
function since(now) {  // what was counted since the last look, by topic, a second
  const at = performance.now() / 1000, before = view.topics, seconds = before ? Math.max(at - before.at, .1) : 0;
  const rows = new Map(now.top.map((t) => [t.topic, t]));
  view.topics = { at, rows };
  return (topic, name) => seconds && before.rows.has(topic) ? Math.max(0, rows.get(topic)[name] - before.rows.get(topic)[name]) / seconds : 0;
}
async function drawUploads() {
  if (!document.hidden) {
    const answer = await fetch("/api/uploads").catch(() => null);
    if (answer && answer.ok) showUploads(await answer.json());
  }
  setTimeout(drawUploads, 2000);
}
function showUploads(said) {
  const rows = Object.entries(said.routes), at = performance.now() / 1000, before = view.uploads;
  view.uploads = { at, routes: said.routes };
  $("uploads-card").hidden = !rows.length;
  $("uploads-text").textContent = said.silent ? `${said.silent} workers silent` : "";
  const speed = (route, now) => before && before.routes[route] ? Math.max(0, now - before.routes[route].bytes) / Math.max(at - before.at, .1) : 0;
  table($("uploads"), ["route", "coming in", "MiB/s", "MiB", "begun", "completed", "resumed", "aborted", "cancelled", "expired", "rejected"],
    rows.map(([route, one]) => [named(route), count(one.active), (speed(route, one.bytes) / 1048576).toFixed(1), (one.bytes / 1048576).toFixed(1), count(one.started),
      count(one.completed), count(one.resumed), count(one.aborted), count(one.cancelled), count(one.expired),
      one.rejected ? make("td", "watch-text", count(one.rejected)) : "0"]));
}
async function drawTopics() {
  if (!document.hidden) {
    const answer = await fetch("/api/topics").catch(() => null);
    if (answer && answer.ok) showTopics(await answer.json());
  }
  setTimeout(drawTopics, 2000);
}
function showTopics(said) {
  const total = (counts) => Object.values(counts).reduce((sum, n) => sum + n, 0), per = since(said), late = total(said.late);
  $("topics-card").hidden = !said.top.length && !said.groups.length && !said.webhooks.length;
  $("topics-text").textContent = `${count(total(said.followers))} followers, ${count(said.delivered)} deliveries`
    + (late ? `, ${count(late)} slow now` : "") + (said.gaps ? `, ${count(said.gaps)} told of a gap` : "") + (said.silent ? `, ${said.silent} workers silent` : "");
  const kinds = KINDS.filter(([kind]) => said.followers[kind]);
  table($("topics"), ["topic", "events/s", "deliveries/s", "followers", ...kinds.map(([, name]) => name), "slow"], said.top.map((t) => [named(t.topic),
    rate(per(t.topic, "events")), rate(per(t.topic, "delivered")), count(total(t.followers)), ...kinds.map(([kind]) => count(t.followers[kind] || 0)),
    total(t.late) ? make("td", "watch-text", count(total(t.late))) : "0"]));
  $("late-part").hidden = !said.named.length;
  table($("late"), ["follower", "topic", "transport", "policy", "for", "missed"], said.named.map((s) => [named(s.who), named(s.topic), s.transport, s.policy, age(s.seconds), count(s.missed)]));
  $("groups-part").hidden = !said.groups.length;
  table($("consumers"), ["topic", "group", "lag", "ready", "delayed", "leased", "oldest", "dead", ""], said.groups.map((g) => [named(g.topic), named(g.group),
    count(g.lag), count(g.ready), count(g.delayed), count(g.leased), ago(g.oldest), g.dead ? make("td", "bad-text", count(g.dead)) : "0",
    g.dead ? button("Redrive all", () => redrive(g, "")) : ""]));
  $("hooks-part").hidden = !said.webhooks.length;
  table($("hooks"), ["topic", "webhook", "to", "state", "lag", "delayed", "last success", "failing for", "dead", ""], said.webhooks.map((h) => [named(h.topic),
    named(h.id), named(h.url), h.state === "active" ? h.state : make("td", "bad-text", h.reason ? `${h.state}: ${h.reason}` : h.state), count(h.lag), count(h.delayed),
    h.succeeded ? ago(h.succeeded) + " ago" : "–", ago(h.failing), h.dead ? make("td", "bad-text", count(h.dead)) : "0", h.dead ? button("Redrive all", () => redrive(h, "")) : ""]));
  const letters = [...said.groups, ...said.webhooks].flatMap((g) => g.letters.map((letter) => [g, letter]));
  $("letters-part").hidden = !letters.length;
  table($("letters"), ["topic", "group or webhook", "event", "attempts", "reason", "given up", ""], letters.map(([g, letter]) => [named(g.topic), named(g.group || g.id), named(letter.id),
    count(letter.attempts), named(letter.reason || "–"), ago(letter.at) + " ago", button("Redrive", () => redrive(g, letter.id))]));
}
function redrive(group, id) {
  const who = group.group || group.id;
  const what = new URLSearchParams({ topic: group.topic, ...(group.group ? { group: who } : { webhook: who }), ...(id ? { id } : {}) });
  change("/api/topics/redrive?" + what, id ? `Deliver event ${id} to ${who} again?` : `Deliver all dead letters of ${who} on ${group.topic} again?`);
}
function listen() {
  const source = new EventSource("/api/stream");
  source.onmessage = (event) => { if (!document.hidden || !view.frame) draw(JSON.parse(event.data)); };
  source.onerror = () => { $("state").className = "pill away"; $("state").textContent = "not reachable"; };
}
function askFor(text) {
  $("ask-text").textContent = text;
  $("token").value = sessionStorage.getItem("token") || "";
  $("ask").showModal();
  return new Promise((done) => { $("ask").onclose = () => done($("ask").returnValue === "yes"); });
}
async function change(path, text) {
  if (!await askFor(text)) return;
  sessionStorage.setItem("token", $("token").value);
  const answer = await fetch(path, { method: "POST", headers: { "x-fairlead-token": $("token").value } });
  const told = await answer.text();
  let said = told;
  try { const value = JSON.parse(told); said = value.message || value.error || told; } catch { /* plain text */ }
  $("verdict-advice").textContent = said;
}
for (const tab of document.querySelectorAll("[data-tab]")) {
  tab.onclick = () => {
    for (const other of document.querySelectorAll("[data-tab]")) other.setAttribute("aria-selected", String(other === tab));
    view.tab = tab.dataset.tab;
    view.open = "";
    if (view.frame) drawRows();
  };
}
$("filter").oninput = $("common").onchange = $("pause").onchange = () => { view.open = ""; if (view.frame) drawRows(); };
$("reload").onclick = () => change("/api/reload", "Serve the configuration as it is now?");
$("drain").onclick = () => change("/api/drain", "Finish every request, then stop the server?");
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.get("tab")) document.querySelector(`[data-tab="${CSS.escape(wanted.get("tab"))}"]`)?.click();
if (wanted.get("why")) {
  const first = setInterval(() => {
    const row = document.querySelector(wanted.get("why") === "first" ? ".row" : `.row[data-id="${CSS.escape(wanted.get("why"))}"]`);
    if (row) { clearInterval(first); row.click(); }
  }, 50);
}
$("diagram-card").ontoggle = () => {  // drawn anew each time it is opened: a reload may have changed it
  if ($("diagram-card").open) $("diagram").src = `/diagram.svg?${Date.now()}`;
};
listen();
drawGrpc();
drawTopics();
drawUploads();
