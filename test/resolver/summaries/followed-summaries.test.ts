/** What a resolver holds of summaries, beside the node that it follows. */
import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ServiceSummarySchema } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { queryPage } from "../../../src/catalog/query/query.ts";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import { heldSources } from "../../../src/discovery/summaries/summary-reads.ts";
import type { Time } from "../../../src/lib/machine.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import {
  CHANNELS,
  type FollowedKeys,
  FollowedSummaries,
  type FollowedSummariesOptions,
  type SummariesOrder,
} from "../../../src/resolver/summaries/followed-summaries.ts";
import { TrustedKeys } from "../../../src/resolver/summaries/trusted-keys.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { KEY_BOUNDS } from "../../../src/signing/cluster-keys.ts";
import { KeyRegistry } from "../../../src/signing/key-registry.ts";
import { sealedOf } from "../../../src/summary/codec.ts";
import { runs } from "../../fakes/effort.ts";
import { rule, set } from "../../fakes/policies.ts";
import { WALL } from "../../fakes/registry.ts";
import { signingKey } from "../../fakes/signing-keys.ts";
import { ANYONE, SummaryWorld } from "../../fakes/summary-readers.ts";

const RESOLVER: Caller = { ...ANYONE, roles: ["mesh.resolve"], address: "127.0.0.1" };
const [SECOND, MINUTE] = [1000, 60_000];
const [TTL, STALE_KEEP] = [2 * MINUTE, 10 * MINUTE];
const SELF = { nodeId: "r", clusterId: "c1", region: "eu" };

/** A message with a delta that puts nothing. */
const NOT_SEALED = Uint8Array.of(0x0a, 2, 0x20, 1);

class Follower {
  readonly followed: FollowedSummaries;
  readonly policies: { policy: Policy } = { policy: NO_POLICY };
  readonly garbled: string[] = [];
  readonly opened: { readonly prefixes: readonly string[]; readonly isAnew: boolean }[] = [];
  node = new SummaryWorld();
  upstream: string | undefined = "a";
  /** Drops the next message with a change, as no server does. */
  loses = false;
  delayMs = 0;
  isOld = false;
  #open: { readonly stream: number; readonly source: StreamSource } | undefined;
  #monoMs = 0;

  constructor(options: Partial<FollowedSummariesOptions> = {}, keys: FollowedKeys = new TrustedKeys()) {
    const bounds = {
      ttlMs: TTL,
      staleKeepMs: STALE_KEEP,
      maxClockSkewMs: 10 * MINUTE,
      pruneIntervalMs: 30 * SECOND,
      maxEntries: 1000,
      maxBytes: 1_000_000,
    };
    const scopes = new Set([CHANNELS.global, CHANNELS.region, CHANNELS.zone]);
    const all = { ...SELF, generation: 1, requireSignatures: false, prefixes: [""], scopes, ...bounds, ...options };
    this.followed = new FollowedSummaries(all, { policies: this.policies, keys });
  }

