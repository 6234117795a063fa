/** Requests that are long in coming, from a caller without a credential, on a node that wants one: they are refused before they are held. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const CONNECTIONS = 100;
const CALLS = 20;
/** Announced by each call, and sent but for its last bytes, so that no request is ever whole. */
const ANNOUNCED_BYTES = 4 * 1024 * 1024;
const PART = Buffer.alloc(16_000);
const PARTS = 16;
/** All of them send 500 MiB; a node that held what came in would hold its bound of 256 MiB. */
const GROWTH_MIB = 160;

const HOME = mkdtempSync(join(tmpdir(), "waymark-uploads-"));
const CONFIG = join(HOME, "config.json");
writeFileSync(CONFIG, JSON.stringify({ tenants: { anonymous: "none" } }));

let node: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(["--ephemeral", "--config", CONFIG]);
});
afterAll(async () => {
  await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

function rssMiB(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.command.pid}/status`, "utf8"))?.[1]) / 1_024;
}

/** Begins a call and goes on sending; resolves with its status when its stream is over, though its request is not. */
async function unfinished(session: ClientHttp2Session): Promise<string> {
  const path = "/waymark.discovery.v1.DiscoveryService/Register";
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  let status = "";
  stream.on("response", (headers) => (status = String(headers["grpc-status"])));
  stream.on("error", () => {});
  stream.resume();
  const head = Buffer.alloc(5);
  head.writeUInt32BE(ANNOUNCED_BYTES, 1);
  stream.write(head);
  for (let i = 0; i < PARTS; i++) stream.write(PART);
  await once(stream, "close");
  return status;
}

test("a crowd of unknown callers is told so while it still sends, and is not held in memory", async () => {
  const before = rssMiB();
  const sessions = Array.from({ length: CONNECTIONS }, () => connect(`http://${node.grpc}`).on("error", () => {}));
  try {
    const statuses = await Promise.all(sessions.flatMap((session) => Array.from({ length: CALLS }, () => unfinished(session))));
    expect(new Set(statuses)).toEqual(new Set(["16"]));
    expect(rssMiB() - before).toBeLessThan(GROWTH_MIB);
  } finally {
    for (const session of sessions) session.destroy();
  }
}, 30_000);
