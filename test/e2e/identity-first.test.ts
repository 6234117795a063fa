/** Requests of callers without access are not decompressed or decoded, in any protocol. */
import { gzipSync } from "node:zlib";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CatalogQueryRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import type { Inflater } from "../../src/grpc/wire/message-reader.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { RawClient, startDemoEdge } from "../fakes/edge.ts";

const QUERY = "/waymark.discovery.v1.DiscoveryService/CatalogQuery";
const WATCH = "/waymark.discovery.v1.DiscoveryService/CatalogWatch";
const REQUEST = create(CatalogQueryRequestSchema, { namespace: "refuse" });
const JSON_BYTES = Buffer.from(toJsonString(CatalogQueryRequestSchema, REQUEST));
const BYTES = toBinary(CatalogQueryRequestSchema, REQUEST);
const packed = (bytes: Uint8Array) => framed(gzipSync(bytes), true);

const WAYS: readonly {
  readonly way: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array;
}[] = [
  {
    way: "Connect in JSON",
    path: QUERY,
    headers: { "content-type": "application/json", "content-encoding": "gzip" },
    body: gzipSync(JSON_BYTES),
  },
  {
    way: "Connect in protobuf",
    path: QUERY,
    headers: { "content-type": "application/proto", "content-encoding": "gzip" },
    body: gzipSync(BYTES),
  },
  {
    way: "a stream of Connect",
    path: WATCH,
    headers: { "content-type": "application/connect+json", "connect-content-encoding": "gzip" },
    body: packed(JSON_BYTES),
  },
  { way: "gRPC-Web", path: QUERY, headers: { "content-type": "application/grpc-web+proto", "grpc-encoding": "gzip" }, body: packed(BYTES) },
  {
    way: "a GET",
    path: `${QUERY}?connect=v1&encoding=json&compression=gzip&base64=1&message=${gzipSync(JSON_BYTES).toString("base64url")}`,
  },
];

/** Counts decompressed requests. */
class CountingInflater implements Inflater {
  count = 0;
  readonly #inner = new SharedInflater();

  inflate(...of: Parameters<Inflater["inflate"]>): ReturnType<Inflater["inflate"]> {
    this.count += 1;
    return this.#inner.inflate(...of);
  }
}

const known = anonymousCaller("local", "127.0.0.1");
const unknown = () => {
  throw new WaymarkError("unauthenticated", "the token is wrong");
};

test.each(WAYS)("$way: a request is decompressed only for a caller with access", async ({ path, headers, body }) => {
  const inflated: number[] = [];
  const ports = [
    { identify: () => known },
    { identify: unknown },
    { identify: () => Promise.resolve().then(unknown) },
    { identify: () => known, anonymous: "none" as const },
    {
      identify: () => known,
      limit: () => {
        throw new WaymarkError("discovery_rate_limited", "too many calls");
      },
    },
  ];
  for (const each of ports) {
    const inflater = new CountingInflater();
    await using served = await startDemoEdge({ ports: each, listener: { inflater } });
    const response = await fetch(served.base + path, body === undefined ? {} : { method: "POST", ...(headers && { headers }), body });
    await response.arrayBuffer();
    expect(served.on.observed).toHaveLength(1);
    inflated.push(inflater.count);
  }
  expect(inflated).toEqual([1, 0, 0, 0, 0]);
});

test("a long request of a caller without access is refused before its body has arrived", async () => {
  await using served = await startDemoEdge({ ports: { identify: unknown } });
  await using raw = new RawClient(served.edge);
  raw.send(`POST ${QUERY} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 57000\r\n\r\n{`);
  await raw.says("HTTP/1.1 401");
  expect(raw.text).toContain("the token is wrong");
});