  get time(): Time {
    return { monoMs: this.#monoMs, wallMs: WALL + this.#monoMs };
  }

  /** The node has heard of a cluster: a beacon came, so long ago. */
  heard(source: string, { version = 1, ageMs = 0, urls = [`grpc://${source}:1`] } = {}): void {
    this.node.beacon(source, { version, ingress: [{ urls, scope: SCOPE.GLOBAL, capabilities: [], tags: [] }] });
    this.node.ages = [...this.node.ages.filter((age) => age.source !== source), { source, version, ageMs }];
  }

  /** Time passes, here and at the node. */
  run(ms = 2 * SECOND): void {
    for (const endMs = this.#monoMs + ms; this.#monoMs < endMs; ) {
      const stepMs = Math.min(SECOND, endMs - this.#monoMs);
      this.#monoMs += stepMs;
      passAt(this.node, stepMs);
      this.#orders((out) => this.followed.use(this.upstream, this.time, out));
      this.#pull();
      for (let slices = 0; slices < 1000 && this.followed.nextDeadlineMs() <= this.#monoMs; slices++) {
        this.followed.work(this.time);
        this.#orders((out) => this.followed.use(this.upstream, this.time, out));
      }
    }
  }

  /** It starts again, of which the servers know nothing. */
  restarted(delayMs: number): Follower {
    this.#close();
    const next = new Follower();
    next.#monoMs = this.#monoMs;
    return Object.assign(next, { node: this.node, upstream: this.upstream, delayMs });
  }

  breaks(retryMs?: number, isRefused = false): void {
    const open = this.#open;
    this.#close();
    if (open !== undefined) this.followed.ended(open.stream, retryMs, isRefused, this.time);
  }

  /** Namespace, name and source of what is shown, with what is said of its age. */
  get shown(): readonly string[] {
    const { replica } = this.followed.held;
    const sources = heldSources(this.followed.held, () => this.time);
    const page = queryPage(replica.lookup, ANY, { limit: 10_000, afterKey: "", self: SELF, allowed: isNoBeacon, explain: false });
    return page.records.map((record) => {
      const { sourceCluster, namespace, serviceId, version } = fromBinary(
        ServiceSummarySchema,
        sealedOf(replica.slab.view(record.at, record.sizeBytes)).signed,
      );
      return `${namespace} ${serviceId} ${sourceCluster} v${version}${sources.isStale(record) ? " stale" : ""}`;
    });
  }

  urlsOf(source: string): readonly string[] {
    return heldSources(this.followed.held, () => this.time)
      .ingressOf(source)
      .flatMap(({ urls }) => urls);
  }

  #pull(): void {
    const open = this.#open;
    if (open === undefined) return;
    const { stream, source } = open;
    for (let bytes = source.pull(this.node.now()); bytes !== undefined; bytes = source.pull(this.node.now())) {
      // Longer messages are those with changes.
      const isLost = this.loses && bytes.length > 300;
      this.loses &&= !isLost;
      const said = this.isOld ? NOT_SEALED : bytes;
      if (!isLost) this.#orders((out) => this.followed.hear(stream, said, this.delayMs, this.time, out));
      if (this.#open !== open) return;
    }
  }

  #orders(act: (out: Parameters<FollowedSummaries["use"]>[2]) => unknown): void {
    const out: Parameters<Parameters<FollowedSummaries["use"]>[2]["push"]>[0][] = [];
    act(out);
    for (const order of out) this.#order(order);
  }

  #order(order: SummariesOrder | { readonly kind: "garbled"; readonly fault: string }): void {
    if (order.kind === "garbled") this.garbled.push(order.fault);
    else if (order.kind === "close summaries") this.#close();
    else {
      const { prefixes, cursor, stream } = order;
      this.opened.push({ prefixes, isAnew: cursor === "" });
      const request = { forResolver: true, namespacePrefixes: [...prefixes], cursor, withDigest: true, bookmarkInterval: { seconds: 1n } };
      const source = this.node.watch(request, RESOLVER);
      source.attach(
        () => {},
        () => {},
      );
      this.#open = { stream, source };
    }
  }

  #close(): void {
    this.#open?.source.close();
    this.#open = undefined;
  }
}

const isNoBeacon = (namespace: string) => namespace !== "discovery.summaries";

/** A resolver that follows two clusters, heard of now and a minute and a half ago. */
function following(options?: Partial<FollowedSummariesOptions>, keys?: FollowedKeys): Follower {
  const follower = new Follower(options, keys);
  follower.node.put({ namespace: "svc.a", serviceId: "web", source: "us-1", version: 5 });
  follower.node.put({ namespace: "svc.b", serviceId: "web", source: "ap-1", version: 5, noStale: true });
  follower.node.put({ namespace: "svc.c", serviceId: "web", source: "us-1", version: 5, channel: SCOPE.REGION });
  follower.heard("us-1");
  follower.heard("ap-1", { ageMs: 90 * SECOND });
  follower.run();
  return follower;
}

