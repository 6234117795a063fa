/**
 * Clients of the gRPC listener that do not read their answers: what all their connections hold is bounded in bytes.
 * @module-tag path
 */
import { once } from "node:events";
import { type ClientHttp2Stream, connect, type IncomingHttpHeaders } from "node:http2";
import { connect as connectTcp } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogQueryRequestSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";
import { QUERY } from "./h2-frames.ts";

const CONNECTIONS = 250;
const BUDGET_BYTES = 128 * 1024 * 1024;

/** A CatalogQuery on a connection of its own. With `isUnread`, the window of its stream is 0. */
function query(node: NodeProcess, localAddress: string, isUnread: boolean): ClientHttp2Stream {
  const [host = "", port = ""] = node.grpc.split(":");
  const session = connect(`http://${node.grpc}`, {
    createConnection: () => connectTcp({ host, port: Number(port), localAddress }),
    settings: { enablePush: false, ...(isUnread && { initialWindowSize: 0 }) },
  });
  session.on("error", () => {});
  const message = toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespace: "svc.market", limit: 1000 }));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const stream = session.request({ ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => {});
  stream.on("close", () => session.destroy());
  stream.end(Buffer.concat([head, message]));
  return stream;
}

async function cutCount(node: NodeProcess): Promise<number> {
  const text = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  return Number(/^waymark_connections_refused_total\{listener="grpc",reason="unread_answer"\} (\d+)$/m.exec(text)?.[1] ?? 0);
}

async function sizeOf(stream: ClientHttp2Stream): Promise<number> {
  let sizeBytes = 0;
  for await (const chunk of stream) sizeBytes += (chunk as Buffer).length;
  return sizeBytes;
}

test("unread answers of 250 connections stay within their budget, and a client that reads slowly gets its whole answer", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const client = createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
  const entries = Array.from({ length: 900 }, (_, i) => ({
    key: { namespace: "svc.market", name: "web", kind: EntryKind.SERVICE, instanceId: `i${i}` },
    targets: [{ host: `10.1.${i >> 8}.${i & 255}`, port: 80 }],
    metadata: { padding: "p".repeat(830) },
  }));
  await client.register({ entries, staticLease: true });
  const answerBytes = await sizeOf(query(node, "127.0.0.1", false));
  expect(answerBytes).toBeGreaterThan(0.7 * 1024 * 1024);
  const heldCount = Math.floor(BUDGET_BYTES / answerBytes);
  expect(heldCount).toBeLessThan(CONNECTIONS - 50);

  const reader = query(node, "127.0.0.1", false);
  await once(reader, "response");
  reader.pause();
  const unread = Array.from({ length: CONNECTIONS }, () => query(node, "127.0.0.9", true));
  let closedCount = 0;
  for (const stream of unread) stream.once("close", () => closedCount++);
  await Promise.all(unread.map((stream) => Promise.race([once(stream, "response"), once(stream, "close")])));
  await until("the answers over the budget are cut", () => closedCount >= CONNECTIONS - heldCount, 30_000);
  // The reader holds a part of the budget.
  expect([CONNECTIONS - heldCount, CONNECTIONS - heldCount + 1]).toContain(await cutCount(node));
  let status: unknown;
  reader.once("trailers", (trailers: IncomingHttpHeaders) => {
    status = trailers["grpc-status"];
  });
  // The answer has the age of the data, so that its size is not always the same.
  expect([Math.abs((await sizeOf(reader)) - answerBytes) < 100, status]).toEqual([true, "0"]);
  for (const stream of unread) stream.destroy();
});
