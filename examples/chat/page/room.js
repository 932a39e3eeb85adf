// One room (a topic), joined four times: by WebSocket, EventSource, long poll and poll. Nothing but what browsers have; a page that just
// wants the messages takes $client.js of the topic's route instead.

const room = new URLSearchParams(location.search).get("room") || "lobby";
const url = new URL(`${location.pathname.startsWith("/chat/") ? "/rooms" : "rooms"}/${encodeURIComponent(room)}`, location.href);
const at = (query) => `${url}?${new URLSearchParams(query)}`;
const now = () => performance.timeOrigin + performance.now();
const sleep = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); done(); });
});
const span = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

// ---- the four ways: each runs until its signal says stop, and goes on after `this.offset`

const ways = {
  websocket: {
    title: "WebSocket",
    how: "One connection, both directions: the server writes a frame when there is something, and this page could say things on it too.",
    run(way, signal) {
      return new Promise((done) => {
        const socket = new WebSocket(at({ offset: way.offset }).replace("http", "ws"), "fairlead.v1.json");
        way.asked();
        socket.onopen = () => way.state("open");
        socket.onmessage = ({ data }) => way.take(JSON.parse(data));
        socket.onclose = done;
        signal.addEventListener("abort", () => { socket.onclose = null; socket.close(); done(); });
      });
    },
  },
  sse: {
    title: "Server-sent events",
    how: "One request whose answer does not end. The browser itself comes back after a loss and says the last id that it has.",
    run(way, signal) {
      return new Promise((done) => {
        const source = new EventSource(at({ offset: way.offset, form: "frames" }));
        way.asked();
        source.onopen = () => way.state("open");
        source.onmessage = ({ data }) => way.take(JSON.parse(data));
        source.onerror = () => {
          way.state("away");
          if (source.readyState === EventSource.CLOSED) done();
          else way.asked();
        };
        signal.addEventListener("abort", () => { source.close(); done(); });
      });
    },
  },
  long: {
    title: "Long poll",
    how: "A request that the server answers when there is something, or after 25 s with nothing; then the next one. Works through anything.",
    async run(way, signal) {
      while (!signal.aborted) {
        way.asked();
        way.state("open");
        const answer = await fetch(at({ offset: way.offset, form: "frames" }), { headers: { prefer: "wait=25" }, cache: "no-store", signal });
        if (answer.status === 200) way.take(await answer.json());
        else if (answer.status !== 204) throw new Error(answer.status);
      }
    },
  },
  poll: {
    title: "Poll",
    how: "A request now and then. A message waits for the next one: half the interval on average, and most answers are empty.",
    async run(way, signal) {
      while (!signal.aborted) {
        way.asked();
        const answer = await fetch(at({ offset: way.offset, form: "frames" }), { cache: "no-store", signal });
        if (answer.status !== 200) throw new Error(answer.status);
        way.state("open");
        way.take(await answer.json());
        await sleep(way.every * 1000, signal);
      }
    },
  },
};

class Way {
  constructor(name, { title, how, run }) {
    this.name = name;
    this.run = run;
    this.offset = "-1";
    this.times = [];
    this.requests = 0;
    this.every = 2;
    this.began = now();
    const part = document.getElementById("way").content.cloneNode(true);
    this.card = part.querySelector("article");
    this.card.id = name;
    this.card.style.setProperty("--way", `var(--${name})`);
    this.find("h2").textContent = title;
    this.find(".how").textContent = how;
    this.find(".out").onclick = () => this.stepOut();
    if (name === "poll") this.slider();
    document.getElementById("ways").append(part);
    this.join();
  }

  find(selector) {
    return this.card.querySelector(selector);
  }

  slider() {
    this.find("label").hidden = false;
    this.find("input").oninput = ({ target }) => {
      this.every = Number(target.value);
      this.find("output").textContent = `${target.value} s`;
    };
  }