const ALL = ["svc.a web us-1 v5", "svc.b web ap-1 v5", "svc.c web us-1 v5"];

test("a resolver holds what its node shows, with the age of each cluster and where it takes calls", () => {
  const follower = following();
  expect(follower.shown).toEqual(ALL);
  expect(follower.urlsOf("us-1")).toEqual(["grpc://us-1:1"]);
  expect(follower.followed.isComplete).toBe(true);
  expect(follower.followed.answer(follower.time)).toMatchObject({ source: "followed", isStale: false, ageMs: 40 });
  follower.node.put({ namespace: "svc.a", serviceId: "web", source: "us-1", version: 6 });
  follower.heard("us-1", { version: 2, urls: ["grpc://other:1"] });
  follower.run();
  expect([follower.shown[0], ...follower.urlsOf("us-1")]).toEqual(["svc.a web us-1 v6", "grpc://other:1"]);
  expect(follower.opened).toEqual([{ prefixes: [""], isAnew: true }]);
});

test("cut off, what is held goes stale and ends by this clock: a minute and a half was the age of one cluster before", () => {
  const follower = following();
  follower.node.put({ namespace: "svc.d", serviceId: "web", source: "us-1", notAfterWallMs: WALL + MINUTE });
  follower.run();
  expect(follower.shown).toHaveLength(4);
  follower.upstream = undefined;
  follower.run(20 * SECOND);
  expect(follower.followed.answer(follower.time)).toMatchObject({ isStale: true });
  expect(follower.shown).toHaveLength(4);
  follower.run(10 * SECOND);
  // Of a rule with windows nothing is shown once its cluster is lost.
  expect(follower.shown).not.toContain(ALL[1]);
  follower.run(30 * SECOND);
  expect(follower.shown).toEqual([ALL[0], ALL[2]]);
  follower.run(TTL);
  expect(follower.shown).toEqual([`${ALL[0]} stale`, `${ALL[2]} stale`]);
  follower.run(STALE_KEEP);
  expect(follower.shown).toEqual([]);
});

test("what a message was held up for counts as age, and what the node has not heard of stays stale", () => {
  const follower = new Follower();
  follower.delayMs = 100 * SECOND;
  follower.node.put({ namespace: "svc.a", serviceId: "web", source: "us-1", version: 5 });
  follower.node.put({ namespace: "svc.b", serviceId: "web", source: "ap-1", version: 5 });
  follower.heard("us-1", { ageMs: 15 * SECOND });
  follower.run();
  expect(follower.shown).toEqual(["svc.a web us-1 v5", "svc.b web ap-1 v5 stale"]);
  expect(follower.followed.answer(follower.time).ageMs).toBeGreaterThanOrEqual(100 * SECOND);
  follower.run(5 * SECOND);
  expect(follower.shown[0]).toBe("svc.a web us-1 v5 stale");
});

test("after a break it goes on from its place, and another upstream does not make a cluster fresh", () => {
  const follower = following();
  follower.breaks();
  follower.node.put({ namespace: "svc.e", serviceId: "web", source: "us-1" });
  follower.run(5 * SECOND);
  expect(follower.shown).toHaveLength(4);
  expect(follower.opened.map(({ isAnew }) => isAnew)).toEqual([true, false]);
  const other = new SummaryWorld({ nodeId: "b" });
  other.put({ namespace: "svc.a", serviceId: "web", source: "us-1", version: 5 });
  other.beacon("us-1", { version: 1 });
  other.ages = [{ source: "us-1", version: 1, ageMs: 10 * MINUTE }];
  [follower.node, follower.upstream] = [other, "b"];
  // It has nothing of what the place names, and waits for it.
  follower.run(3 * SECOND);
  expect(follower.shown).toHaveLength(4);
  follower.run(10 * SECOND);
  expect(follower.shown).toEqual([ALL[0]]);
  expect(follower.opened.map(({ isAnew }) => isAnew)).toEqual([true, false, false, true]);
  follower.run(TTL);
  expect(follower.shown).toEqual([`${ALL[0]} stale`]);
});

