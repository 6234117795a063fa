/**
 * A name with ten thousand instances: every healthy one has its chance, by Resolve and by DNS, and none that is not healthy.
 * @module-tag night
 */
import { once } from "node:events";
import { connect } from "node:net";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { EntryKind, HealthStatus } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService, ResolvePolicy } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { queryBytes, sectionLines } from "../fakes/dns-text.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const COUNT = 10_000;
const NAMED = { namespace: "svc.market", name: "web" };
const clientOf = (node: NodeProcess) => createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
const addressOf = (i: number) => `10.1.${Math.floor(i / 100)}.${i % 100}`;
/** One in five is critical, and all of the first thousand. */
const isHealthy = (i: number) => i >= 1000 && i % 5 !== 0;

async function registerAll(node: NodeProcess): Promise<void> {
  const client = clientOf(node);
  for (let from = 0; from < COUNT; from += 1000) {
    const entries = Array.from({ length: 1000 }, (_, n) => {
      const i = from + n;
      const key = { ...NAMED, kind: EntryKind.SERVICE, instanceId: `i${String(i).padStart(5, "0")}` };
      return { key, targets: [{ host: addressOf(i), port: 80 }], health: isHealthy(i) ? HealthStatus.HEALTHY : HealthStatus.CRITICAL };
    });
    await client.register({ entries, staticLease: true });
  }
}

/** Addresses in one answer over TCP. */
async function addressesByDns(node: NodeProcess, asked: number): Promise<readonly string[]> {
  const [host = "", port = ""] = (node.listeners["dns"] ?? "").split(":");
  const socket = connect(Number(port), host);
  try {
    const query = queryBytes({ name: "web.svc.market.waymark", type: "A", id: asked });
    socket.write(Buffer.concat([Buffer.from([0, query.length]), query]));
    let bytes = Buffer.alloc(0);
    while (bytes.length < 2 || bytes.length < 2 + bytes.readUInt16BE(0)) {
      const [chunk] = (await once(socket, "data", { signal: AbortSignal.timeout(30_000) })) as [Buffer];
      bytes = Buffer.concat([bytes, chunk]);
    }
    return sectionLines(bytes.subarray(2), "answer").map((line) => line.split(" ").at(-1) ?? "");
  } finally {
    socket.destroy();
  }
}

test("each healthy instance of 10,000 has its chance by every policy and by DNS", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  await registerAll(node);
  const client = clientOf(node);
  const healthy = new Set(
    Array.from({ length: COUNT }, (_, i) => i)
      .filter(isHealthy)
      .map(addressOf),
  );
  for (const policy of [ResolvePolicy.RANDOM, ResolvePolicy.ROUND_ROBIN, ResolvePolicy.LOAD_AWARE]) {
    const first = new Map<string, number>();
    const seen = new Set<string>();
    for (let i = 0; i < 400; i++) {
      const { entry, alternatives } = await client.resolve({ ...NAMED, policy, limit: 100 });
      const chosen = entry?.targets[0]?.host ?? "";
      first.set(chosen, (first.get(chosen) ?? 0) + 1);
      for (const each of [entry, ...alternatives]) seen.add(each?.targets[0]?.host ?? "");
    }
    expect([...seen].filter((host) => !healthy.has(host))).toEqual([]);
    // 40,400 draws of 7,200: by chance some 30 are never drawn. In turn, the alternatives of one choice overlap with those of the next ones.
    // With planted faults it is at most 900 (all answers have one sample) and some 800 (no turn goes on).
    const least = policy === ResolvePolicy.RANDOM ? 6500 : 2000;
    expect({ policy, isWide: seen.size > least, isEven: Math.max(...first.values()) <= 6 && first.size > 250 }).toEqual({
      policy,
      isWide: true,
      isEven: true,
    });
  }
  const byHash = async (hashKey: string) =>
    (await client.resolve({ ...NAMED, policy: ResolvePolicy.HASH, hashKey })).entry?.key?.instanceId ?? "";
  const users = Array.from({ length: 50 }, (_, i) => `user-${i}`);
  const found = await Promise.all(users.map(byHash));
  expect(new Set(found).size).toBeGreaterThan(45);
  await client.unregister({ keys: [{ ...NAMED, kind: EntryKind.SERVICE, instanceId: found[0] ?? "" }] });
  const again = await Promise.all(users.map(byHash));
  expect(again.filter((each, i) => each !== found[i]).length).toBeLessThanOrEqual(2);

  const byDns = new Set<string>();
  // An answer has the healthy ones of one sample of ten; each sample is used for 16 answers.
  for (let i = 0; i < 800; i++) for (const address of await addressesByDns(node, i)) byDns.add(address);
  expect([...byDns].filter((address) => !healthy.has(address))).toEqual([]);
  expect(byDns.size).toBeGreaterThan(7000);
});
