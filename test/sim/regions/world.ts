/**
 * Regions of real node machines in virtual time: who there is, what happens to them, and what they show of each other. A story
 * (`region-worlds.ts`) says what is to happen, and looks.
 */
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { KIND, keyText } from "../../../src/catalog/record/record.ts";
import type { Border } from "../../../src/fabric/borders/border.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { Rng } from "../../../src/lib/rng.ts";
import type { NamespaceRule } from "../../../src/policy/set/rules.ts";
import { decodeRecord } from "../../../src/summary/codec.ts";
import { summaryKeyOf } from "../../../src/summary/keys.ts";
import { caller, command } from "../../fakes/registry.ts";
import { signingKey } from "../../fakes/signing-keys.ts";
import { SIM_FABRIC } from "../fabric-of.ts";
import { addressOf, FAIR, Network } from "../network.ts";
import { SimNode } from "../sim-node.ts";
import { EventCounter } from "../simulation.ts";
import { Trace } from "../trace.ts";
import { BYTES, VALUES } from "../wire.ts";
import { World } from "../world.ts";
import { Regional } from "./regional.ts";

/** Of a region, its clusters, each with its number of nodes. */
export type Layout = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** What a border of one cluster with another says. */
export type Rules = Partial<Pick<Border, "imports" | "exports">>;

export interface RegionsOptions {
  /** One way, between regions. */
  readonly apartMs?: number;
  readonly rules?: (from: string, to: string) => Rules | undefined;
  /** Whether two regions have borders; all have when absent. */
  readonly areNeighbours?: (a: string, b: string) => boolean;
  /** Nodes without a summary replica. */
  readonly without?: readonly string[];
  /** Nodes without the key of their cluster. */
  readonly keyless?: readonly string[];
  /** Nodes whose settings name no key of their own cluster. */
  readonly unaware?: readonly string[];
  /** Nodes whose ways to those of their region carry few bytes. */
  readonly slow?: readonly string[];
  /** Somebody told the nodes of each region that those of the others are members too. */
  readonly isMisled?: boolean;
  /** Settings of summaries that differ. */
  readonly summary?: ConstructorParameters<typeof Regional>[0]["summary"];
  /** Frames are encoded, so that their bytes are those of the product. */
  readonly isEncoded?: boolean;
}

/** A summary that a node made. */
export interface Export {
  readonly atMs: number;
  readonly node: string;
  /** Counts the starts of the node. */
  readonly life: number;
  readonly name: string;
  readonly band: number;
  readonly isWithdrawn: boolean;
  /** As the audit has it: why, and the number and the rule of the policy. */
  readonly under: string;
}

/** Numbers of these worlds. Minutes of the product are seconds here, so that a world sees all of a source's states; skew is as in the product. */
export const SUMMARY = { ttlMs: 12_000, staleKeepMs: 20_000, holdDownMs: 2000, exportIntervalMs: 5000, pruneIntervalMs: 1000 } as const;

const ANN = caller("ann");
const START_APART_MS = 10;
/** Each second, on a way that is slow. */
const SLOW_BYTES = 20_000;

export class Regions {
  readonly world = new World();
  readonly trace: Trace;
  readonly network: Network;
  readonly nodes = new Map<string, SimNode>();
  readonly exports: Export[] = [];
  readonly wrong: string[] = [];
  /** What left one region for another: bytes with headers, and summaries. */
  readonly crossed = { bytes: 0, summaries: 0 };
  readonly #rng: Rng;

