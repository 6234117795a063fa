/**
 * A peer on a link that greets, or gives pages of whole transfers, changes, vectors, digests and the policy with any field at the ends of what it can
 * hold, or without it: the node lives, writes the same keys, ends leases, starts again, and gives a newcomer all that it has.
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { afterAll, expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type LinkFrameSchema, LinkRequestSchema, type RecordsFrameSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { type Change, changesOf } from "../fakes/field-ends.ts";
import { startKeptNode } from "../fakes/kept-node.ts";
import { keyOf, registered } from "../fakes/market.ts";
import { GrpcDoor } from "../fakes/node.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { RawLink } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-extreme-frames-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

const NAMESPACE = "svc.market";
/** Without one no policy is taken. */
const TOKEN = "sixteen-letters-and-more";
/** Links open at once. */
const AT_ONCE = 160;

type FrameInit = NonNullable<MessageInitShape<typeof LinkFrameSchema>["frame"]>;
type RecordsInit = Exclude<MessageInitShape<typeof RecordsFrameSchema>, { $typeName: string }>;

interface Who {
  readonly nodeId: string;
  readonly generation: number;
  /** Of the entry it tells of. */
  readonly name: string;
}

function entryBytes({ nodeId, name }: Who, change?: Change): Uint8Array {
  const at = { seconds: 1_700_000_000n, nanos: 0 };
  const entry = create(EntrySchema, {
    key: { kind: 1, namespace: NAMESPACE, name, instanceId: "1", clusterId: "c1" },
    scope: 2,
    clusterId: "c1",
    region: "eu",
    zone: "z1",
    nodeId,
    health: 1,
    registeredAt: at,
    updatedAt: at,
  });
  change?.make(reflect(EntrySchema, entry));
  // A sealed entry ends with its times.
  const { registeredAt, updatedAt } = entry;
  delete entry.registeredAt;
  delete entry.updatedAt;
  const times = create(EntrySchema, { ...(registeredAt !== undefined && { registeredAt }), ...(updatedAt !== undefined && { updatedAt }) });
  return Buffer.concat([toBinary(EntrySchema, entry), toBinary(EntrySchema, times)]);
}

function records(who: Who, more: RecordsInit = {}, entry = entryBytes(who)): FrameInit {
  const origin = { nodeId: who.nodeId, generation: BigInt(who.generation) };
  const numbers = { seq: 5n, hlc: BigInt(Date.now()) * 2048n, reach: 2, filterSeq: 1n, firstSeq: 1n } as const;
  const record = { ...numbers, body: { case: "entry", value: entry } } as const;
  return { case: "records", value: { origin, through: 10n, clusterId: "c1", region: "eu", records: [record], ...more } };
}

/** What is changed, by the name of its frame; a whole transfer is a second time the records. */
const SAMPLES: Readonly<Record<string, (who: Who) => FrameInit>> = {
  hello: ({ nodeId, generation }) => ({
    case: "hello",
    value: {
      origin: { nodeId, generation: BigInt(generation) },
      clusterId: "c1",
      region: "eu",
      zone: "z1",
      address: "127.0.0.1:9",
      version: "0.1.0",
      protocolVersions: [2],
      ready: true,
      clusterToken: TOKEN,
    },
  }),
  vector: ({ nodeId, generation }) => ({
    case: "vector",
    value: { entries: [{ origin: { nodeId, generation: BigInt(generation) }, seq: 3n }], partial: true },
  }),
  records,
  goodbye: () => ({ case: "goodbye", value: { reason: "restart", detail: "" } }),
  linked: ({ nodeId }) => ({ case: "linked", value: { nodeIds: [nodeId] } }),
  digests: ({ nodeId, generation }) => ({
    case: "digests",
    value: { origins: [{ origin: { nodeId, generation: BigInt(generation) }, through: 3n, liveCount: 1n, digest: 7n }] },
  }),
  policy: ({ nodeId }) => ({
    case: "policy",
    value: { head: { number: 1n, hlc: 2048n, nodeId, checksum: "a".repeat(64) }, part: new Uint8Array(8), sizeBytes: 8n },
  }),
  summaries: ({ nodeId, generation }) => ({
    case: "summaries",
    value: {
      space: { case: "vector", value: { entries: [{ origin: { nodeId, generation: BigInt(generation) }, seq: 3n }], partial: true } },
    },
  }),
  source_ages: () => ({ case: "sourceAges", value: { sources: [{ sourceCluster: "c2", version: 7n, ageMs: 5n }] } }),
  border: () => ({ case: "border", value: { border: { case: "digest", value: { digest: 7n, count: 1 } } } }),
  hand_over: () => ({ case: "handOver", value: { seqs: [1n] } }),
};

const whole = (who: Who) => records(who, { complete: true });

function bytesOf(frame: FrameInit, change?: Change): Uint8Array {
  const message = fromBinary(LinkRequestSchema, toBinary(LinkRequestSchema, create(LinkRequestSchema, { frame: { frame } })));
  change?.make(reflect(LinkRequestSchema, message));
  return toBinary(LinkRequestSchema, message);
}

