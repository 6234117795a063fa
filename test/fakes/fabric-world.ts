/** A few nodes' fabrics over pipes in memory, in virtual time: no loss, a fixed delay, and cuts on demand. */
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper, finishEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { BODY, HEALTH, KIND, keyText } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { applyMarks } from "../../src/catalog/replica/lost-marks.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import type { Border } from "../../src/fabric/borders/border.ts";
import { Fabric } from "../../src/fabric/fabric.ts";
import type { FabricEvent, FabricInput, FabricOutput } from "../../src/fabric/io-types.ts";
import type { LinkChannel } from "../../src/fabric/links/channel.ts";
import type { PeerAuthSettings } from "../../src/fabric/links/foreign-peers.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import type { PolicyExchange } from "../../src/fabric/policy-sync.ts";
import { ReplicationChannel } from "../../src/fabric/replication/link-replication.ts";
import type { Replicator } from "../../src/fabric/replication/replicator.ts";
import type { SummaryParts } from "../../src/fabric/summaries/channel.ts";
import type { Hello, LinkFrame, MemberFacts, PeerIdentity } from "../../src/fabric/wire/messages.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { BOUNDS, FABRIC_OPTIONS } from "./options.ts";
import type { Version } from "./policy-versions.ts";

const WALL_START_MS = 1_760_000_000_000;

export interface NodeSpec {
  readonly nodeId: string;
  readonly clusterId?: string;
  readonly region?: string;
  readonly generation?: number;
  /** The node's last life, whose journal is kept; else it starts with nothing. */
  readonly disk?: WorldNode;
  readonly seeds?: readonly string[];
  readonly clusterToken?: string;
  readonly address?: string;
  readonly roles?: readonly string[];
  readonly options?: Partial<FabricOptions>;
  /** As a node without token and certificates: takes no policy. */
  readonly isOpen?: boolean;
  readonly policyFrom?: readonly string[];
  /** How old what it starts with is. */
  readonly startAgeMs?: number;
  /** What a room above the fabric says on its links. */
  readonly channels?: readonly LinkChannel[];
  /** Its borders, and what is said on their links. */
  readonly borders?: readonly Border[];
  readonly borderChannels?: readonly LinkChannel[];
  /** Its connections prove who it is. */
  readonly hasCertificate?: boolean;
  /** Its summary replica. */
  readonly summaries?: SummaryParts;
  /** Which other clusters it lets in; all when absent. */
  readonly trust?: PeerAuthSettings;
}

/** The channels of a node without hand-over. */
export function channelsOf(replicator: Replicator, policy: PolicyExchange): readonly LinkChannel[] {
  return [policy, new ReplicationChannel(replicator, (link) => policy.isBehind(link))];
}

/** What a peer of this world says of itself. */
export function greetingOf(nodeId: string, more: Partial<Hello> = {}): Hello {
  const place = { clusterId: "c1", region: "r1", zone: "z1", address: `${nodeId}:1` };
  return {
    nodeId,
    generation: 1,
    ...place,
    version: "1",
    protocolVersions: [2],
    clusterToken: "secret",
    isReady: false,
    runsChecks: false,
    holdsSummaries: false,
    policyFrom: [],
    ...more,
  };
}

interface Due {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** Where a link's other end is. */
interface End {
  readonly node: WorldNode;
  readonly link: number;
}

const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });

export class WorldNode {
  readonly spec: NodeSpec;
  readonly address: string;
  readonly replica: Replica;
  /** What it said of itself when it started. */
  readonly facts: MemberFacts;
  readonly fabric: Fabric;
  readonly events: FabricEvent[] = [];
  readonly outputs: FabricOutput[] = [];
  readonly ends = new Map<number, End>();
  /** The newest version of the policy that it keeps. */
  policy: Version | undefined;
  readonly #world: FabricWorld;
  readonly #hlc = new Hlc();
  /** Stops at once: a kill -9. */
  isDead = false;
  isFrozen = false;
  /** How far its wall clock is ahead of the world's. */
  aheadMs = 0;
  nextIncoming = 1;