  constructor(seed: string, layout: Layout, options: RegionsOptions = {}, traceFile?: string) {
    const {
      apartMs = 40,
      rules = () => undefined,
      areNeighbours = () => true,
      without = [],
      keyless = [],
      unaware = [],
      slow = [],
      isMisled = false,
      isEncoded = false,
      summary = {},
    } = options;
    this.#rng = new Rng(`regions/${seed}`);
    this.trace = new Trace(this.world, traceFile);
    this.network = new Network({ world: this.world, rng: this.#rng.fork("network"), wire: isEncoded ? BYTES : VALUES });
    this.network.onFrame = (from, to, frame, sizeBytes) => {
      this.#sent(members[from]?.region, members[to]?.region, frame, sizeBytes);
      return true;
    };
    const members = membersOf(layout);
    const clusters = [...new Map(members.map(({ clusterId, region }) => [clusterId, region]))];
    const keys = new Map(clusters.map(([clusterId], i) => [clusterId, signingKey(i + 1)]));
    const rows = clusters.map(([cluster, region]) => ({ cluster, region, publicKey: keys.get(cluster)?.publicKey.raw ?? NO_BYTES }));
    for (const member of members) {
      const { clusterId, region, index, nodeId } = member;
      const borders = clusters.flatMap(([to, toRegion]): readonly Border[] => {
        const addresses = members.filter((each) => each.clusterId === to).map((each) => addressOf(each.index));
        const facts = { clusterId: to, region: toRegion, addresses, trust: { kind: "token", token: "both" } as const };
        const { imports = [], exports = [] } = rules(clusterId, to) ?? {};
        return toRegion === region || !areNeighbours(region, toRegion)
          ? []
          : [{ ...facts, imports, exports, batchIntervalMs: 100, bytesPerSecond: 0 }];
      });
      const regional = new Regional({
        clusterId,
        region,
        borders,
        rows: unaware.includes(nodeId) ? rows.filter(({ cluster }) => cluster !== clusterId) : rows,
        key: keyless.includes(nodeId) ? undefined : keys.get(clusterId),
        clusters: clusters.map(([each]) => each),
        summary: { ...SUMMARY, ...summary },
        exported: (node, { facts, cause }) => {
          const { namespace, serviceId, band, withdrawn, policyNumber, policyRule } = facts;
          const name = `${clusterId} ${namespace}/${serviceId}`;
          const under = `${cause} policy=${policyNumber} rule=${policyRule}`;
          this.exports.push({ atMs: this.world.nowMs, node: node.name, life: node.life, name, band, isWithdrawn: withdrawn, under });
        },
      });
      const kin = members.filter((each) => each.region === region && each.nodeId !== nodeId).slice(0, 2);
      const strangers = members.filter((each) => isMisled && each.region !== region);
      const seeds = [...kin, ...strangers].map((each) => addressOf(each.index));
      const place = { index, nodeId, clusterId, region, zone: "z1", seeds };
      const disk = { tombstoneTtlMs: 30_000, minTombstones: 1000, commitMs: 3, snapshotMs: 2000 };
      const given = { ...place, ...disk, fabric: SIM_FABRIC, ...(!without.includes(nodeId) && { regional }) };
      const watching = new EventCounter(new Map());
      const parts = { world: this.world, network: this.network, trace: this.trace, rng: this.#rng.fork(nodeId), watching };
      const node = new SimNode(given, parts);
      this.nodes.set(nodeId, node);
      this.network.add(node, (other) => {
        const { region: otherRegion, nodeId: otherId } = members[other] ?? member;
        if (otherRegion !== region) return { ...FAIR, delayMs: apartMs, jitterMs: apartMs / 20 };
        return slow.includes(nodeId) || slow.includes(otherId) ? { ...FAIR, bytesPerSecond: SLOW_BYTES } : FAIR;
      });
    }
  }

  #sent(from: string | undefined, to: string | undefined, frame: LinkFrame, sizeBytes: number): void {
    if (from === to) return;
    this.crossed.bytes += sizeBytes;
    if (frame.kind === "borderBatch") this.crossed.summaries += frame.summaries.length;
  }

  /** Starts all nodes but these, one after the other. */
  start(but: readonly string[] = []): void {
    for (const [nodeId, node] of this.nodes) if (!but.includes(nodeId)) this.at(node.index * START_APART_MS, () => node.start());
  }

  at(atMs: number, run: () => void): void {
    this.world.at(atMs, run);
  }

  /** Looks once, and notes what is wrong. */
  look(atMs: number, wrong: () => readonly string[]): void {
    this.at(atMs, () => {
      if (this.wrong.length < MAX_WRONG) this.wrong.push(...wrong().map((text) => `at ${(this.world.nowMs / 1000).toFixed(1)} s ${text}`));
    });
  }

  /** Looks again and again. */
  watch(fromMs: number, toMs: number, wrong: () => readonly string[], everyMs = 100): void {
    for (let atMs = fromMs; atMs <= toMs; atMs += everyMs) this.look(atMs, wrong);
  }

  node(nodeId: string): SimNode {
    const node = this.nodes.get(nodeId);
    if (node === undefined) throw new Error(`there is no ${nodeId}`);
    return node;
  }

  nodesOf(place: string): readonly SimNode[] {
    return [...this.nodes.values()].filter(({ options }) => options.region === place || options.clusterId === place);
  }

  // ---- what happens ----

  /** Registers an instance of a service at a node; `health` as the contract numbers it. */
  put(nodeId: string, name: string, instance = "1", { scope = SCOPE.GLOBAL, health = 1, namespace = "svc" }: Put = {}): void {
    this.#ask(nodeId, (process) => {
      const { clusterId, region, zone } = process.node.options;
      const key = create(EntryKeySchema, { kind: KIND.SERVICE, namespace, name, instanceId: `${nodeId}-${instance}` });
      const entry = create(EntrySchema, { key, scope, health });
      const stamped = process.stamper.entryOf(entry, 0, { nodeId, clusterId, region, zone, tenantId: "", receivedWallMs: 0 });
      process.registrar.register(ANN, command([stamped], { isStatic: true }), process.time());
    });
  }

