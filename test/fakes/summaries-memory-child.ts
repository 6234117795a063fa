/**
 * What a summary takes at a node that holds it, in a process with nothing else: `node --expose-gc test/fakes/summaries-memory-child.ts COUNT LINKS`. With
 * border links the summaries come over one of them and go out on the others. It prints the bytes that live after a collection, for each summary, and the size of one.
 */
import { setTimeout } from "node:timers/promises";
import { BorderChannel } from "../../src/fabric/borders/channel.ts";
import { BORDER_FIXED } from "../../src/fabric/borders/options.ts";
import type { BorderSession } from "../../src/fabric/borders/session.ts";
import type { BorderFrame } from "../../src/fabric/wire/messages.ts";
import { encodeSummary } from "../../src/summary/codec.ts";
import type { Sealed } from "../../src/summary/summary.ts";
import { helloOf } from "./fabric-values.ts";
import { facts, type HeldNode, HeldWorld, MINUTE, START_MS, sealedBeacon, signerOf } from "./held-world.ts";

const [count = 0, links = 0] = process.argv.slice(2).map(Number);
/** As many as a source may have. */
const OF_SOURCE = 20_000;
/** As many as a link may bring, and a node judges, in the time of one step. */
const AT_ONCE = 25;
const STEP_MS = 25;
const BEACON_MS = 20_000;
const WARM_UP = 3000;
/** Less than this is no longer given back. */
const SETTLED_BYTES = 20_000;

/** What it prints. */
export interface SummaryMemory {
  readonly held: number;
  readonly bytesPerSummary: number;
  readonly signedBytes: number;
}

const world = new HeldWorld();
const sources = Array.from({ length: Math.ceil(count / OF_SOURCE) }, (_, s) => `eu-west-${s + 1}`);
for (const source of sources) world.keys.add(source, source);

function sealedOf(i: number): Sealed {
  const source = sources[Math.floor(i / OF_SOURCE)] ?? "";
  const team = `svc.team-${i % 50}.prod`;
  const said = {
    ...facts(`checkout-${i}`, { source, endpointCount: 1 + (i % 300), policyVersion: "2026-11", policyNumber: 12, policyRule: team }),
    namespace: team,
  };
  const made = {
    version: START_MS / 1000 + i,
    exporter: `${source}-a`,
    keyId: `key-of-${source}`,
    ttlMs: 120_000,
    generatedWallMs: START_MS,
  };
  const signed = encodeSummary({ ...said, ...made, tag: ((BigInt(i) + 1n) * 0x9e37_79b9_7f4a_7c15n) & 0xffff_ffff_ffff_ffffn });
  return { signed, signature: signerOf(made.keyId).sign("waymark.summary.v1", signed), hops: 0 };
}

function beaconsAt(nowMs: number): readonly Sealed[] {
  return sources.map((source) => {
    const made = { version: 1 + START_MS / 1000 + Math.floor(nowMs / 1000), exporter: `${source}-a`, keyId: `key-of-${source}` };
    const unsigned = sealedBeacon({ source, region: source, ...made, ttlMs: 120_000, generatedWallMs: START_MS + nowMs });
    return { ...unsigned, signature: signerOf(made.keyId).sign("waymark.beacon.v1", unsigned.signed) };
  });
}

/** A node, and how what others say comes to it. */
interface Measured {
  readonly node: HeldNode;
  readonly take: (summaries: readonly Sealed[], beacons: readonly Sealed[]) => void;
}

function withoutBorders(node: HeldNode): Measured {
  const take = (summaries: readonly Sealed[], beacons: readonly Sealed[]) => {
    for (const seal of beacons) node.held.takeBeacon(seal, { cluster: "relay", region: "far" }, node.time, 0);
    for (const seal of summaries) node.held.take(seal, { cluster: "relay", region: "far" }, node.time);
  };
  return { node, take };
}

