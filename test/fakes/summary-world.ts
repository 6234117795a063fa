/** Nodes of one cluster that make summaries, each with a catalog of its own, on virtual time. What one exports, the others hold at once. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper, finishEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE, SCOPE_NAMES, type Scope } from "../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { BODY, HEALTH, type Health, KIND, type Kind, type OriginStatus } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { NEVER, type Time } from "../../src/lib/machine.ts";
import { NO_POLICY, type Policy } from "../../src/policy/set/verdict.ts";
import { Builder, type BuilderOptions, type Following, type OwnSummaries, type Standing } from "../../src/summary/building/builder.ts";
import type { Draft, Sent } from "../../src/summary/building/drafts.ts";
import { recordKey } from "../../src/summary/keys.ts";
import { BAND } from "../../src/summary/summary.ts";
import { BOUNDS } from "./options.ts";
import { WALL } from "./registry.ts";

export interface EntrySpec {
  readonly id?: string;
  readonly kind?: Kind;
  readonly namespace?: string;
  readonly name?: string;
  readonly scope?: Scope;
  readonly health?: Exclude<Health, typeof HEALTH.ORPHANED>;
  readonly latencyMs?: number;
  /** The node that has it; `a` by default. */
  readonly at?: string;
  readonly clusterId?: string;
  readonly region?: string;
}

/** A draft with the time and the node of its sending. */
export interface SentDraft extends Draft {
  readonly atMs: number;
  readonly by: string;
  /** What that node might send. */
  readonly standing: Standing;
}

export const OPTIONS: Omit<BuilderOptions, "nodeId"> = {
  source: { clusterId: "c1", region: "r1" },
  exportScope: SCOPE.GLOBAL,
  includeUnscoped: true,
  exportNamespaces: [],
  holdDownMs: 5000,
  exportIntervalMs: 30_000,
};

const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });
const BAND_WORDS = { [BAND.HEALTHY]: "healthy", [BAND.DEGRADED]: "degraded", [BAND.CRITICAL]: "critical" } as const;
const CATALOG = { lastSeq: 0, floor: 0, generation: 1, tombstoneTtlMs: 3_600_000, minTombstones: 1000 };

/** `global first 3 healthy r1 1-4`, with the name before it where it is not `web`. */
export function wordsOf({ facts, cause }: Draft): string {
  const { serviceId, channel, endpointCount, band, regions, latency, withdrawn } = facts;
  const name = serviceId === "web" ? "" : `${serviceId} `;
  const said = withdrawn ? "gone" : `${endpointCount} ${BAND_WORDS[band]} ${regions.join("+")} ${latency.minMs}-${latency.maxMs}`;
  return `${name}${SCOPE_NAMES[channel]} ${cause} ${said}`;
}

export class SummaryNode {
  readonly id: string;
  readonly catalog: Replica;
  /** The summary replica. */
  readonly own: Replica;
  readonly sent = new Map<string, Sent>();
  readonly policies: { policy: Policy } = { policy: NO_POLICY };
  readonly builder: Builder;
  /** What its builder was told last. */
  following: Following = { members: [], standing: "silent" };
  /** Whether it hears of nothing. */
  isCut = false;
  /** The key with which it signs. */
  keyId = "key-1";
  /** Whether what it exports is refused. */
  isRefused = false;
  /** Whether what it is told counts as a word of its cluster. */
  doesCount = true;

  /** `held`: what its cluster says is held there, and not in `sent`. */
  constructor(id: string, options: Partial<BuilderOptions>, held?: OwnSummaries) {
    this.id = id;
    this.catalog = new Replica(new EntryIndex(), new Slab(), { nodeId: id, ...CATALOG });
    this.own = new Replica(new EntryIndex(), new Slab(), { nodeId: id, ...CATALOG });
    const keyId = () => this.keyId;
    const own = held ?? {
      replica: this.own,
      find: (key: Parameters<typeof recordKey>[0]) => this.sent.get(recordKey(key)),
      counts: () => this.doesCount,
      get keyId() {
        return keyId();
      },
    };
    this.builder = new Builder({ catalog: this.catalog, own, policies: this.policies }, { ...OPTIONS, ...options, nodeId: id });
  }

  /** An entry of a node, or its end. */
  record(spec: EntrySpec, body: typeof BODY.ENTRY | typeof BODY.UNREGISTERED, time: Time): void {
    const { catalog } = this;
    const { kind = KIND.SERVICE, at = "a", clusterId = "c1", region = "r1" } = spec;
    const { id: instanceId = "1", namespace = "svc", name = "web", scope = SCOPE.GLOBAL, health = HEALTH.HEALTHY, latencyMs } = spec;
    const init: MessageInitShape<typeof EntrySchema> = { scope, health: health as number };
    const entry = create(EntrySchema, init);
    entry.key = create(EntryKeySchema, { kind: kind as number, namespace, name, instanceId });
    const place = { nodeId: at, clusterId, region, zone: "z1", tenantId: "", receivedWallMs: WALL };
    const stamped = stamper.entryOf(entry, 0, place);
    const reported = { activeClients: 0, errorRate: 0, latencyMs: latencyMs ?? 0, utilization: 0, observedWallMs: WALL };
    const load = latencyMs === undefined ? undefined : reported;
    const bytes = finishEntry(stamped.content, { registeredWallMs: WALL, updatedWallMs: WALL, load });
    const isEntry = body === BODY.ENTRY;
    const origin = at === this.id ? catalog.self : catalog.origin(at, 1);
    const seq = origin.through + 1;
    origin.through = seq;
    const numbers = { seq, firstSeq: seq, filterSeq: seq, hlc: time.wallMs * 2048 + seq };
    const held = {
      at: isEntry ? catalog.slab.put(bytes) : 0,
      sizeBytes: isEntry ? bytes.length : 0,
      contentBytes: isEntry ? stamped.content.length : 0,
    };
    catalog.install(new StoredRecord({ ...stamped, ...numbers, ...held, reach: scope, principal: "ann", origin, body }), time);
  }

