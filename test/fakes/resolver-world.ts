/** A resolver between servers that are up or down, quick or slow, on virtual time. */

import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { WatchPolicyResponseSchema } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { LoadView } from "../../src/catalog/entry/view.ts";
import type { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { ANY } from "../../src/catalog/query/filter.ts";
import type { InstanceName, QueriedName } from "../../src/catalog/query/instances.ts";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { queryPage } from "../../src/catalog/query/query.ts";
import type { Slab } from "../../src/catalog/record/slab.ts";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import type { UnreachableNodes } from "../../src/catalog/unreachable-nodes.ts";
import { parseCursor } from "../../src/catalog/watch/cursor.ts";
import { WatchFeed } from "../../src/catalog/watch/feed.ts";
import { WatchReader } from "../../src/catalog/watch/reader.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { openResolverRooms, type ResolverRooms } from "../../src/node/resolver/resolver-rooms.ts";
import type { RestoredCopy } from "../../src/resolver/disk/restore.ts";
import type { AnswerQuality, LookupOptions, ResolverInput, ResolverOptions, ResolverOrder } from "../../src/resolver/io-types.ts";
import type { ResolverMachine } from "../../src/resolver/machine.ts";
import type { CacheOperation } from "../../src/resolver/maintenance/cache-operations.ts";
import { type FollowedSummariesOptions } from "../../src/resolver/summaries/followed-summaries.ts";
import { TrustedKeys } from "../../src/resolver/summaries/trusted-keys.ts";
import type { UpstreamFacts } from "../../src/resolver/upstreams.ts";
import type { WatchRefusal } from "../../src/resolver/watching/prefix-refusals.ts";
import { replicaAge } from "../../src/services/discovery/answer-age.ts";
import { DiscoveryBytes } from "../../src/services/discovery/response-bytes.ts";
import type { StreamSource } from "../../src/services/service.ts";
import { coreProcess } from "./core-process.ts";
import { FabricComponent } from "./mesh.ts";
import { lineOf } from "./model.ts";
import type { Version } from "./policy-versions.ts";
import { ANYONE, type SummaryWorld } from "./summary-readers.ts";

const STEP_MS = 100;
const MESSAGE_BYTES = 2000;
const MANY = 1_000_000;

/** A node that resolvers read, and how it behaves. */
export class Server {
  readonly node: FabricComponent;
  latencyMs = 5;
  isUp = true;
  /** Whether it has not caught up since its start, so that it answers probes and refuses what resolvers ask for. */
  isBehind = false;
  /** Whether it refuses what resolvers ask for because it has too much to do. */
  isBusy = false;
  /** Whether other servers hear nothing of what it stores. */
  isAlone = false;
  /** Whether its watches say nothing, though they stand and it answers probes. */
  isSilent = false;
  ageMs = 20;
  unreachable: UnreachableNodes | undefined;
  facts: UpstreamFacts = { clusterId: "c1", region: "r1", via: [] };
  versions: readonly Version[] = [];
  /** The newest reports about its entries. */
  readonly loads = new Map<string, LoadView>();
  policyEpoch = "none";
  /** Changes what it sends on watches. */
  garble: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes;
  garbleFetched: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes;
  garblePolicy: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes;
  /** Prefixes of which its watches do not tell: those that name one of them are refused. */
  refused: readonly string[] = [];
  /** Whether it refuses watches that go on from a place. */
  refusesPlaces = false;
  /** How it refuses them. */
  refusal: WatchRefusal = "prefix";
  /** Ends the watches that are open, once. */
  breaks = false;
  /** The summaries that it holds; undefined of a server that holds none. */
  summaries: SummaryWorld | undefined;
  watchCount = 0;
  policyCount = 0;
  snapshotCount = 0;
  fetchCount = 0;
  #answers: { readonly slab: Slab; readonly bytes: DiscoveryBytes } | undefined;

  constructor(id: string) {
    this.node = new FabricComponent(id);
  }

  /** Writes its answers. The room for that is 256 KiB, and is made once for each replica that it has. */
  get answers(): DiscoveryBytes {
    const { slab } = this.node.replica;
    if (this.#answers?.slab !== slab) this.#answers = { slab, bytes: new DiscoveryBytes(slab, { of: (key) => this.loads.get(key) }) };
    return this.#answers.bytes;
  }
}

interface Watch {
  readonly server: Server;
  readonly feed: WatchFeed;
}

interface Restart {
  readonly downMs?: number;
  readonly clockMs?: number;
  readonly options?: Partial<ResolverOptions>;
  /** Whether what was restored already follows the policy that was. */
  readonly isSwitched?: boolean;
}

export class ResolverWorld {
  readonly servers: Readonly<Record<string, Server>>;
  rooms: ResolverRooms;
  readonly #resolver: ResolverOptions;
  readonly garbled: string[] = [];
  readonly refused: string[] = [];
  /** Reason, upstream, prefixes, and how often. */
  readonly resynced: string[] = [];
  readonly #watches = new Map<number, Watch>();
  /** Whether it reads what servers said while it stood still. */
  delayMs = 0;
  readonly #policies = new Map<number, Server>();
  readonly #summaries = new Map<number, { readonly server: Server; readonly source: StreamSource }>();
  readonly #later: ResolverInput[] = [];
  #monoMs = 0;
  #wallMs = 1_000_000_000;

  readonly #followed: FollowedSummariesOptions | undefined;

  constructor(names: readonly string[], options: Partial<ResolverOptions> = {}, followed?: FollowedSummariesOptions) {
    this.#followed = followed;
    this.servers = Object.fromEntries(names.map((name) => [name, new Server(name)]));
    const random = new Rng(1);
    this.#resolver = {
      name: "me",
      clusterId: "c1",
      region: "r1",
      upstreams: names,
      namespaces: ["svc"],
      maxWatches: 256,
      maxEntries: 10_000,
      maxBytes: 100_000_000,
      ttls: { zoneMs: 15_000, regionMs: 30_000, globalMs: 60_000, negativeMs: 15_000 },
      maxStaleMs: 3_600_000,
      guardHoldMs: 300_000,
      pruneIntervalMs: 30_000,
      seedOnStart: true,
      resyncIntervalMs: 300_000,
      random: () => random.next(),
      ...options,
    };
    this.rooms = this.#begun(this.#resolver);
  }

  #begun(resolver: ResolverOptions): ResolverRooms {
    const process = coreProcess({
      now: () => this.now,
      catalog: { tombstoneTtlMs: 60_000, minTombstones: 100 },
      zones: ["waymark."],
    });
    const summaries = this.#followed && { options: this.#followed, keys: new TrustedKeys(), onAgain: () => {} };
    return openResolverRooms({ ...process, nodeId: "me", generation: 1, resolver, summaries }, this.now);
  }

  /** The copy for the disk. `between` runs between two blocks. */
  copy(between: () => void = () => {}): Uint8Array {
    const blocks: Uint8Array[] = [];
    for (const block of this.machine.copy(() => this.now)) {
      blocks.push(block);
      between();
    }
    return Uint8Array.from(Buffer.concat(blocks));
  }

  /** Stops it, and starts it again after this time with a copy. The wall clock may be set meanwhile. Returns what became of the copy. */
  restart(copy: Uint8Array, { downMs = 0, clockMs = 0, options = {}, isSwitched = true }: Restart = {}): RestoredCopy {
    this.#watches.clear();
    this.#policies.clear();
    this.#summaries.clear();
    this.#later.length = 0;
    this.#monoMs += downMs;
    this.#wallMs += clockMs;
    this.rooms = this.#begun({ ...this.#resolver, ...options });
    const restoring = this.machine.restore(copy, this.now);
    for (;;) {
      const step = restoring.next();
      if (step.done !== true) continue;
      if (isSwitched) this.#switch();
      return step.value;
    }
  }

  get machine(): ResolverMachine {
    return this.rooms.machine;
  }

  get replica(): Replica {
    return this.rooms.replica;
  }

  get now(): Time {
    return { monoMs: this.#monoMs, wallMs: this.#wallMs + this.#monoMs };
  }

  server(name: string): Server {
    return this.servers[name] ?? assert.fail(name);
  }

  /** Puts an entry at a server, which tells the others. */
  put(name: string, key: string, variant = 0): void {
    const { node } = this.server(name);
    node.put(key as never, variant, this.now);
    this.#share(node);
  }

  end(name: string, key: string, body: 1 | 2): void {
    const { node } = this.server(name);
    node.end(key as never, body, this.now);
    this.#share(node);
  }

  endAgain(name: string, key: string): void {
    const { node } = this.server(name);
    node.endAgain(key as never, this.now);
    this.#share(node);
  }

  #share(node: FabricComponent): void {
    node.commit(this.now);
    if (Object.values(this.servers).some((server) => server.node === node && server.isAlone)) return;
    for (const other of Object.values(this.servers)) if (other.node !== node) other.node.copy(node, node.replica.self.id, this.now);
  }

  /** Lets time pass. What servers say arrives at once, and a probe after its latency. */
  run(ms: number, stepMs = STEP_MS): void {
    for (const endMs = this.#monoMs + ms; this.#monoMs < endMs; ) {
      this.#monoMs += stepMs;
      this.#do({ kind: "tick" });
      while (this.#later.length > 0) this.#do(this.#later.shift()!);
      for (const [stream, watch] of this.#watches.entries().toArray()) this.#deliver(stream, watch);
      for (const { summaries } of Object.values(this.servers)) summaries?.pass(stepMs);
      for (const [stream, { server, source }] of this.#summaries.entries().toArray()) this.#tell(stream, server, source);
    }
  }

  /** An operator acts on the cache. What he is told, once he is: a number of entries, or the reason of a refusal. */
  act(act: CacheOperation, ...namespaces: readonly string[]): (number | string)[] {
    const told: (number | string)[] = [];
    this.#do({
      kind: "act",
      act,
      namespaces,
      onOutcome: (outcome) => told.push("error" in outcome ? outcome.error.reason : outcome.entryCount),
    });
    return told;
  }

  /** What it shows the servers has changed. */
  changeCredentials(): void {
    this.#do({ kind: "credentials changed" });
  }

  /** Asks for a name. What it says at once: where it comes from, whether it is stale, and the instances. */
  ask(name: InstanceName): string {
    const out: ResolverOrder[] = [];
    let waited = "waits";
    const told = (outcome: object): void => {
      waited = "error" in outcome ? "failed" : "told";
    };
    let answer;
    try {
      answer = this.machine.ask(name, told, this.now, out);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return error.reason;
    }
    const { length } = this.instances(name);
    this.#carryOut(out);
    while (this.#later.length > 0) this.#do(this.#later.shift()!);
    return answer === undefined ? waited : `${answer.source}${answer.isStale ? " stale" : ""} ${length}`;
  }

  /** As the shell asks for a name. What is fetched for it arrives when time passes. */
  readonly port = (name: QueriedName, asked: LookupOptions, told: (error: WaymarkError | undefined) => void): AnswerQuality | undefined => {
    const out: ResolverOrder[] = [];
    const answer = this.machine.ask(name, (outcome) => told("error" in outcome ? outcome.error : undefined), this.now, out, asked);
    this.#carryOut(out);
    return answer;
  };

  instances(name: InstanceName): readonly string[] {
    const filter = { ...ANY, namespace: name.namespace, names: [name.name], kindMask: 1 << name.kind };
    return this.machine.lookupsOf(name.namespace).flatMap((lookup) => linesOf(lookup, filter));
  }

  #deliver(stream: number, { server, feed }: Watch): void {
    if (!server.isUp || server.breaks) {
      server.breaks = false;
      this.#watches.delete(stream);
      this.#do({ kind: "watch ended", stream });
      return;
    }
    for (let n = 0; n < 1000 && !server.isSilent && this.#watches.has(stream); n++) {
      const message = feed.next(this.now, MESSAGE_BYTES, true);
      if (message === undefined) return;
      const { facts, policyEpoch, node, loads } = server;
      const resolved = { policyEpoch, via: facts.via };
      const options = {
        isNamesOnly: false,
        sentWallMs: 0,
        servedBy: node.nodeId,
        age: replicaAge(server.ageMs, server.unreachable),
        resolved,
      };
      const bytes = new DiscoveryBytes(node.replica.slab, { of: (key) => loads.get(key) }).watch(message, options);
      this.#do({ kind: "watch said", stream, bytes: server.garble(bytes), delayMs: this.delayMs });
    }
  }

  #tell(stream: number, server: Server, source: StreamSource): void {
    if (!server.isUp) {
      this.#summaries.delete(stream);
      return this.#do({ kind: "summaries ended", stream });
    }
    while (this.#summaries.has(stream)) {
      const bytes = source.pull(server.summaries?.now() ?? this.now);
      if (bytes === undefined) return;
      this.#do({ kind: "summaries said", stream, bytes, delayMs: this.delayMs });
    }
  }

  #openSummaries({ stream, upstream, prefixes, cursor }: ResolverOrder & { kind: "open summaries" }): void {
    const server = this.server(upstream);
    if (server.summaries === undefined || !server.isUp) return void this.#later.push({ kind: "summaries ended", stream });
    const request = { forResolver: true, namespacePrefixes: [...prefixes], cursor, withDigest: true };
    const source = server.summaries.watch(request, { ...ANYONE, roles: ["mesh.resolve"], address: "127.0.0.1" });
    source.attach(
      () => {},
      () => {},
    );
    this.#summaries.set(stream, { server, source });
  }

  #do(input: ResolverInput): void {
    const out: ResolverOrder[] = [];
    if (this.rooms.inputs.handle(input, this.now, out)) this.#switch();
    this.#carryOut(out);
  }

  /** Another policy is in force. */
  #switch(): void {
    const { switches } = this.rooms;
    switches.look();
    while (switches.isRunning) {
      switches.step(MANY, this.now);
      // Readers of summaries follow with the next inputs.
      if (switches.isWaiting) this.rooms.summaries?.show(this.now);
    }
    this.rooms.show();
  }

  #carryOut(out: readonly ResolverOrder[]): void {
    for (const order of out) this.#order(order);
  }

  #order(order: ResolverOrder): void {
    switch (order.kind) {
      case "probe": {
        const { upstream } = order;
        const { isUp, latencyMs, facts } = this.server(upstream);
        this.#later.push(isUp ? { kind: "probed", upstream, latencyMs, facts } : { kind: "probe failed", upstream });
        return;
      }
      case "open":
        return this.#open(order);
      case "close":
        this.#watches.delete(order.stream);
        return;
      case "open policy":
        this.server(order.upstream).policyCount += 1;
        this.#policies.set(order.stream, this.server(order.upstream));
        return this.#sendPolicy(order.stream, this.server(order.upstream));
      case "close policy":
        this.#policies.delete(order.stream);
        return;
      case "open summaries":
        return this.#openSummaries(order);
      case "close summaries":
        this.#summaries.delete(order.stream);
        return;
      case "fetch":
        return this.#answer(order);
      case "garbled":
        this.garbled.push(`${order.upstream}: ${order.fault}`);
        return;
      case "resynced":
        this.resynced.push(`${order.reason} ${order.upstream} ${order.prefixes.join()} ${order.times}`);
        return;
      case "refused":
        this.refused.push(`${order.upstream}: ${order.refusal}`);
    }
  }

  #open({ stream, upstream, prefixes, cursor, withDigest }: ResolverOrder & { kind: "open" }): void {
    const server = this.server(upstream);
    server.watchCount += 1;
    if ((cursor !== "" && server.refusesPlaces) || prefixes.some((prefix) => server.refused.includes(prefix)))
      return void this.#later.push({ kind: "watch ended", stream, refusal: server.refusal });
    if (cursor === "") server.snapshotCount += 1;
    const { node } = server;
    const filter = { ...ANY, resolved: new NamespacePrefixes(prefixes) };
    const options = { filter, name: "r", hash: "r", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest };
    const from = cursor === "" ? undefined : parseCursor(cursor);
    const feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from, bookmarkIntervalMs: 1000 }, this.now);
    this.#watches.set(stream, { server, feed });
  }

  #sendPolicy(stream: number, { versions, policyEpoch, isUp, garblePolicy }: Server): void {
    if (!isUp) return void this.#later.push({ kind: "policy ended", stream });
    const places = versions.map(({ head }) => ({ ...head, number: BigInt(head.number), hlc: BigInt(head.hlc) }));
    const parts = versions.map(({ bytes }, i) => ({ part: { place: places[i]!, offset: 0, bytes, sizeBytes: bytes.length } }));
    for (const message of [...parts, { state: { versions: places, policyEpoch } }]) {
      const bytes = toBinary(WatchPolicyResponseSchema, create(WatchPolicyResponseSchema, message));
      this.#later.push({ kind: "policy said", stream, bytes: garblePolicy(bytes) });
    }
  }

  #answer({ call, upstream, name }: ResolverOrder & { kind: "fetch" }): void {
    const server = this.server(upstream);
    server.fetchCount += 1;
    if (!server.isUp || server.isBehind)
      return void this.#later.push({ kind: "fetch failed", call, error: new WaymarkError("not_ready", "away") });
    if (server.isBusy) return void this.#later.push({ kind: "fetch failed", call, error: new WaymarkError("quota_exceeded", "busy") });
    const { node, policyEpoch, answers } = server;
    const filter = { ...ANY, namespace: name.namespace, names: [name.name] };
    const page = queryPage(node.replica.lookup, filter, {
      limit: 1000,
      afterKey: "",
      self: node.facts,
      allowed: () => true,
      explain: false,
    });
    const bytes = answers.query({
      records: page.records,
      nextToken: "",
      revision: 1,
      cursor: "",
      servedBy: node.nodeId,
      age: replicaAge(server.ageMs, server.unreachable),
      generatedWallMs: 0,
      explanations: [],
      resolved: { policyEpoch, via: server.facts.via },
    });
    this.#later.push({ kind: "fetched", call, bytes: server.garbleFetched(bytes) });
  }
}

function linesOf(lookup: EntryIndex, filter: typeof ANY): readonly string[] {
  const self = { nodeId: "", clusterId: "", region: "" };
  const page = queryPage(lookup, filter, { limit: 10_000, afterKey: "", self, allowed: () => true, explain: false });
  return page.records.map((record) => lineOf(record.key, record));
}