function withBorders(node: HeldNode): Measured {
  const channel = new BorderChannel(
    { ...BORDER_FIXED, storeForwardMs: 300_000, storeForwardCount: 200 },
    {
      here: { nodeId: "a1", clusterId: "c1", region: "c1" },
      summaries: node.held,
      priorityOf: () => 0,
      linkedRegions: () => new Set(sessions.map((_, link) => `far-${link}`)),
      borderExports: () => new Map(),
      reaches: { reachRevision: 0, reachTo: () => [] },
    },
  );
  const sessions: BorderSession[] = [];
  for (let link = 0; link < links; link++) sessions.push(openLink(channel, link, node));
  const say = (session: BorderSession | undefined, frame: BorderFrame) => session?.receive(frame, node.time, []);
  for (const session of sessions) say(session, { kind: "borderRules", exports: [], directSources: [], reach: [] });
  const take = (summaries: readonly Sealed[], beacons: readonly Sealed[]) => {
    say(sessions[0], { kind: "borderBatch", summaries, beacons, keys: [], beaconAgesMs: beacons.map(() => 0) });
    // The other sides compare what they hold now and then, so that sums of it are kept.
    if (beacons.length > 0)
      for (const session of sessions) say(session, { kind: "borderDigest", digest: 0n, count: 0, isAnswer: false, buckets: [] });
    channel.shared.tick(node.time);
    for (const session of sessions) {
      session.tick(node.time);
      for (let n = 0; n < 100 && session.hasWork(node.time); n++) if (session.next(node.time) === undefined) break;
    }
    channel.shared.looked?.(node.time);
  };
  return { node, take };
}

function openLink(channel: BorderChannel, link: number, { time }: HeldNode): BorderSession {
  const [nodeId, clusterId, region] = [`far${link}a`, `far${link}`, `far-${link}`];
  const trust = { kind: "authority" as const };
  const border = { clusterId, region, addresses: [], trust, imports: [], exports: [], batchIntervalMs: 200, bytesPerSecond: 0 };
  const peer = { link, clusterId, region, nodeId, isIncoming: false, border };
  const greeted = { hello: helloOf(nodeId, { clusterId, region }), relation: "remote" as const, greetedMonoMs: time.monoMs, border: peer };
  return channel.open(link, greeted, time);
}

async function liveBytes(): Promise<number> {
  // Memory of buffers is given back after a collection, in a later turn.
  for (let least = Number.POSITIVE_INFINITY, n = 0; ; n++) {
    global.gc?.();
    await setTimeout(20);
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    const bytes = heapUsed + arrayBuffers;
    if (n >= 5 && (bytes > least - SETTLED_BYTES || n === 50)) return bytes;
    least = Math.min(least, bytes);
  }
}

/** A node that holds so many summaries, of which none is young any more. */
function filled(wanted: number): HeldNode {
  world.nowMs = 0;
  const { node, take } = (links > 0 ? withBorders : withoutBorders)(world.node({ nodeId: "a1" }));
  let beaconMs = 0;
  const step = (summaries: readonly Sealed[]) => {
    const isBeaconDue = world.nowMs >= beaconMs;
    if (isBeaconDue) beaconMs = world.nowMs + BEACON_MS;
    take(summaries, isBeaconDue ? beaconsAt(world.nowMs) : []);
    node.settle();
    world.nowMs += STEP_MS;
  };
  for (let i = 0; i < wanted; i += AT_ONCE) step(Array.from({ length: Math.min(AT_ONCE, wanted - i) }, (_, k) => sealedOf(i + k)));
  for (let ms = 0; ms < 2 * MINUTE; ms += STEP_MS) step([]);
  return node;
}

// The code is compiled by then.
filled(WARM_UP);
const before = await liveBytes();
const node = filled(count);
const bytesPerSummary = Math.round(((await liveBytes()) - before) / count);
const held = node.held.sources(node.time).reduce((sum, { summaries }) => sum + summaries, 0);
if (held !== count) throw new Error(`the node holds ${held} of ${count} summaries`);
console.log(JSON.stringify({ held, bytesPerSummary, signedBytes: sealedOf(count - 1).signed.length } satisfies SummaryMemory));
