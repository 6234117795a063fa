/**
 * A well-behaved client in a process of its own, that calls at a fixed rate: `h2-probe-child.ts PORT PATH PER_SECOND TOKEN BODY`, the
 * body in base64. On each `go` of its parent it calls until `stop`, and then sends how long each call took, in ms from when it was
 * due; a call that failed took a minute.
 */
import { connect, type IncomingHttpHeaders } from "node:http2";
import { endNow } from "../fakes/end-now.ts";

const [port = "", path = "", perSecond = "", token = "", body = ""] = process.argv.slice(2);
const session = connect(`http://127.0.0.1:${port}`);
const headers = {
  ":method": "POST",
  ":path": path,
  "content-type": "application/grpc",
  te: "trailers",
  ...(token !== "" && { "waymark-cluster-token": token }),
};
const bytes = Buffer.from(body, "base64");

let times: number[] = [];
let open = 0;
let began: number | undefined;
let sent = 0;
let isOver = false;

function call(dueMs: number): void {
  const stream = session.request(headers);
  open += 1;
  let isOk = false;
  stream.on("trailers", (trailers: IncomingHttpHeaders) => {
    isOk = trailers["grpc-status"] === "0";
  });
  stream.on("error", () => {}); // Counted as endless at its close.
  stream.on("close", () => {
    open -= 1;
    times.push(isOk ? performance.now() - dueMs : 60_000);
    if (isOver && open === 0) tell();
  });
  stream.resume();
  stream.end(bytes);
}

function tell(): void {
  isOver = false;
  process.send?.(times);
  times = [];
}

setInterval(() => {
  if (began === undefined) return;
  const nowMs = performance.now();
  for (let dueMs = began + (sent * 1_000) / Number(perSecond); dueMs <= nowMs; dueMs = began + (sent * 1_000) / Number(perSecond)) {
    sent += 1;
    call(dueMs);
  }
}, 1);

process.on("message", (order) => {
  sent = 0;
  began = order === "go" ? performance.now() : undefined;
  if (order !== "stop") return;
  isOver = true;
  if (open === 0) tell();
});
process.on("disconnect", endNow);
