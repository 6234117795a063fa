/**
 * A flood in a process of its own, over plain http2 so that it costs little itself: `flood-child.ts ADDRESS TOKEN
 * CALLS_PER_SECOND`. Its parent says `go`, `pause` and, at the end, `stop`: then it waits for the answers and says how many
 * were let through and refused.
 */
import { type ClientHttp2Session, connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { CatalogQueryRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";

const [address = "", token = "", perSecond = "0"] = process.argv.slice(2);
const CONNECTIONS = 4;
const TICK_MS = 5;
const counts = { ok: 0, refused: 0, failed: 0 };
const sessions = Array.from({ length: CONNECTIONS }, () => connect(`http://${address}`));
let open = 0;
let sent = 0;
let isOver = false;

function frame(namespace: string): Buffer {
  const message = toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespace }));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
const frames = Array.from({ length: 1000 }, (_, i) => frame(`svc.n${i}`));

function call(session: ClientHttp2Session, body: Buffer): void {
  const stream = session.request({
    ":method": "POST",
    ":path": "/waymark.discovery.v1.DiscoveryService/CatalogQuery",
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
  });
  open += 1;
  let status: unknown;
  const take = (headers: object): void => {
    status = Reflect.get(headers, "grpc-status") ?? status;
  };
  stream.on("response", take);
  stream.on("trailers", take);
  stream.on("error", () => undefined); // Counted as failed at its close.
  stream.on("close", () => {
    open -= 1;
    if (status === "0") counts.ok += 1;
    else if (status === "8") counts.refused += 1;
    else counts.failed += 1;
    if (isOver && open === 0) finish();
  });
  stream.resume();
  stream.end(body);
}

function finish(): void {
  for (const session of sessions) session.close();
  process.send?.(counts);
  process.disconnect();
}

let began: number | undefined;
const timer = setInterval(() => {
  if (began === undefined) return;
  const due = ((performance.now() - began) * Number(perSecond)) / 1000;
  for (; sent < due; sent++) {
    const [session, body] = [sessions[sent % CONNECTIONS], frames[sent % frames.length]];
    if (session !== undefined && body !== undefined) call(session, body);
  }
}, TICK_MS);

process.on("message", (order) => {
  sent = 0;
  began = order === "go" ? performance.now() : undefined;
  if (order !== "stop") return;
  clearInterval(timer);
  isOver = true;
  if (open === 0) finish();
});
