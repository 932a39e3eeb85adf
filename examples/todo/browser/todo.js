// A gRPC-Web client without any library: frames over fetch, and the few bytes of protobuf that Todo needs.

const encode = new TextEncoder(), decode = new TextDecoder();

// ---- protobuf: Item { int32 id = 1; string text = 2; }

function varint(value) {
  const out = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return [...out, value];
}

function itemOf(text) {
  const bytes = encode.encode(text);
  return bytes.length ? new Uint8Array([0x12, ...varint(bytes.length), ...bytes]) : new Uint8Array();
}

function toItem(bytes) {
  const item = { id: 0, text: "" };
  let at = 0;
  const number = () => {
    let value = 0, scale = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte & 128);
    return value;
  };
  while (at < bytes.length) {
    const key = number();
    if (key === 0x08) item.id = number();
    else if (key === 0x12) { const size = number(); item.text = decode.decode(bytes.subarray(at, at += size)); }
    else throw new Error(`field ${key >> 3} is not known here`);
  }
  return item;
}

// ---- gRPC-Web: a byte, a length, a message; 0x80 in the first byte for the trailers

function framed(message) {
  const out = new Uint8Array(5 + message.length);
  new DataView(out.buffer).setUint32(1, message.length);
  out.set(message, 5);
  return out;
}

function check(trailers) {
  const code = Number(trailers["grpc-status"] ?? 2);
  if (code) throw Object.assign(new Error(decodeURIComponent(trailers["grpc-message"] ?? "")), { code });
}

async function* call(url, message) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" },
    body: framed(message),
  });
  if (!answer.ok) throw Object.assign(new Error(answer.statusText), { code: 14 });
  const reader = answer.body.getReader();
  let held = new Uint8Array(), trailers = null;
  for (;;) {
    while (held.length >= 5) {
      const size = new DataView(held.buffer, held.byteOffset).getUint32(1);
      if (held.length < 5 + size) break;
      const body = held.subarray(5, 5 + size), flag = held[0];
      held = held.slice(5 + size);
      if (flag & 0x80) {
        trailers = Object.fromEntries(decode.decode(body).split("\r\n").filter(Boolean).map((line) => line.split(": ", 2)));
      } else yield body;
    }
    const { value, done } = await reader.read();
    if (done) break;
    const more = new Uint8Array(held.length + value.length);
    more.set(held);
    more.set(value, held.length);
    held = more;
  }
  check(trailers ?? Object.fromEntries(answer.headers));
}

export class Todo {
  constructor(base) { this.base = `${base}/todo.v1.Todo/`; }

  async createTodo(text) {
    for await (const one of call(this.base + "CreateTodo", itemOf(text))) return toItem(one);
  }

  async* readTodosStream() {
    for await (const one of call(this.base + "ReadTodosStream", new Uint8Array())) yield toItem(one);
  }
}