test("a watch that breaks now and then is opened again within seconds each time", () => {
  const follower = following();
  for (let n = 0; n < 6; n++) {
    follower.breaks();
    follower.run(4 * SECOND);
    expect(follower.opened).toHaveLength(n + 2);
  }
});

test("a change that was lost shows in the digest, and leads to a snapshot at most once a minute", () => {
  const follower = following();
  for (const serviceId of ["x", "y"]) {
    follower.loses = true;
    follower.node.put({ namespace: "svc.a", serviceId, source: "us-1", version: 5 });
    follower.run(10 * SECOND);
  }
  expect([follower.loses, follower.shown.length, follower.opened.length]).toEqual([false, 4, 2]);
  follower.heard("ap-1", { version: 2 });
  follower.run(MINUTE);
  expect([follower.shown.length, follower.opened.length]).toEqual([5, 3]);
});

test("beyond the bounds nothing is held, it says why, and tries again after a minute", () => {
  const follower = following({ maxEntries: 4 });
  expect([follower.shown, follower.followed.isComplete]).toEqual([[], false]);
  expect(follower.followed.fault).toContain("summary.resolver_namespaces");
  expect(follower.followed.held.replica.lookup.size).toBe(0);
  follower.run(30 * SECOND);
  expect(follower.opened).toHaveLength(1);
  follower.node.hide(keyIn(follower, "svc.c"));
  follower.heard("ap-1", { version: 2 });
  follower.run(MINUTE);
  expect([follower.shown, follower.followed.fault]).toEqual([ALL.slice(0, 2), undefined]);
});

function keyIn({ node }: Follower, namespace: string): KeyText {
  const options = { limit: 1, afterKey: "", self: SELF, allowed: () => true, explain: false };
  const [record] = queryPage(node.replica.lookup, { ...ANY, namespace }, options).records;
  if (record === undefined) throw new Error(`nothing in ${namespace}`);
  return record.key;
}

test.each([
  { what: "channels", options: { scopes: new Set([CHANNELS.global]) }, want: ALL.slice(0, 2), prefixes: [""] },
  {
    what: "namespaces",
    options: { prefixes: ["svc.c", "svc.b"] },
    want: ALL.slice(1),
    prefixes: ["discovery.summaries", "svc.b", "svc.c"],
  },
])("it shows the $what that it is to follow", ({ options, want, prefixes }) => {
  const follower = following(options);
  expect(follower.shown).toEqual(want);
  expect(follower.opened).toEqual([{ prefixes, isAnew: true }]);
  expect(["svc", "svc.b", "svc.b.x", "svc.x", ""].map((name) => follower.followed.follows(name))).toEqual(
    prefixes.length === 1 ? [true, true, true, true, true] : [true, true, true, false, true],
  );
});

test.each([
  { count: 1023, asked: 1024 },
  { count: 1024, asked: 1 },
])("of $count namespaces it asks for $asked prefixes: a watch has 1,024 at most, and with more all is followed", ({ count, asked }) => {
  const follower = new Follower({ prefixes: Array.from({ length: count }, (_, n) => `svc.n${n}`) });
  follower.run();
  expect(follower.opened.map(({ prefixes }) => prefixes.length)).toEqual([asked]);
  expect(follower.followed.follows("elsewhere")).toBe(asked === 1);
});

test("a summary that names no region does not make the place of its cluster unknown", () => {
  const follower = new Follower();
  follower.heard("us-1");
  follower.node.put({ namespace: "svc.a", serviceId: "web", source: "us-1" });
  follower.run();
  follower.node.put({ namespace: "svc.a", serviceId: "jobs", source: "us-1", regions: [] });
  follower.run();
  expect([follower.shown.length, follower.followed.held.regionOf("us-1")]).toEqual([2, "eu"]);
});