  constructor(world: FabricWorld, spec: NodeSpec) {
    this.#world = world;
    this.spec = spec;
    const {
      nodeId,
      clusterId = "c1",
      region = "r1",
      generation = spec.disk?.replica.self.generation ?? 1,
      disk,
      seeds = [],
      clusterToken = "secret",
    } = spec;
    this.address = spec.address ?? `${nodeId}:1`;
    const bounds = { tombstoneTtlMs: 3_600_000, minTombstones: 1000 };
    const lastSeq = disk?.replica.lastSeq ?? 0;
    this.replica = new Replica(new EntryIndex(), new Slab(), { nodeId, generation, lastSeq, floor: 0, ...bounds });
    if (disk !== undefined) this.#restore(disk);
    const facts = { nodeId, generation, address: this.address, clusterId, region, zone: "z1", version: "1", healthScore: 0 };
    this.facts = { ...facts, protocolVersions: [2], transports: ["h2"], roles: spec.roles ?? [], labels: {} };
    this.fabric = new Fabric(
      { ...FABRIC_OPTIONS, ...spec.options },
      {
        self: this.facts,
        replica: this.replica,
        stamper,
        bounds: BOUNDS,
        hlc: this.#hlc,
        rng: new Rng(`${world.seed}/${nodeId}/${generation}/${world.nowMs}`),
        seeds,
        clusterToken,
        isInsecure: true,
        isOpen: spec.isOpen === true,
        policyFrom: spec.policyFrom ?? [],
        channels: spec.channels ?? [],
        borders: spec.borders ?? [],
        borderChannels: spec.borderChannels ?? [],
        summaries: spec.summaries,
        ...(spec.trust !== undefined && { peerAuth: spec.trust }),
        asOfMonoMs: spec.startAgeMs === undefined ? undefined : world.nowMs - spec.startAgeMs,
      },
    );
  }