  /** Takes a summary of its cluster, which that node sent. */
  hold(sent: Sent, by: string, time: Time): void {
    const key = recordKey(sent);
    this.sent.set(key, sent);
    const origin = by === this.id ? this.own.self : this.own.origin(by, 1);
    const seq = origin.through + 1;
    origin.through = seq;
    const { kind, namespace, serviceId: name, channel: scope } = sent;
    const { traits } = stamper.entryOf(create(EntrySchema, { key: { namespace: "svc", name: "x", instanceId: "1" } }), 0, {
      ...OPTIONS.source,
      nodeId: by,
      zone: "",
      tenantId: "",
      receivedWallMs: WALL,
    });
    const said = { key, kind, namespace, name, scope, reach: scope, health: HEALTH.HEALTHY, traits, principal: "" };
    const numbers = { seq, firstSeq: seq, filterSeq: seq, hlc: time.wallMs * 2048 + seq, at: 0, sizeBytes: 0, contentBytes: 0 };
    this.own.install(new StoredRecord({ ...said, ...numbers, origin, body: BODY.ENTRY }), time);
  }
}

export class SummaryWorld {
  readonly nodes: readonly SummaryNode[];
  readonly drafts: SentDraft[] = [];
  ms = 0;
  /** How far the wall clock was set. */
  wallAheadMs = 0;
  /** Most drafts of one tick, and the number of ticks. */
  mostAtOnce = 0;
  tickCount = 0;
  #toldCount = 0;

  constructor(ids: readonly string[] = ["a"], options: Partial<BuilderOptions> = {}) {
    this.nodes = ids.map((id) => new SummaryNode(id, options));
    this.follow({ members: ids, standing: "exporting" });
  }

  node(id: string): SummaryNode {
    const node = this.nodes.find((each) => each.id === id);
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  get time(): Time {
    return { monoMs: this.ms, wallMs: WALL + this.ms + this.wallAheadMs };
  }

  follow(following: Following, ids = this.nodes.map(({ id }) => id)): void {
    for (const id of ids) {
      const node = this.node(id);
      node.following = following;
      node.builder.follow(following);
    }
  }

  setPolicy(policy: Policy): void {
    for (const { policies } of this.nodes) policies.policy = policy;
  }

  put(...specs: readonly EntrySpec[]): void {
    for (const node of this.nodes) if (!node.isCut) for (const spec of specs) node.record(spec, BODY.ENTRY, this.time);
  }

  remove(...specs: readonly EntrySpec[]): void {
    for (const node of this.nodes) if (!node.isCut) for (const spec of specs) node.record(spec, BODY.UNREGISTERED, this.time);
  }

  /** As many entries, by health. */
  putMany(counts: Partial<Record<"healthy" | "critical" | "maintenance", number>>, spec: EntrySpec = {}): void {
    const { healthy = 0, critical = 0, maintenance = 0 } = counts;
    const healths = [
      ...Array.from({ length: healthy }, () => HEALTH.HEALTHY),
      ...Array.from({ length: critical }, () => HEALTH.CRITICAL),
      ...Array.from({ length: maintenance }, () => HEALTH.MAINTENANCE),
    ];
    this.put(...healths.map((health, i) => ({ ...spec, id: `${i}`, health })));
  }

  /** The state of all entries of a node, at all nodes. */
  setLife(at: string, life: OriginStatus): void {
    for (const { catalog, id } of this.nodes) catalog.setLife(id === at ? catalog.self : catalog.origin(at, 1), life);
  }

  /** Time goes on, and every node ticks when it wants to. */
  run(ms: number, isAwake: (node: SummaryNode) => boolean = () => true): void {
    const until = this.ms + ms;
    for (;;) {
      const awake = this.nodes.filter((node) => isAwake(node));
      const next = Math.max(this.ms, Math.min(...awake.map(({ builder }) => builder.nextDeadlineMs()), NEVER));
      if (next > until) break;
      this.ms = next;
      for (const node of awake) if (node.builder.nextDeadlineMs() <= next) this.#tick(node);
    }
    this.ms = until;
  }

  /** What was sent since the last call. */
  told(): readonly string[] {
    const told = this.drafts.slice(this.#toldCount).map(wordsOf);
    this.#toldCount = this.drafts.length;
    return told;
  }

  /** What is held and live, in words. */
  live(): readonly string[] {
    const [node] = this.nodes;
    const live = [...(node?.sent.values() ?? [])].filter(({ withdrawn }) => !withdrawn);
    return live.map((facts) => wordsOf({ facts, cause: "first" }).replace(" first", "")).toSorted();
  }

  #tick(node: SummaryNode): void {
    const out: Draft[] = [];
    node.builder.tick(this.time, out);
    this.tickCount += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, out.length);
    for (const draft of out) {
      this.drafts.push({ ...draft, atMs: this.ms, by: node.id, standing: node.following.standing });
      if (node.isRefused) continue;
      const sent: Sent = { ...draft.facts, generatedWallMs: this.time.wallMs, exporter: node.id, keyId: node.keyId };
      for (const other of this.nodes) if (other === node || !(other.isCut || node.isCut)) other.hold(sent, node.id, this.time);
    }
  }
}