test("with keys of its own it shows nothing of which it cannot verify the signature", () => {
  const keys = new KeyRegistry(KEY_BOUNDS);
  keys.configure([{ cluster: "us-1", region: "eu", publicKey: signingKey(1).publicKey.raw }], { wallMs: WALL });
  const follower = following({ requireSignatures: true }, keys);
  expect([follower.shown, follower.urlsOf("us-1")]).toEqual([[], []]);
  // It is held, so a digest that counts it is none that differs.
  follower.run(MINUTE);
  expect(follower.opened).toHaveLength(1);
});

test("when a key of a cluster ceases to count what it signed is hidden, and shown when it counts again", () => {
  const trusted = new TrustedKeys();
  const now = { counts: true, version: 0 };
  const keys: FollowedKeys = {
    note: (content) => trusted.note(content),
    allRegions: () => trusted.allRegions(),
    regionOf: (cluster) => trusted.regionOf(cluster),
    refusal: (cluster) => (cluster === "us-1" && !now.counts ? "unknown_key" : undefined),
    counts: (cluster) => cluster !== "us-1" || now.counts,
    hasKeys: () => true,
    announcements: () => [],
    announce: () => undefined,
    tick: () => undefined,
    version: () => now.version,
    changedSince: () => ["us-1"],
  };
  const follower = following({ requireSignatures: true }, keys);
  expect(follower.shown).toEqual(ALL);
  Object.assign(now, { counts: false, version: 1 });
  follower.run();
  expect(follower.shown).toEqual([ALL[1]]);
  Object.assign(now, { counts: true, version: 2 });
  follower.run();
  expect(follower.shown).toEqual(ALL);
});

test("an owner that its policy names decides what is shown", () => {
  const follower = following();
  follower.policies.policy = new Policy(set([rule("svc.a", { owners: ["eu-9"] })], { defaultAllow: true }), 1);
  follower.run();
  expect(follower.shown).toEqual(ALL.slice(1));
  follower.policies.policy = NO_POLICY;
  follower.run();
  expect(follower.shown).toEqual(ALL);
});

test("an upstream that does not know of resolvers, or refuses, is asked again after a minute; others with growing pauses", () => {
  const follower = new Follower();
  follower.isOld = true;
  follower.run(59 * SECOND);
  expect([follower.garbled.length, follower.opened.length, follower.followed.isComplete]).toEqual([1, 1, false]);
  follower.isOld = false;
  follower.run(5 * SECOND);
  expect([follower.opened.length, follower.followed.isComplete]).toEqual([2, true]);
  follower.breaks(undefined, true);
  follower.run(50 * SECOND);
  expect(follower.opened).toHaveLength(2);
  follower.run(15 * SECOND);
  expect(follower.opened).toHaveLength(3);
  follower.breaks(20 * SECOND);
  follower.run(15 * SECOND);
  expect(follower.opened).toHaveLength(3);
  follower.run(10 * SECOND);
  expect(follower.opened).toHaveLength(4);
});

const NAMES = ["svc.a", "svc.b", "svc.b.x"] as const;
const anyStep = fc.oneof(
  fc.record({
    kind: fc.constant("put" as const),
    name: fc.constantFrom(...NAMES),
    source: fc.constantFrom("us-1", "ap-1"),
    version: fc.integer({ min: 1, max: 9 }),
  }),
  fc.record({ kind: fc.constant("hide" as const), name: fc.constantFrom(...NAMES), isHidden: fc.boolean() }),
  fc.record({ kind: fc.constant("break" as const) }),
  fc.record({ kind: fc.constant("lose" as const) }),
  fc.record({ kind: fc.constant("run" as const), ms: fc.integer({ min: 100, max: 5000 }) }),
);