  /** As from a journal and a snapshot: own records under their own numbers, and the marks that were known. */
  #restore({ replica }: WorldNode): void {
    for (const stored of replica.self.log.list()) {
      const { key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, body, scope, reach, health, traits, principal } = stored;
      const { sizeBytes, contentBytes } = stored;
      const at = sizeBytes === 0 ? 0 : this.replica.slab.put(Uint8Array.from(replica.slab.view(stored.at, sizeBytes)));
      const said = { key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, body, scope, reach, health, traits, principal };
      this.replica.install(new StoredRecord({ ...said, origin: this.replica.self, at, sizeBytes, contentBytes }), this.#world.time());
      this.#hlc.merge(hlc, 0, Number.POSITIVE_INFINITY);
    }
    for (const word of replica.lost.list) this.replica.lost.note(word);
    applyMarks(this.replica);
    this.replica.sweep(Number.POSITIVE_INFINITY, this.#world.time());
  }

  /** Registers an entry and tells the fabric. */
  put(name: string, scope: Scope = SCOPE.ZONE): void {
    const { nodeId, clusterId = "c1", region = "r1" } = this.spec;
    const entry = create(EntrySchema, { scope, health: HEALTH.HEALTHY });
    entry.key = create(EntryKeySchema, { kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1" });
    const stamped = stamper.entryOf(entry, 0, { nodeId, clusterId, region, zone: "z1", tenantId: "", receivedWallMs: 0 });
    const time = this.#world.time();
    const { namespace, kind, health, traits, key } = stamped;
    const bytes = finishEntry(stamped.content, { registeredWallMs: 1, updatedWallMs: time.wallMs, load: undefined });
    const fields = { key, namespace, name, kind, scope: stamped.scope, health, traits, hlc: this.#hlc.stamp(time.wallMs), bytes };
    this.replica.stagePut({ ...fields, isFilterChange: true, principal: "p", contentBytes: stamped.content.length });
    this.#commit();
  }

  /** A version is the newest here: applied, or adopted. */
  keepPolicy(version: Version): void {
    this.policy = version;
    this.#world.input(this, { kind: "policy", head: version.head });
  }

  /** Ends all own entries, as a node that leaves does. */
  endAll(): void {
    for (const stored of this.replica.self.log.list())
      if (stored.body === BODY.ENTRY) this.replica.stageTombstone(stored, BODY.EXPIRED, stored.hlc);
    this.#commit();
  }

  #commit(): void {
    this.replica.commit(this.replica.lastSeq, this.#world.time());
    this.#world.input(this, { kind: "tick" });
  }

  /** `name` or `name (orphaned)` of everything seen here, sorted. */
  view(): readonly string[] {
    const names: string[] = [];
    const cursor = this.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next())
      names.push(record.origin.life === "live" ? record.name : `${record.name} (${record.origin.life})`);
    return names.toSorted();
  }

  key(name: string, clusterId = "c1"): ReturnType<typeof keyText> {
    return keyText({ kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1", clusterId });
  }

  /** Names of events so far, each once. */
  eventNames(): readonly string[] {
    return [...new Set(this.events.map(({ name }) => name))];
  }

  upLinks(): readonly string[] {
    return this.fabric
      .links()
      .filter(({ state }) => state === "up")
      .map(({ nodeId }) => nodeId)
      .toSorted();
  }
}

export class FabricWorld {
  readonly seed: string;
  readonly nodes = new Map<string, WorldNode>();
  readonly trace: string[] = [];
  delayMs = 2;
  /** What putting a version in force takes. */
  adoptMs = 0;
  nowMs = 1000;
  /** Whether a message gets from one to the other. */
  reaches: (from: WorldNode, to: WorldNode) => boolean = () => true;
  /** What arrives of a frame: a node of an older version says less. */
  saying: (from: WorldNode, frame: LinkFrame) => LinkFrame = (_from, frame) => frame;
  /** Whether streams can be opened; calls get through all the same. */
  canOpen = true;
  readonly #queue: Due[] = [];
  readonly #calls = new Map<string, { readonly from: WorldNode; readonly call: number; isOver: boolean }>();
  #order = 0;
  #nextCall = 1;

  constructor(seed = "world") {
    this.seed = seed;
  }

  time(): Time {
    return { monoMs: this.nowMs, wallMs: WALL_START_MS + this.nowMs };
  }

  /** As the node's own clocks say it. */
  timeOf({ aheadMs }: WorldNode): Time {
    const { monoMs, wallMs } = this.time();
    return { monoMs, wallMs: wallMs + aheadMs };
  }

  /** Starts a node; one of the same address takes the older one's place. */
  start(spec: NodeSpec): WorldNode {
    const node = new WorldNode(this, spec);
    this.nodes.set(node.address, node);
    this.input(node, { kind: "tick" });
    return node;
  }

  /** The process ends: its sockets close, unless the machine is gone with it. */
  kill(node: WorldNode, how: "process" | "machine" = "process"): void {
    node.isDead = true;
    if (this.nodes.get(node.address) === node) this.nodes.delete(node.address);
    for (const { node: other, link } of node.ends.values())
      this.#later(how === "process" ? this.delayMs : 15_000, () => this.#closed(other, link, "reset"));
  }

  input(node: WorldNode, input: FabricInput): void {
    if (node.isDead) return;
    const out: FabricOutput[] = [];
    node.fabric.handle(input, this.timeOf(node), out);
    this.trace.push(`${this.nowMs} ${node.spec.nodeId} ${input.kind} ${out.map(({ kind }) => kind).join(" ")}`);
    this.#carryOut(node, out);
  }

  /** Lets time pass. */
  run(forMs: number): void {
    const untilMs = this.nowMs + forMs;
    for (let turns = 0; ; turns++) {
      if (turns > 2_000_000) throw new Error("the world does not come to rest");
      this.#queue.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      const next = this.#queue[0];
      let [dueMs, ticking] = [next?.atMs ?? Number.POSITIVE_INFINITY, undefined as WorldNode | undefined];
      for (const node of this.nodes.values()) {
        if (node.isFrozen) continue;
        const deadlineMs = Math.max(this.nowMs, node.fabric.nextDeadlineMs());
        if (deadlineMs < dueMs) [dueMs, ticking] = [deadlineMs, node];
      }
      if (dueMs > untilMs) break;
      this.nowMs = Math.max(this.nowMs, dueMs);
      if (ticking !== undefined) this.input(ticking, { kind: "tick" });
      else this.#queue.shift()?.run();
    }
    this.nowMs = untilMs;
  }

  /** Lets time pass until it is so; returns after how many ms. */
  runUntil(isSo: () => boolean, maxMs = 60_000): number {
    const startMs = this.nowMs;
    while (!isSo()) {
      if (this.nowMs - startMs >= maxMs) throw new Error(`not so within ${maxMs} ms`);
      this.run(10);
    }
    return this.nowMs - startMs;
  }

  /** Breaks every link between two nodes. */
  cut(a: WorldNode, b: WorldNode): void {
    for (const [link, end] of a.ends) {
      if (end.node !== b) continue;
      this.#closed(a, link, "cut");
      this.#closed(b, end.link, "cut");
    }
  }

  /** A stranger opens a stream to the node; returns the link's number there. */
  strangerOpens(to: WorldNode, identity: Partial<PeerIdentity> = {}): number {
    const link = to.nextIncoming;
    to.nextIncoming += 2;
    const stranger = { address: "9.9.9.9:999", isLoopback: true, certificate: undefined, clusterToken: "", ...identity };
    this.input(to, { kind: "opened", link, isIncoming: true, identity: stranger });
    return link;
  }

  #later(delayMs: number, run: () => void): void {
    this.#queue.push({ atMs: this.nowMs + delayMs, order: this.#order++, run });
  }

  #carryOut(node: WorldNode, out: readonly FabricOutput[]): void {
    for (const output of out) {
      node.outputs.push(output);
      switch (output.kind) {
        case "event":
          node.events.push(output.event);
          break;
        case "open":
          this.#later(this.delayMs, () => this.#open(node, output));
          break;
        case "send":
          this.#later(0, () => this.#pump(node, output.link));
          break;
        case "close":
          this.#later(0, () => this.#end(node, output.link));
          break;
        case "call":
          this.#call(node, output);
          break;
        case "answer": {
          const asked = this.#calls.get(`${node.spec.nodeId} ${output.call}`);
          if (asked === undefined) break;
          if (this.reaches(node, asked.from)) this.#later(this.delayMs, () => this.#answered(asked, output.response));
          break;
        }
        case "changed":
        case "maintained":
        case "ordered":
        case "superseded":
        case "generationLost":
        case "offered":
        case "memberChanged":
        case "linkChanged":
        case "memberForgotten":
        case "rest":
        case "selfChanged":
          break;
        case "readPolicy":
          this.#later(0, () => this.input(node, { kind: "policyRead", number: output.number, bytes: node.policy?.bytes }));
          break;
        case "adoptPolicy":
          this.#later(this.adoptMs, () => node.keepPolicy(output));
      }
    }
  }

  /** `border`: the connection goes by the gate of the border with this cluster. */
  #identity(of: WorldNode, border?: string): PeerIdentity {
    const { nodeId, clusterId } = of.facts;
    const certificate = of.spec.hasCertificate === true ? { nodeId, clusterId } : undefined;
    const gate = certificate === undefined || border === undefined ? {} : { border };
    return { address: of.address, isLoopback: true, certificate, clusterToken: of.spec.clusterToken ?? "secret", ...gate };
  }

  #open(node: WorldNode, { link, to, border }: Extract<FabricOutput, { kind: "open" }>): void {
    const peer = this.nodes.get(to);
    if (peer === undefined || !this.canOpen || !this.reaches(node, peer)) {
      this.#later(this.delayMs, () => this.input(node, { kind: "closed", link, detail: "refused" }));
      return;
    }
    const incoming = peer.nextIncoming;
    peer.nextIncoming += 2;
    node.ends.set(link, { node: peer, link: incoming });
    peer.ends.set(incoming, { node, link });
    const [comes, answers] = [this.#identity(node, border && node.facts.clusterId), this.#identity(peer, border)];
    this.input(peer, { kind: "opened", link: incoming, isIncoming: true, identity: { ...comes, clusterToken: "" } });
    this.input(node, { kind: "opened", link, isIncoming: false, identity: { ...answers, clusterToken: "" } });
  }

  #pump(node: WorldNode, link: number): void {
    if (node.isDead) return;
    for (;;) {
      const out: FabricOutput[] = [];
      const frame = node.fabric.pull(link, this.timeOf(node), out);
      this.#carryOut(node, out);
      if (frame === undefined) return;
      this.trace.push(`${this.nowMs} ${node.spec.nodeId} sends ${frame.kind}`);
      const end = node.ends.get(link);
      if (end === undefined) continue;
      this.#later(this.delayMs, () => {
        if (end.node.ends.get(end.link)?.node === node && this.reaches(node, end.node))
          this.input(end.node, { kind: "received", link: end.link, frame: this.saying(node, frame) });
      });
    }
  }

  /** What is under way still arrives. */
  #end(node: WorldNode, link: number): void {
    this.#pump(node, link);
    const end = node.ends.get(link);
    this.#later(this.delayMs, () => {
      this.#closed(node, link, "ended");
      if (end !== undefined) this.#closed(end.node, end.link, "ended");
    });
  }

  #closed(node: WorldNode, link: number, detail: string): void {
    if (node.ends.delete(link)) this.input(node, { kind: "closed", link, detail });
  }

  #call(node: WorldNode, output: Extract<FabricOutput, { kind: "call" }>): void {
    const asked = { from: node, call: output.call, isOver: false };
    this.#later(output.timeoutMs, () => this.#answered(asked, undefined));
    const peer = this.nodes.get(output.to);
    if (peer === undefined || !this.reaches(node, peer)) return;
    const call = this.#nextCall++;
    this.#calls.set(`${peer.spec.nodeId} ${call}`, asked);
    this.#later(this.delayMs, () => {
      if (this.reaches(node, peer)) this.input(peer, { kind: "asked", call, request: output.request, identity: this.#identity(node) });
    });
  }

  #answered(
    asked: { readonly from: WorldNode; readonly call: number; isOver: boolean },
    response: Extract<FabricInput, { kind: "answered" }>["response"],
  ): void {
    if (asked.isOver) return;
    asked.isOver = true;
    this.input(asked.from, { kind: "answered", call: asked.call, response });
  }
}
