"use strict";
// Jobs on the page: queues, what runs, attempts in vain, dead letters, schedules. The tools and the dialogue are page.js's.
// Asked for every three seconds while the page is seen; not there while no process of the server has a store.

const jobs = { parts: {}, card: make("section", "card") };
function jobsPart(name, title) {
  const head = make("div", "head"), note = make("span", "note"), scroll = make("div", "scroll"), rows = make("table");
  head.append(make(name === "kinds" ? "h2" : "h3", "", title), note);
  scroll.append(rows);
  const part = make("div");
  part.id = "jobs-" + name;
  part.append(head, scroll);
  jobs.card.append(part);
  jobs.parts[name] = { part, note, rows };
}
function jobsTable(name, heads, rows, note) {
  const part = jobs.parts[name];
  part.part.hidden = !rows.length;
  part.note.textContent = note || "";
  table(part.rows, heads, rows);
}
function jobsButton(text, question, path) {
  const td = make("td"), button = make("button", "", text);
  button.onclick = () => change(path, question).then(drawJobs);
  td.append(button);
  return td;
}
const jobsPath = (what, kind, id) => `/api/jobs/${what}?kind=${encodeURIComponent(kind)}&id=${encodeURIComponent(id || "")}`;
const jobsBad = (n) => n ? make("td", "bad-text", count(n)) : "0";
const jobsClock = (at) => new Date(at * 1000).toLocaleString();
function jobsAgo(at, now) { return at ? age(Math.max(0, now - at)) : "–"; }
function jobsLimits(kind) {
  const found = [];
  if (kind.concurrency) found.push(`${kind.concurrency} at once`);
  if (kind.rate) found.push(`${kind.rate}/s`);
  return found.join(", ") || "–";
}
async function drawJobs() {
  const answer = await fetch("/api/jobs").catch(() => null);
  const said = answer && answer.ok ? await answer.json() : { kinds: [] };
  jobs.card.hidden = !said.kinds.length;
  if (jobs.card.hidden) return;
  const now = said.now, dead = said.kinds.flatMap((kind) => kind.letters.map((one) => ({ kind: kind.kind, ...one })));
  jobsTable("kinds", ["kind", "ready", "delayed", "running", "waits for", "dead", "done", "failed", "places", "limits", ""],
    said.kinds.map((one) => [named(one.kind), count(one.ready), count(one.delayed), count(one.leased), jobsAgo(one.oldest, now),
      jobsBad(one.dead), count(one.done), jobsBad(one.failed), count(one.slots), jobsLimits(one),
      one.dead ? jobsButton("Redrive all", `Run all ${one.dead} dead letters of ${one.kind} again?`, jobsPath("redrive", one.kind)) : ""]),
    `${count(said.workers)} processes work${said.silent ? `, ${said.silent} are silent` : ""}`);
  jobsTable("running", ["kind", "job", "attempt", "for", "progress", "worker", ""], said.running.map((one) => [named(one.kind),
    named(one.id), String(one.attempt), jobsAgo(one.started, now), named(one.progress === null ? "" : JSON.stringify(one.progress)),
    named(one.worker), one.cancelling ? "cancelling" : jobsButton("Cancel", `Cancel job ${one.id} of ${one.kind}?`, jobsPath("cancel", one.kind, one.id))]));
  jobsTable("tried", ["kind", "job", "attempt", "why", "ago", "again in"], said.tried.map((one) => [named(one.kind), named(one.id),
    String(one.attempt), named(one.error, "bad-text"), jobsAgo(one.at, now), one.due > now ? age(one.due - now) : one.due ? "now" : "never"]));
  jobsTable("dead", ["kind", "job", "attempts", "why", "ago", ""], dead.map((one) => [named(one.kind), named(one.id), String(one.attempts),
    named(one.reason, "bad-text"), jobsAgo(one.at, now), jobsButton("Redrive", `Run job ${one.id} of ${one.kind} again?`, jobsPath("redrive", one.kind, one.id))]));
  jobsTable("cron", ["kind", "expression", "time zone", "next", "in"], said.cron.map((one) => [named(one.kind), one.cron, one.zone,
    jobsClock(one.next), age(Math.max(0, one.next - now))]));
}
async function keepJobs() {
  if (!document.hidden) await drawJobs();
  setTimeout(keepJobs, 3000);
}
jobs.card.id = "jobs-card";
jobs.card.hidden = true;
jobsPart("kinds", "Jobs");
jobsPart("running", "Running");
jobsPart("tried", "Attempts in vain, of late");
jobsPart("dead", "Dead letters");
jobsPart("cron", "Schedules");
document.querySelector("main").append(jobs.card);
keepJobs();
