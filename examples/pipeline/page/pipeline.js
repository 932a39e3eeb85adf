// Resumable uploads by the IETF draft with fetch alone, and a topic that tells what becomes of them.

const PART = 512 * 1024
const cards = new Map() // by the upload's id
const early = new Map() // what was heard of an upload before its card knew its id
const $ = (id) => document.getElementById(id)
const pause = (ms) => new Promise((done) => setTimeout(done, ms))
const size = (n) => (n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : `${(n / 1e6).toFixed(1)} MB`)

class Card {
  constructor(name, length) {
    this.node = $("file").content.firstElementChild.cloneNode(true)
    this.node.querySelector("h2").textContent = name
    this.node.querySelector(".size").textContent = length === undefined ? "" : size(length)
    $("files").prepend(this.node)
  }

  step(kind, percent, text, state = "") {
    const item = this.node.querySelector(`.${kind}`)
    item.className = `${kind} ${state}`
    const bar = item.querySelector("i")
    if (bar) bar.style.width = `${percent}%`
    item.querySelector("em").textContent = text
  }

  known(id) { // from now on what is heard of this id is shown here
    cards.set(id, this)
    for (const [type, value] of early.get(id) ?? []) heard(type, value)
    early.delete(id)
  }
}

// ---- the upload

async function send(file) {
  const card = new Card(file.name, file.size)
  const memory = `upload ${file.name} ${file.size} ${file.lastModified}`
  let place = localStorage.getItem(memory)
  for (let wait = 200; ; wait = Math.min(5000, wait * 2)) {
    try {
      place ??= await begin(file)
      localStorage.setItem(memory, place)
      card.known(place.split("/").pop())
      if (await goOn(file, place, card, () => { wait = 200 })) break
      place = null // it is gone: begin again
    } catch (error) {
      card.step("up", undefined, `interrupted (${error.message}); trying again`, "away")
      await pause(wait)
    }
  }
  localStorage.removeItem(memory)
}

async function begin(file) {
  const got = await fetch("files", {
    method: "POST",
    headers: {
      "Upload-Complete": "?0", "Upload-Length": file.size, "Content-Type": file.type || "application/octet-stream",
      "Content-Disposition": `inline; filename*=UTF-8''${encodeURIComponent(file.name)}`,
    },
  })
  if (got.status !== 201) throw new Error(`${got.status} ${(await got.json()).title}`)
  return got.headers.get("Location")
}

async function goOn(file, place, card, worked) { // true when it is complete, false when the server knows it no more
  const head = await fetch(place, { method: "HEAD" })
  if (head.status === 404 || head.status === 410) return false
  if (!head.ok) throw new Error(head.status)
  let offset = Number(head.headers.get("Upload-Offset"))
  let complete = head.headers.get("Upload-Complete") === "?1"
  const from = offset
  while (!complete) {
    const end = Math.min(file.size, offset + PART)
    const got = await fetch(place, {
      method: "PATCH",
      headers: { "Content-Type": "application/partial-upload", "Upload-Offset": offset, "Upload-Complete": end === file.size ? "?1" : "?0" },
      body: file.slice(offset, end),
    })
    if (!got.ok) throw new Error(got.status)
    complete = got.headers.get("Upload-Complete") === "?1"
    offset = end
    worked()
    card.step("up", (100 * offset) / (file.size || 1), from ? `${size(offset)}, went on at ${size(from)}` : size(offset))
    if ($("slowly").checked) await pause(400)
  }
  card.step("up", 100, from ? `${size(file.size)}, went on at ${size(from)}` : size(file.size), "done")
  return true
}

// ---- the news

function heard(type, value) {
  const card = cards.get(value.id)
  if (!card) {
    early.set(value.id, [...(early.get(value.id) ?? []), [type, value]])
    return
  }
  if (card.over) return // a job that is done again tells nothing new
  if (type === "uploaded") card.step("press", 0, "queued")
  if (type === "compressing") card.step("press", value.percent ?? 0, `${value.percent ?? 0} %${value.attempt > 1 ? `, attempt ${value.attempt}` : ""}`)
  if (type === "compressed") {
    card.over = true
    card.step("press", 100, `${size(value.before)} → ${size(value.after)} in ${value.seconds} s`, "done")
    card.step("told", undefined, "", "done")
    const link = Object.assign(document.createElement("a"), { href: `made/${value.file}`, download: `${value.name}.gz` })
    link.textContent = `${value.name}.gz`
    card.node.querySelector(".told em").replaceChildren("ready: ", link)
  }
}

const news = new EventSource("news")
news.onopen = () => { $("news").textContent = "news: open"; $("news").className = "pill open" }
news.onerror = () => { $("news").textContent = "news: coming again"; $("news").className = "pill" }
for (const type of ["uploaded", "compressing", "compressed"]) news.addEventListener(type, (event) => heard(type, JSON.parse(event.data)))

// ---- the page

$("choose").onchange = (event) => { for (const file of event.target.files) send(file); event.target.value = "" }
$("drop").ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over") }
$("drop").ondragleave = () => $("drop").classList.remove("over")
$("drop").ondrop = (event) => { event.preventDefault(); $("drop").classList.remove("over"); for (const file of event.dataTransfer.files) send(file) }
$("make").onclick = (event) => { event.preventDefault(); send(made(8)) }

function made(mib) { // text that compresses about as text does
  const words = "every line of a ship is led fairly to where it belongs whatever its angle and none of them chafes".split(" ")
  let text = ""
  while (text.length < 1 << 20) text += `${words[(Math.random() * words.length) | 0]} ${(Math.random() * 1000) | 0} `
  return new File(Array(mib).fill(text), `ship's log ${new Date().toISOString().slice(11, 19)}.txt`, { type: "text/plain" })
}

if (location.hash === "#try") send(made(2)) // for tests and for the impatient
