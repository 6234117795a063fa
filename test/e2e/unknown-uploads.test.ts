/**
 * Requests that are long in coming, from a caller without a credential, on a node that wants one: they are refused before they are held.
 * @module-tag path
 */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
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
/**
 * All of them send 500 MiB; a node that held what came in would hold its bound of 256 MiB. What it grows by is what it
 * has read and not yet collected; what a node takes for its first crowd, whatever that sends, is not counted.
 */
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

const [REGISTER, WATCH] = ["Register", "CatalogWatch"].map((method) => `/waymark.discovery.v1.DiscoveryService/${method}`);

/** Begins a call and goes on sending that many parts; resolves with its status when its stream is over, though its request is not. */
async function unfinished(session: ClientHttp2Session, { contentType, path, parts = PARTS }: Upload): Promise<string> {
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": contentType, te: "trailers" });
  let status = "";
  const take = (headers: IncomingHttpHeaders) => (status = String(headers["grpc-status"] ?? (status || headers[":status"])));
  stream.on("response", take);
  stream.on("trailers", take);
  stream.on("error", () => {});
  stream.resume();
  const head = Buffer.alloc(5);
  head.writeUInt32BE(ANNOUNCED_BYTES, 1);
  stream.write(head);
  for (let i = 0; i < parts; i++) stream.write(PART);
  await once(stream, "close");
  return status;
}

interface Upload {
  readonly contentType: string;
  readonly path: string | undefined;
  /** Sent of each call's request; absent: `PARTS`. */
  readonly parts?: number;
}

/** What calls on some connections are told, each status once. */
async function statusesOf(listener: string, upload: Upload, counts: { readonly connections: number; readonly calls: number }) {
  const url = `http://${node.listeners[listener]}`;
  const sessions = Array.from({ length: counts.connections }, () => connect(url).on("error", () => {}));
  try {
    const calls = sessions.flatMap((session) => Array.from({ length: counts.calls }, () => unfinished(session, upload)));
    return new Set(await Promise.all(calls));
  } finally {
    for (const session of sessions) session.destroy();
  }
}

test("a crowd of unknown callers is told so while it still sends, and is not held in memory", async () => {
  const upload = { contentType: "application/grpc", path: REGISTER };
  const crowd = { connections: CONNECTIONS, calls: CALLS };
  expect(await statusesOf("grpc", { ...upload, parts: 0 }, crowd)).toEqual(new Set(["16"]));
  const before = rssMiB();
  expect(await statusesOf("grpc", upload, crowd)).toEqual(new Set(["16"]));
  expect(rssMiB() - before).toBeLessThan(GROWTH_MIB);
}, 30_000);

test("a watch of an unknown caller is refused while its request still comes, too", async () => {
  const upload = { contentType: "application/grpc", path: WATCH };
  expect(await statusesOf("grpc", upload, { connections: 2, calls: 2 })).toEqual(new Set(["16"]));
}, 10_000);

test.each([
  { contentType: "application/grpc", status: "16" },
  { contentType: "application/proto", status: "401" },
  { contentType: "application/json", status: "401" },
])("the HTTP edge answers an unknown caller that still sends $contentType, and ends the stream", async ({ contentType, status }) => {
  expect(await statusesOf("http", { contentType, path: REGISTER }, { connections: 2, calls: 2 })).toEqual(new Set([status]));
});