  end(nodeId: string, name: string, instance = "1", namespace = "svc"): void {
    this.#ask(nodeId, (process) => {
      const { clusterId } = process.node.options;
      const key = keyText({ kind: KIND.SERVICE, namespace, name, instanceId: `${nodeId}-${instance}`, clusterId });
      process.registrar.unregisterKeys(ANN, [key], process.time());
    });
  }

  #ask(nodeId: string, run: (process: NonNullable<SimNode["process"]>) => void): void {
    const node = this.node(nodeId);
    node.enqueue(() => {
      const { process } = node;
      if (process === undefined) throw new Error(`${nodeId} does not run`);
      try {
        run(process);
        process.durable(() => {});
        process.arm();
      } catch (error) {
        if (!(error instanceof WaymarkError)) throw error;
        this.wrong.push(`${nodeId} refuses at ${this.world.nowMs}: ${error.message}`);
      }
    });
  }

  /** An operator puts rules in force at a node. The other nodes of its cluster get them over their links. */
  apply(nodeId: string, rules: readonly NamespaceRule[], version: string): void {
    const node = this.node(nodeId);
    node.enqueue(() => node.process?.tasks.applyRules(rules, version));
  }

  /** The nodes of a cluster have other rules for borders with these clusters in their settings, and start anew with them, one after the other. */
  changeRules(cluster: string, to: readonly string[], rules: Rules): void {
    for (const [n, node] of this.nodesOf(cluster).entries())
      this.at(this.world.nowMs + 3000 * n, () => {
        const { regional } = node.options;
        const borders = regional?.borders.map((each) => (to.includes(each.clusterId) ? { ...each, ...rules } : each));
        if (regional !== undefined && borders !== undefined) regional.borders = borders;
        node.crash({ isSilent: false, isBatchKept: true, isDiskLost: false });
        this.at(this.world.nowMs + 500, () => node.start());
      });
  }

  /** Cuts all ways between two sets of nodes, or heals them. */
  cut(some: readonly SimNode[], others: readonly SimNode[], isCut = true): void {
    for (const { index: a } of some)
      for (const { index: b } of others) {
        if (a === b) continue;
        if (isCut) this.network.cut(a, b);
        else this.network.heal(a, b);
        if (isCut) this.network.cut(b, a);
        else this.network.heal(b, a);
      }
  }

  /** Cuts a region or cluster off from all others, or heals that. */
  cutOff(place: string, isCut = true): void {
    const inside = this.nodesOf(place);
    this.cut(
      inside,
      [...this.nodes.values()].filter((node) => !inside.includes(node)),
      isCut,
    );
  }

  // ---- what is seen ----

  /** What a node shows of summaries on channel GLOBAL: `source namespace/name count`, with a star when it is stale. Undefined of one that does not run. */
  shown(nodeId: string): ReadonlyMap<string, Shown> | undefined {
    const { process } = this.node(nodeId);
    const held = process?.rooms.regions?.held;
    if (process === undefined || held === undefined) return undefined;
    const shown = new Map<string, Shown>();
    for (const cursor = held.replica.lookup.cursor(); ; ) {
      const record = cursor.next();
      if (record === undefined) return shown;
      const key = summaryKeyOf(record.key);
      if (key?.channel !== SCOPE.GLOBAL) continue;
      const content = decodeRecord(held.replica.slab.view(record.at, record.sizeBytes));
      if (content.what !== "summary") continue;
      const { endpointCount: count, band, version } = content.summary;
      shown.set(`${key.source} ${key.namespace}/${key.serviceId}`, { count, band, version, isStale: held.isStale(record, process.time()) });
    }
  }

  /** The nodes that do not show exactly these, as `source namespace/name` or with ` stale` behind it. */
  differs(nodes: readonly SimNode[], expected: readonly string[]): readonly string[] {
    const wanted = expected.toSorted().join(", ");
    return nodes.flatMap((node) => {
      const shown = this.shown(node.name);
      if (shown === undefined) return node.isUp && node.options.regional !== undefined ? [`${node.name} holds nothing`] : [];
      const text = [...shown].map(([name, { isStale }]) => (isStale ? `${name} stale` : name));
      return text.toSorted().join(", ") === wanted ? [] : [`${node.name} shows [${text.toSorted().join(", ")}] and not [${wanted}]`];
    });
  }

  /** Border links that are up, each once. */
  get linkCount(): number {
    const rows = [...this.nodes.values()].flatMap(({ process }) => process?.fabric.borders.rows ?? []);
    return rows.filter(({ state }) => state === "up").length / 2;
  }

  /** Lists that were compared, because digests differed. */
  get comparedBytes(): number {
    return this.network.traffic.reduce((sum, { byKind }) => sum + (byKind.get("borderHave") ?? 0), 0);
  }

  /** At rest digests are equal, so nothing is listed. */
  comparedSince(beforeBytes: number): readonly string[] {
    const moreBytes = this.comparedBytes - beforeBytes;
    return moreBytes === 0 ? [] : [`lists of ${moreBytes} bytes were compared at rest`];
  }

  /** P1: members and records of a region are its own. */
  #strange(): readonly string[] {
    return [...this.nodes.values()].flatMap(({ name, process, options: { region } }) => {
      const members = process?.fabric.membership.members().filter((member) => member.region !== region) ?? [];
      const origins = [...(process?.replica.origins.values() ?? [])].filter((origin) => origin.region !== "" && origin.region !== region);
      return [...members, ...origins].map(({ nodeId }) => `${name} has ${nodeId} of another region`);
    });
  }

  run(untilMs: number): readonly string[] {
    this.world.runUntil(untilMs);
    return [...this.wrong, ...this.#strange()];
  }
}

export interface Put {
  readonly scope?: Scope;
  readonly health?: number;
  readonly namespace?: string;
}

export interface Shown {
  readonly count: number;
  readonly band: number;
  readonly version: number;
  readonly isStale: boolean;
}

const NO_BYTES = new Uint8Array(0);
/** More tell nothing. */
const MAX_WRONG = 20;

function membersOf(layout: Layout) {
  const places = Object.entries(layout).flatMap(([region, clusters]) =>
    Object.entries(clusters).flatMap(([clusterId, count]) =>
      Array.from({ length: count }, (_, i) => ({ region, clusterId, nodeId: `${clusterId}-${"abcdefgh"[i] ?? i}` })),
    ),
  );
  return places.map((place, index) => ({ ...place, index }));
}
