// One job, watched in all the ways there are. Each way has a card and writes into it what it last heard, what that took, and how long
// after the quickest way it heard the same.
const OVER = ["succeeded", "failed", "cancelled"];
const JOBS = new URL("/jobs/reports", location);
const $ = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
let job = "";
let first = new Map(); // what was heard: when somebody first heard it

class Way {
  constructor(id, name, how) {
    const made = $("way").content.firstElementChild.cloneNode(true);
    made.id = id;
    made.style.setProperty("--way", `var(--${id})`);
    made.querySelector("h2").textContent = name;
    made.querySelector(".how").textContent = how;
    $("ways").append(made);
    for (const part of ["state", "requests", "heard", "behind"]) this[part] = made.querySelector("." + part);
    this.bar = made.querySelector("i");
    this.text = made.querySelector("pre");
    this.clear();
  }
  clear() {
    this.asked = this.count = 0;
    this.last = "";
    this.late = [];
    this.requests.textContent = this.heard.textContent = "0";
    this.behind.textContent = "–";
    this.bar.style.width = "0";
  }
  ask() { this.requests.textContent = ++this.asked; }
  hear(row) {
    const now = performance.now(), said = JSON.stringify([row.state, row.attempt, row.progress, row.error]);
    if (said === this.last) return;
    this.last = said;
    this.heard.textContent = ++this.count;
    if (!first.has(said)) first.set(said, now);
    this.late.push(now - first.get(said));
    const sorted = [...this.late].sort((a, b) => a - b);
    this.behind.textContent = `${Math.round(sorted[sorted.length >> 1])} ms`;
    this.state.textContent = row.state;
    this.state.className = "state " + row.state;
    const { page = 0, of = 1 } = row.progress ?? {};
    this.bar.style.width = row.state === "succeeded" ? "100%" : `${(100 * page) / of}%`;
    this.text.textContent = words(row);
    if (this === ways.stream || OVER.includes(row.state)) buttons(row.state);
  }
}

function words(row) {
  if (row.state === "succeeded") return JSON.stringify(row.result);
  if (row.error) return row.error;
  if (row.progress) return `page ${row.progress.page} of ${row.progress.of}, attempt ${row.progress.attempt}`;
  return "";
}

function buttons(state) {
  $("cancel").disabled = OVER.includes(state);
  $("again").disabled = state !== "failed" && state !== "cancelled";
}

const ways = {
  poll: new Way("poll", "Poll", "GET, once a second. It misses what happens between, and most requests find nothing new."),
  long: new Way("long", "Long poll", "GET with Prefer: wait=20 and the last ETag: answered when the job has changed."),
  stream: new Way("stream", "Server-sent events", "GET …/events: one answer that does not end before the job. The browser comes back by itself."),
  socket: new Way("socket", "WebSocket", "The same address, upgraded. Frames as they happen, and the offset to go on from."),
};

async function poll(url) {
  for (let row = {}; !OVER.includes(row.state) && url === job; await wait(1000)) {
    ways.poll.ask();
    row = await (await fetch(url)).json();
    if (url === job) ways.poll.hear(row);
  }
}

async function longPoll(url) {
  for (let row = {}, tag = ""; !OVER.includes(row.state) && url === job;) {
    ways.long.ask();
    const answer = await fetch(url, { headers: { prefer: "wait=20", ...(tag && { "if-none-match": tag }) } });
    if (answer.status === 304 || url !== job) continue;
    row = await answer.json();
    tag = answer.headers.get("etag");
    ways.long.hear(row);
  }
}

function stream(url) {
  ways.stream.ask();
  const source = new EventSource(url + "/events");
  const mine = (event) => (url === job ? ways.stream.hear(JSON.parse(event.data)) : source.close());
  for (const type of ["queued", "running", ...OVER]) source.addEventListener(type, mine);
  source.addEventListener("end", () => source.close());
}

function socket(url) {
  ways.socket.ask();
  const made = new WebSocket(url.replace(/^http/, "ws") + "/events?offset=-1", "fairlead.v1.json");
  made.onmessage = (message) => {
    if (url !== job) return made.close();
    for (const event of JSON.parse(message.data).events ?? []) ways.socket.hear(event.data);
  };
}

function watch(url) {
  job = url;
  first = new Map();
  $("job").textContent = new URL(url).pathname;
  for (const way of Object.values(ways)) way.clear();
  poll(url); longPoll(url); stream(url); socket(url);
}

$("ask").onclick = async () => {
  const body = JSON.stringify({ month: "May", luck: $("jams").checked ? 0.9 : 0.99 });
  const answer = await fetch(JOBS, { method: "POST", headers: { "content-type": "application/json" }, body });
  watch(new URL(answer.headers.get("location"), JOBS).href);
};
$("cancel").onclick = () => fetch(job, { method: "DELETE" });
$("again").onclick = async () => { await fetch(job + "/redrive", { method: "POST" }); watch(job); };
$("slow").onclick = async () => {
  const begun = performance.now(), took = () => `${((performance.now() - begun) / 1000).toFixed(2)} s`;
  $("said").textContent = "asked …";
  const answer = await fetch("slow", { headers: $("async").checked ? { prefer: "respond-async" } : {} });
  if (answer.status !== 202) {
    $("said").textContent = `${answer.status} after ${took()}: ${await answer.text()}`;
    return;
  }
  const quick = took();
  $("said").textContent = `202 after ${quick}: come back to ${answer.headers.get("location")} …`;
  const where = answer.headers.get("location");
  for (let tag = "", state = ""; !OVER.includes(state);) {
    const later = await fetch(where, { headers: { prefer: "wait=20", ...(tag && { "if-none-match": tag }) } });
    if (later.status === 304) continue;
    tag = later.headers.get("etag");
    state = (await later.json()).state;
  }
  const result = await fetch(where + "/result");
  $("said").textContent = `202 after ${quick}, then ${result.status} from ${where}/result after ${took()}: ${await result.text()}`;
};
