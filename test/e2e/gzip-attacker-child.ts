/**
 * A client without credentials that sends gzip messages, each a few kilobytes that become 4 MB: `gzip-attacker-child.ts PORT
 * grpc|edge|health COUNT`; `plain-grpc` and so on sends as many empty ones. Prints JSON: how many were answered OK, refused,
 * or cut off.
 */
import { connect } from "node:http2";
import { gzipSync } from "node:zlib";
import { endNow } from "../fakes/end-now.ts";
import { QUERY } from "./h2-frames.ts";

const [port = "", name = "", count = ""] = process.argv.slice(2);
const isPlain = name.startsWith("plain-");
const kind = name.replace("plain-", "");
const CONNECTIONS = 10;
/** A request of one field that nobody knows, long and easily compressed. */
const PADDING_BYTES = 4_000_000;
const padding = Buffer.from([0xc2, 0x3e, 0x80, 0x92, 0xf4, 0x01]);
const zipped = isPlain ? Buffer.alloc(0) : gzipSync(Buffer.concat([padding, Buffer.alloc(PADDING_BYTES)]));
const prefix = Buffer.from([isPlain ? 0 : 1, 0, 0, 0, 0]);
prefix.writeUInt32BE(zipped.length, 1);

const GRPC = { ":method": "POST", "content-type": "application/grpc", te: "trailers", "grpc-encoding": "gzip" };
const PATHS = { health: `/grpc.health.v1.Health/${isPlain ? "Check" : "Watch"}`, edge: QUERY, grpc: QUERY };
const HEADERS = {
  grpc: { ...GRPC, ":path": QUERY },
  health: { ...GRPC, ":path": PATHS.health },
  edge: { ":method": "POST", ":path": QUERY, "content-type": "application/proto", "content-encoding": "gzip" },
}[kind];
if (HEADERS === undefined) throw new Error(`no attack of kind ${kind}`);
const body = kind === "edge" ? zipped : Buffer.concat([prefix, zipped]);
const counts = { ok: 0, refused: 0, cut: 0 };

function call(session: ReturnType<typeof connect>): Promise<void> {
  return new Promise((resolve) => {
    if (session.destroyed || session.closed) {
      counts.cut += 1;
      resolve();
      return;
    }
    const stream = session.request(HEADERS);
    let status: unknown;
    const take = (headers: Readonly<Record<string, unknown>>) => {
      status = headers["grpc-status"] ?? (kind === "edge" ? headers[":status"] : undefined) ?? status;
    };
    stream.on("response", take);
    stream.on("trailers", take);
    stream.on("error", () => {});
    stream.on("close", () => {
      const isOk = String(status) === (kind === "edge" ? "200" : "0");
      counts[isOk ? "ok" : status === undefined ? "cut" : "refused"] += 1;
      resolve();
    });
    stream.resume();
    stream.end(body);
  });
}

const calls = Array.from({ length: CONNECTIONS }, () => {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  return Array.from({ length: Number(count) / CONNECTIONS }, () => call(session));
});
await Promise.all(calls.flat());
console.log(JSON.stringify(counts));
endNow();
