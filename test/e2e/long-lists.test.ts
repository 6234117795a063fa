/**
 * Requests with far longer lists than they may have: they are refused by the field and its bound before they are decoded, by each way in.
 *
 * @module-tag night
 */
import { connect, type IncomingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import type { GrpcDoor } from "../fakes/node.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { startStillNode } from "../fakes/still-node.ts";

let node: NodeProcess;
let grpc: GrpcDoor;

beforeAll(async () => {
  ({ node, grpc } = await startStillNode([]));
});

afterAll(async () => {
  grpc[Symbol.dispose]();
  await node.stop();
});

type Rpc = "Renew" | "KeepAlive" | "Unregister" | "Register" | "CatalogQuery" | "CatalogWatch";

const pathOf = (rpc: Rpc): string => `/waymark.discovery.v1.DiscoveryService/${rpc}`;

/** What gRPC says of the call. */
function askGrpc(rpc: Rpc, bytes: Uint8Array, encoding = "identity"): Promise<string> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${node.grpc}`);
    session.on("error", reject);
    const headers = { "content-type": "application/grpc", te: "trailers", "grpc-encoding": encoding };
    const stream = session.request({ ":method": "POST", ":path": pathOf(rpc), ...headers });
    const seen: IncomingHttpHeaders = {};
    stream.on("response", (got) => Object.assign(seen, got));
    stream.on("trailers", (got: IncomingHttpHeaders) => Object.assign(seen, got));
    stream.on("error", () => {});
    stream.on("close", () => {
      session.destroy();
      resolve(`${String(seen["grpc-status"])} ${decodeURIComponent(String(seen["grpc-message"]))}`);
    });
    stream.resume();
    const frame = framed(encoding === "gzip" ? gzipSync(bytes) : bytes);
    if (encoding === "gzip") frame[0] = 1;
    stream.end(frame);
  });
}

async function askEdge(rpc: Rpc, bytes: Uint8Array, headers: Readonly<Record<string, string>>): Promise<string> {
  const body = new Uint8Array(bytes);
  const response = await fetch(`http://${node.listeners["http"]}${pathOf(rpc)}`, { method: "POST", body, headers });
  return decodeURIComponent((await response.text()) + (response.headers.get("grpc-message") ?? ""));
}

const enveloped = (bytes: Uint8Array): Uint8Array => framed(bytes);

/** The same field again and again: its tag, and a 0, which is also the length of nothing. */
function empties(tag: readonly number[], count: number): Uint8Array {
  const field = [...tag, 0];
  return new Uint8Array(field.length * count).map((_, i) => field[i % field.length] ?? 0);
}

/** The bytes as a message in field 1. */
function inFieldOne(bytes: Uint8Array): Uint8Array {
  const size = bytes.length;
  return Buffer.concat([Buffer.of(0x0a, (size & 127) | 128, ((size >> 7) & 127) | 128, size >> 14), bytes]);
}

const WAYS: Readonly<Record<string, (rpc: Rpc, bytes: Uint8Array) => Promise<string>>> = {
  gRPC: askGrpc,
  "gRPC in gzip": (rpc, bytes) => askGrpc(rpc, bytes, "gzip"),
  Connect: (rpc, bytes) => askEdge(rpc, bytes, { "content-type": "application/proto" }),
  "Connect in gzip": (rpc, bytes) => askEdge(rpc, gzipSync(bytes), { "content-type": "application/proto", "content-encoding": "gzip" }),
  "gRPC-Web": (rpc, bytes) => askEdge(rpc, enveloped(bytes), { "content-type": "application/grpc-web+proto" }),
};

test.each(Object.keys(WAYS))("two million empty reports of a renewal, by %s", async (way) => {
  const said = await WAYS[way]?.("Renew", empties([0x12], 2_000_000));
  expect(said).toContain("reports: has more than 1000 items (limits.max_request_entries)");
});

test.each<{ readonly rpc: Rpc; readonly what: string; readonly bytes: Uint8Array; readonly says: string }>([
  { rpc: "Renew", what: "leases", bytes: empties([0x0a], 2e6), says: "lease_ids: has more than 1000 items (limits.max_request_entries)" },
  { rpc: "Unregister", what: "keys", bytes: empties([0x12], 2e6), says: "keys: has more than 1000 items (limits.max_request_entries)" },
  { rpc: "Register", what: "entries", bytes: empties([0x0a], 2e6), says: "entries: has more than 1000 items (limits.max_request_entries)" },
  {
    rpc: "Register",
    what: "targets of an entry",
    bytes: inFieldOne(empties([0x1a], 1e6)),
    says: "entries[0].targets: has more than 64 items (limits.max_targets)",
  },
  {
    rpc: "Register",
    what: "metadata of an entry",
    bytes: inFieldOne(empties([0x3a], 1e6)),
    says: "entries[0].metadata: has more than 64 items (limits.max_metadata_pairs)",
  },
  { rpc: "CatalogQuery", what: "names", bytes: empties([0x1a], 2e6), says: "names: has more than 1000 items" },
  {
    rpc: "CatalogQuery",
    what: "kinds without a tag each",
    bytes: Buffer.concat([Buffer.of(0x22, 0xc0, 0x84, 0x3d), new Uint8Array(1e6)]),
    says: "kinds: has more than 16 items",
  },
  {
    rpc: "CatalogQuery",
    what: "fields that it has not",
    bytes: empties([0xa0, 0x06], 1e6),
    says: "request: has more than 10000 unknown or repeated fields",
  },
  {
    rpc: "CatalogQuery",
    what: "viewers, of which it has one",
    bytes: empties([0x72], 2e6),
    says: "request: has more than 10000 unknown or repeated fields",
  },
  {
    rpc: "KeepAlive",
    what: "reports on a stream",
    bytes: empties([0x12], 2e6),
    says: "reports: has more than 1000 items (limits.max_request_entries)",
  },
])("two million $what: $rpc", async ({ rpc, bytes, says }) => {
  expect(await askGrpc(rpc, bytes)).toBe(`3 invalid_argument: ${says}`);
});

const TEXT_WAYS: Readonly<Record<string, (rpc: Rpc, text: string) => Promise<string>>> = {
  Connect: (rpc, text) => askEdge(rpc, Buffer.from(text), { "content-type": "application/json" }),
  "Connect in gzip": (rpc, text) => askEdge(rpc, gzipSync(text), { "content-type": "application/json", "content-encoding": "gzip" }),
  "gRPC-Web": (rpc, text) => askEdge(rpc, enveloped(Buffer.from(text)), { "content-type": "application/grpc-web+json" }),
};

const list = (item: string, count: number): string => `[${Array.from({ length: count }, () => item).join(",")}]`;

test.each(Object.keys(TEXT_WAYS))("a list in JSON that is too long by far, by %s", async (way) => {
  const said = await TEXT_WAYS[way]?.("Renew", `{"leaseIds":["a"],"reports":${list("{}", 200_000)}}`);
  expect(said).toContain("reports: has more than 1000 items (limits.max_request_entries)");
  const nested = await TEXT_WAYS[way]?.("Register", `{"entries":[{},{"targets":${list("{}", 200_000)}}]}`);
  expect(nested).toContain("entries[1].targets: has more than 64 items (limits.max_targets)");
});