  async join() {
    this.away = new AbortController();
    const { signal } = this.away;
    for (let tries = 0; !signal.aborted; tries++) {
      const before = this.requests;
      try {
        await this.run(this, signal);
      } catch (error) {
        if (signal.aborted) return;
      }
      if (signal.aborted) return;
      if (this.requests > before + 1) tries = 0;
      this.state("away");
      await sleep(Math.min(5000, 250 * 2 ** tries) * (0.5 + Math.random() / 2), signal);
    }
  }

  async stepOut() {
    const button = this.find(".out");
    button.disabled = true;
    this.away.abort();
    this.state("away", "stepped out");
    await sleep(5000);
    button.disabled = false;
    this.join();
  }

  asked() {
    this.find(".requests").textContent = ++this.requests;
  }

  state(word, text = word === "open" ? "listening" : "coming back") {
    const place = this.find(".state");
    place.className = `state ${word}`;
    place.textContent = text;
  }

  // A frame, the same by every way: {next, events: [{o, data, at}], gap}
  take(frame) {
    for (const { o, data, at: when } of frame.events ?? []) {
      this.offset = o;
      this.show(data, when);
    }
    if (frame.next && !frame.gap) this.offset = frame.next;
    if (frame.gap) this.offset = frame.gap.earliest ?? frame.gap.next;
  }

  show(data, when) {
    const sent = Number(data?.sent) || when * 1000;
    const took = Math.max(0, now() - sent);
    const old = sent < this.began;
    const line = document.createElement("li");
    line.className = old ? "old" : took > 1000 ? "new late" : "new";
    const text = document.createElement("p");
    const name = document.createElement("b");
    name.textContent = data?.name ?? "somebody";
    text.append(name, ` ${data?.text ?? JSON.stringify(data)}`);
    const time = document.createElement("time");
    time.textContent = old ? new Date(sent).toTimeString().slice(0, 5) : span(took);
    line.append(text, time);
    const list = this.find("ol");
    list.prepend(line);
    while (list.children.length > 200) list.lastChild.remove();
    if (!old) this.count(took);
  }

  count(took) {
    this.times = [...this.times.slice(-99), took];
    const sorted = [...this.times].sort((a, b) => a - b);
    const median = sorted[sorted.length >> 1];
    this.find(".median").textContent = span(median);
    this.find(".slowest").textContent = span(sorted.at(-1));
    // a logarithmic bar: 1 ms is nothing, 10 s is all of it
    this.find(".bar i").style.width = `${Math.min(100, Math.max(2, Math.log10(Math.max(1, median)) * 25))}%`;
  }
}

// ---- saying something

const NAMES = ["Ada", "Grace", "Edsger", "Barbara", "Donald", "Radia"];
const WORDS = ["who has the keys?", "the ferry leaves at nine", "tea is ready", "rain again", "look at the tide", "pass me the line",
  "all fast forward", "the lamp is lit", "nobody at the helm", "fair wind tonight"];
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const field = (id) => document.getElementById(id);

async function say(name, text) {
  const body = JSON.stringify([{ name, text, sent: now() }]);
  const dedupe = [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
  for (let tries = 0; tries < 8; tries++) {
    try {
      const headers = { "content-type": "application/json", "fairlead-dedupe": dedupe };  // said again, it counts once
      const answer = await fetch(url, { method: "POST", headers, body });
      if (answer.ok || answer.status < 500) return;
    } catch { /* the server is away: once more */ }
    await sleep(250 * 2 ** tries);
  }
}

field("where").textContent = url.pathname;
field("name").value = sessionStorage.name ?? pick(NAMES);
field("name").onchange = () => { sessionStorage.name = field("name").value; };
field("say").onsubmit = (event) => {
  event.preventDefault();
  if (field("text").value.trim()) say(field("name").value || "somebody", field("text").value);
  field("text").value = "";
};
let talking = null;
field("talk").onclick = () => {
  const on = talking === null;
  field("talk").setAttribute("aria-pressed", on);
  if (!on) clearInterval(talking);
  talking = on ? setInterval(() => say(pick(NAMES), pick(WORDS)), 700) : null;
};
for (const [name, way] of Object.entries(ways)) new Way(name, way);
