// The Todo service asked by @grpc/grpc-js, every kind of method.
//
//     npm install && node client.js [127.0.0.1:8000]
"use strict";
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const definition = loader.loadSync(path.join(__dirname, "..", "todo.proto"));
const { Todo } = grpc.loadPackageDefinition(definition).todo.v1;
const todo = new Todo(process.argv[2] || "127.0.0.1:8000", grpc.credentials.createInsecure());

function unary(method, request) {
  return new Promise((resolve, reject) =>
    todo[method](request, { deadline: Date.now() + 5000 }, (error, answer) => (error ? reject(error) : resolve(answer))));
}

function upload(items) {
  return new Promise((resolve, reject) => {
    const call = todo.UploadTodos((error, answer) => (error ? reject(error) : resolve(answer)));
    items.forEach((item) => call.write(item));
    call.end();
  });
}

async function chat(texts) {
  const call = todo.Chat();
  const heard = [];
  call.write({ who: "node", text: texts[0] });
  for await (const note of call) {
    heard.push(note.text);
    if (heard.length < texts.length) call.write({ who: "node", text: texts[heard.length] });
    else call.end();
  }
  return heard;
}

async function main() {
  const made = await unary("CreateTodo", { text: "paint the boat" });
  console.log("made", made.id, made.text);
  console.log("uploaded", (await upload([{ text: "mend the net" }, { text: "coil the lines" }])).count);
  console.log("all", (await unary("ReadTodos", {})).items.map((item) => item.text).join(", "));
  for await (const item of todo.ReadTodosStream({})) console.log("read", item.id, item.text);
  console.log("heard", (await chat(["ahoy", "is anybody there?"])).join(", "));
  await unary("CreateTodo", {}).catch((error) => console.log("refused", grpc.status[error.code], error.details));
  todo.close();
}

main().catch((error) => { console.error(error); process.exit(1); });