test("whatever comes, vanishes, breaks or is lost, it shows what its node shows", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 30 }), (steps) => {
      const follower = new Follower();
      const keys = new Map<string, KeyText>();
      const versions = new Map<string, number>();
      for (const step of steps) {
        if (step.kind === "put") {
          const { name: namespace, source } = step;
          const version = (versions.get(namespace + source) ?? 0) + step.version;
          versions.set(namespace + source, version);
          keys.set(namespace, follower.node.put({ namespace, serviceId: "web", source, version }));
        } else if (step.kind === "hide") {
          const key = keys.get(step.name);
          if (key !== undefined) follower.node.hide(key, step.isHidden);
        } else if (step.kind === "break") follower.breaks();
        else if (step.kind === "lose") follower.loses = true;
        else follower.run(step.ms);
      }
      follower.loses = false;
      for (const source of ["us-1", "ap-1"]) follower.heard(source);
      follower.run(2 * MINUTE);
      for (const source of ["us-1", "ap-1"]) follower.heard(source, { version: 2 });
      follower.run(5 * SECOND);
      const { items } = follower.node.query({ limit: 1000 });
      expect(follower.shown).toEqual(items.map((item) => `${item.namespace} ${item.serviceId} ${item.sourceCluster} v${item.version}`));
    }),
    { numRuns: runs(40) },
  );
});

const anyTurn = fc.oneof(
  fc.record({ kind: fc.constant("beacon" as const), source: fc.constantFrom("us-1", "ap-1"), nodes: fc.constantFrom("a", "b", "ab") }),
  fc.record({ kind: fc.constant("follow" as const), node: fc.constantFrom("a", "b", undefined) }),
  fc.record({ kind: fc.constant("start" as const), delayMs: fc.constantFrom(0, 0, 30 * SECOND) }),
  fc.record({ kind: fc.constant("run" as const), ms: fc.integer({ min: 100, max: 80 * SECOND }) }),
);

test("no loss, fail-over, start or delay makes a cluster fresh that was not heard of for its ttl", () => {
  fc.assert(
    fc.property(fc.array(anyTurn, { minLength: 5, maxLength: 40 }), (turns) => {
      let follower = new Follower();
      const nodes: Readonly<Record<string, Heard>> = { a: new Heard("a"), b: new Heard("b") };
      const beacons = new Map<string, { readonly version: number; readonly wallMs: number }>();
      const wallMs = () => follower.time.wallMs;
      for (const turn of turns) {
        if (turn.kind === "beacon") {
          const version = (beacons.get(turn.source)?.version ?? 0) + 1;
          beacons.set(turn.source, { version, wallMs: wallMs() });
          for (const node of turn.nodes) nodes[node]?.hear(turn.source, version);
        } else if (turn.kind === "follow") {
          follower.upstream = turn.node;
          const { world } = nodes[turn.node ?? "a"] ?? {};
          if (world !== undefined) follower.node = world;
        } else if (turn.kind === "start") follower = follower.restarted(turn.delayMs);
        else
          for (let leftMs = turn.ms; leftMs > 0; leftMs -= SECOND) {
            const stepMs = Math.min(SECOND, leftMs);
            for (const { world } of Object.values(nodes)) if (world !== follower.node) passAt(world, stepMs);
            follower.run(stepMs);
          }
        for (const line of follower.shown) {
          const source = line.split(" ")[2] ?? "";
          if (!line.endsWith("stale")) expect(wallMs() - (beacons.get(source)?.wallMs ?? 0)).toBeLessThanOrEqual(TTL);
        }
      }
    }),
    { numRuns: runs(40) },
  );
});

function passAt(world: SummaryWorld, ms: number): void {
  world.pass(ms);
  world.ages = world.ages.map((each) => ({ ...each, ageMs: each.ageMs + ms }));
}

/** A node that holds a summary of each of two clusters, and hears of some of their beacons. */
class Heard {
  readonly world: SummaryWorld;

  constructor(nodeId: string) {
    this.world = new SummaryWorld({ nodeId });
    for (const source of ["us-1", "ap-1"]) this.world.put({ namespace: "svc", serviceId: "web", source, version: 5 });
  }

  hear(source: string, version: number): void {
    this.world.beacon(source, { version });
    this.world.ages = [...this.world.ages.filter((each) => each.source !== source), { source, version, ageMs: 0 }];
  }
}
