/**
 * What DNS questions make a node keep, by whoever asks: bounded in bytes.
 * @module-tag night
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { queryBytes } from "../fakes/dns-text.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

const INSTANCES = 1000;
const ALIASES = 3200;
/** So many plans of a thousand records would take a gigabyte. */
const SMALL_HEAP = ["env", "NODE_OPTIONS=--max-old-space-size=144"];

test("a client that asks for each alias of a name with a thousand instances does not fill a small heap", async () => {
  await using node = await startNodeProcess(["--ephemeral"], SMALL_HEAP);
  const client = createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
  const aliases = (i: number) => Array.from({ length: i < ALIASES / 64 ? 64 : 0 }, (_, k) => `x${i * 64 + k}.al.market`);
  const entries = Array.from({ length: INSTANCES }, (_, i) => ({
    key: { namespace: "svc.market", name: "web", kind: EntryKind.SERVICE, instanceId: `i${i}` },
    targets: [{ host: `10.1.${i >> 8}.${i & 255}`, port: 80 }],
    aliases: aliases(i),
  }));
  await client.register({ entries, staticLease: true });
  const socket = createSocket("udp4");
  try {
    const port = Number((node.listeners["dns"] ?? "").split(":")[1]);
    for (let i = 0; i < ALIASES; i++) {
      const answered = once(socket, "message", { signal: AbortSignal.timeout(10_000) });
      socket.send(queryBytes({ name: `x${i}.al.market.waymark`, type: "A", bufsize: 1232 }), port, "127.0.0.1");
      const [answer] = (await answered) as [Buffer];
      expect(answer.readUInt16BE(6)).toBeGreaterThan(60);
    }
  } finally {
    socket.close();
  }
  const text = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  const metric = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1]);
  expect(metric("dns_plans_bytes")).toBeGreaterThan(32 * 1024 * 1024);
  expect(metric("dns_plans_bytes")).toBeLessThanOrEqual(64 * 1024 * 1024);
  expect(metric("dns_plans_dropped_total")).toBeGreaterThan(400);
}, 60_000);