interface Case {
  readonly what: string;
  /** What follows the greeting; the greeting itself where that is changed. */
  readonly frames: (who: Who) => readonly Uint8Array[];
}

function cases(): readonly Case[] {
  const frames = changesOf(LinkRequestSchema, "Link", "all").flatMap((change): readonly Case[] => {
    const { what } = change;
    const kind = /^Link\.frame\.(\w+)/.exec(what)?.[1] ?? "vector";
    const sample = SAMPLES[kind];
    if (sample === undefined) throw new Error(`no sample of ${what}`);
    const alone = { what, frames: (who: Who) => [bytesOf(sample(who), change)] };
    if (kind !== "records") return [alone];
    // The first page of a whole transfer, and then the last.
    const first = (who: Who) => [bytesOf(whole(who), change), bytesOf(records(who, { complete: true, last: true, records: [] }))];
    const last = (who: Who) => [bytesOf(whole(who)), bytesOf(records(who, { complete: true, last: true }), change)];
    return [alone, { what: `${what}, first page`, frames: first }, { what: `${what}, last page`, frames: last }];
  });
  const entries = changesOf(EntrySchema, "Entry", "all").map((change) => ({
    what: change.what,
    frames: (who: Who) => [bytesOf(records(who, {}, entryBytes(who, change)))],
  }));
  return [...frames, ...entries];
}

function start(nodeId: string, ...more: readonly string[]): Promise<NodeProcess> {
  const token = join(data, "token");
  writeFileSync(token, TOKEN, { mode: 0o600 });
  const config = join(data, "config.json");
  writeFileSync(config, JSON.stringify({ fabric: { cluster_token_file: token, max_links: AT_ONCE / 2, snapshot_interval: "1s" } }));
  return startKeptNode(data, nodeId, "--config", config, ...more);
}

/** Names of what that node registered. */
async function names(door: GrpcDoor, nodeId: string): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (let pageToken = ""; ; ) {
    const { response } = await door.ask("catalogQuery", { namespace: NAMESPACE, limit: 1000, ...(pageToken !== "" && { pageToken }) });
    const items = (response["items"] ?? []) as { readonly key: { readonly name: string }; readonly nodeId: string }[];
    for (const item of items) if (item.nodeId === nodeId) found.add(item.key.name);
    if (typeof response["nextPageToken"] !== "string" || response["nextPageToken"] === "") return found;
    pageToken = response["nextPageToken"];
  }
}

async function say(address: string, all: readonly Case[], from: number): Promise<void> {
  const links = all.map(({ what, frames }, n) => {
    const who = { nodeId: `evil${from + n}`, generation: 7 + from + n, name: `f${from + n}` };
    const [first, ...rest] = frames(who);
    const isGreeting = what.startsWith("Link.frame.hello") && first !== undefined;
    const link = new RawLink(address, who.nodeId, who.generation, isGreeting ? first : { clusterToken: TOKEN });
    for (const bytes of isGreeting ? rest : frames(who)) link.sayBytes(bytes);
    return link;
  });
  await Promise.all(links.map((link) => link.end()));
  for (const link of links) link[Symbol.dispose]();
}

test("every field of every frame and entry at its ends, then a write of the same key, the end of a lease, a restart, and a newcomer", async () => {
  const all = cases();
  const kept = new Set<string>();
  {
    await using node = await start("a");
    using door = new GrpcDoor(node.grpc);
    for (let from = 0; from < all.length; from += AT_ONCE) {
      const some = all.slice(from, from + AT_ONCE);
      await say(node.listeners["fabric"] ?? "", some, from);
      if (!node.command.isRunning) throw new Error(`${some[0]?.what} to ${some.at(-1)?.what}: ${node.command.stderr.slice(-1_000)}`);
      await Promise.all(
        some.map(async ({ what }, n) => {
          const { code, reason, message } = await door.ask("register", { entries: [{ key: keyOf(`f${from + n}`) }], staticLease: true });
          // Only the last stamps there are make a key that nobody writes again.
          if (code !== "OK") expect(`${what}: ${code} ${reason} ${message}`).toMatch(/\.(hlc|unregistered_hlc) \d+.*clock_skew/);
          else kept.add(`f${from + n}`);
        }),
      );
    }
    await registered(door, "short", { ttl: "1s" });
    await until("the lease ends", async () => !(await names(door, "a")).has("short"));
    expect([...(await names(door, "a"))].toSorted()).toEqual([...kept].toSorted());
    const toldMs = Date.now();
    await until("what it was told is in its snapshot", () => statSync(join(data, "a", "replica.snapshot")).mtimeMs > toldMs);
    await node.stop("SIGKILL");
  }
  await using node = await start("a");
  using door = new GrpcDoor(node.grpc);
  expect([...(await names(door, "a"))].toSorted()).toEqual([...kept].toSorted());
  await using newcomer = await start("n", "--join", node.listeners["fabric"] ?? "");
  using newcomerDoor = new GrpcDoor(newcomer.grpc);
  await registered(newcomerDoor, "theirs", { staticLease: true });
  await until("the newcomer has everything", async () => (await names(newcomerDoor, "a")).size === kept.size);
  await until("and it is heard", async () => (await names(door, "n")).has("theirs"));
});
