"""A page that asks its server in every way, and shows by which protocol each answer came. The rest is h3back's."""

from h3back import app as back

PAGE = b"""<!doctype html><title>h3</title><pre id="said">waiting</pre><script>
const said = {};
const show = () => { document.getElementById("said").textContent = JSON.stringify(said); };
async function all() {
  said.get = await (await fetch("/who")).text();
  said.post = await (await fetch("/digest", {method: "POST", body: new Uint8Array(300000)})).text();
  said.large = (await (await fetch("/large/700000")).arrayBuffer()).byteLength;
  said.many = (await Promise.all([...Array(30).keys()].map(i => fetch("/who?" + i)))).filter(r => r.ok).length;
  said.sse = await new Promise(done => {
    const found = [], source = new EventSource("/sse");
    source.onmessage = event => { found.push(event.data); if (found.length == 3) { source.close(); done(found.join("")); } };
  });
  said.ws = await new Promise(done => {
    const socket = new WebSocket(location.origin.replace("https", "wss") + "/ws");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = event => done(event.data);
    socket.onerror = () => done("error");
  });
  said.protocols = [...new Set(performance.getEntriesByType("resource").map(entry => entry.nextHopProtocol))].join();
  said.page = performance.getEntriesByType("navigation")[0].nextHopProtocol;
}
all().catch(error => { said.error = String(error); }).finally(() => { said.done = true; show(); });
</script>"""


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] in ("/", "/sse"):
        kind = b"text/html" if scope["path"] == "/" else b"text/event-stream"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        body = PAGE if scope["path"] == "/" else b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        await send({"type": "http.response.body", "body": body})
    else:
        await back(scope, receive, send)
