"use strict";
// One job, watched in all the ways there are. Each writes what it last heard into its own line.
const $ = (id) => document.getElementById(id);
const OVER = ["succeeded", "failed", "cancelled"];
let job = "";
const show = (id, row) => { $(id).textContent = `${row.state} ${JSON.stringify(row.progress ?? row.result ?? row.error ?? "")}`; };
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function poll(url) {
  for (let row = {}; !OVER.includes(row.state) && url === job; await wait(1000)) {
    row = await (await fetch(url)).json();
    show("poll", row);
    const over = OVER.includes(row.state);
    $("cancel").disabled = over;
    $("again").disabled = row.state !== "failed" && row.state !== "cancelled";
  }
}
async function longPoll(url) {
  for (let row = {}, tag = ""; !OVER.includes(row.state) && url === job;) {
    const answer = await fetch(url, { headers: { prefer: "wait=20", ...(tag && { "if-none-match": tag }) } });
    if (answer.status !== 304) { row = await answer.json(); tag = answer.headers.get("etag"); show("long", row); }
  }
}
function stream(url) {
  const source = new EventSource(url + "/events");
  for (const type of ["queued", "running", ...OVER]) source.addEventListener(type, (event) => show("stream", JSON.parse(event.data)));
  source.addEventListener("end", () => source.close());
}
function socket(url) {
  const made = new WebSocket(url.replace(/^http/, "ws") + "/events?offset=-1", "fairlead.v1.json");
  made.onmessage = (message) => {
    const frame = JSON.parse(message.data);
    for (const event of frame.events || []) show("socket", event.data);
  };
}
function watch(url) {
  job = url;
  $("job").textContent = url;
  poll(url); longPoll(url); stream(url); socket(url);
}
$("ask").onclick = async () => {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ month: "May" }) };
  const answer = await fetch("/jobs/reports", options);
  watch(new URL(answer.headers.get("location"), location).href);
};
$("cancel").onclick = () => fetch(job, { method: "DELETE" });
$("again").onclick = async () => { await fetch(job + "/redrive", { method: "POST" }); watch(job); };
