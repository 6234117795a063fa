/**
 * Combines the summaries of a node: the stored summaries, the exports of its own cluster, the choice of exporters, and the readers
 * (docs/design/summaries.md). The rules are in `src/summary/`; this file connects them to the catalog, the policy and the members.
 */
import { type KeyText, nameOfKey } from "../../../catalog/record/record.ts";
import type { Replica } from "../../../catalog/replica/replica.ts";
import type { ReaderNode } from "../../../catalog/watch/reader.ts";
import { heldSources, SummaryReads, staleSourcesOf } from "../../../discovery/summaries/summary-reads.ts";
import type { Neighbour } from "../../../fabric/borders/border.ts";
import { BorderChannel } from "../../../fabric/borders/channel.ts";
import { BORDER_FIXED } from "../../../fabric/borders/options.ts";
import type { Fabric } from "../../../fabric/fabric.ts";
import type { SummaryParts } from "../../../fabric/summaries/channel.ts";
import { summaryBlocks } from "../../../fabric/summaries/snapshot.ts";
import type { MemberFacts, MemberUpdate } from "../../../fabric/wire/messages.ts";
import { NEVER, type Time } from "../../../lib/machine.ts";
import { counted } from "../../../lib/text/visible-text.ts";
import { mayPublish, type OnDenied } from "../../../policy/set/verdict.ts";
import type { PolicyEngine } from "../../../policy/versions/engine.ts";
import type { NamespaceExports } from "../../../services/discovery/namespace-status.ts";
import type { SummaryLag } from "../../../services/regions/lag.ts";
import type { RemoteCluster } from "../../../services/regions/remote-nodes.ts";
import type { KeyRegistry } from "../../../signing/key-registry.ts";
import type { ClusterSigner, SignedBytes } from "../../../signing/signer.ts";
import { Builder, type BuilderOptions, type Standing } from "../../../summary/building/builder.ts";
import type { Draft } from "../../../summary/building/drafts.ts";
import { Exporters } from "../../../summary/building/exporters.ts";
import { exportVerdict } from "../../../summary/building/outlets.ts";
import type { HeldOptions, HeldParts } from "../../../summary/held/options.ts";
import { HeldSummaries } from "../../../summary/held/summaries.ts";
import { summaryKeyOf } from "../../../summary/keys.ts";
import { SummaryStamper } from "../../../summary/stamper.ts";
import type { IngressNode } from "../../../summary/summary.ts";
import type { NodeOutput } from "../../core-io.ts";
import { ingressMembers, ingressNodes } from "./ingress.ts";
import { type LagParts, summaryLag } from "./lag.ts";
import { PolicyWithdrawal } from "./policy-withdrawal.ts";
import { ReassertQueue } from "./reassert.ts";

type ExportSettings = "exportIntervalMs" | "exportNamespaces" | "exportScope" | "holdDownMs" | "includeUnscoped";

export interface SummariesOptions extends HeldOptions, Pick<BuilderOptions, ExportSettings> {
  /** Whether this cluster makes summaries. */
  readonly isExporting: boolean;
  /** Summaries are dropped if they wait longer for a border link or exceed the maximum count (see the settings). */
  readonly storeForwardMs: number;
  /** Export rules of the borders from the settings, by region. */
  readonly borderExports: ReadonlyMap<string, readonly (readonly string[])[]>;
  readonly neighbours: readonly Neighbour[];
  readonly storeForwardMaxMessages: number;
}

export interface SummariesParts extends Pick<HeldParts, "imports"> {
  readonly catalog: Replica;
  readonly policies: Pick<PolicyEngine, "policy">;
  readonly keys: KeyRegistry;
  /** The key of this cluster. Undefined on a node without it. */
  readonly signer: ClusterSigner | undefined;
  /** Returns the key announcements of this cluster. The list is the same object as long as it has not changed. */
  announcements(): readonly SignedBytes[];
  readonly node: ReaderNode;
  readonly onDenied: OnDenied;
  /** Called when a watcher must be woken again. */
  readonly onAgain: () => void;
  readonly now: () => Time;
}

/** State of the other parts of the node. */
export interface SummaryContext {
  /** Undefined on a standalone node. */
  readonly fabric: Pick<Fabric, "lifecycle" | "membership" | "readiness"> | undefined;
  /** Whether the node is ready and not stopping. */
  readonly isReady: boolean;
}

/** Result of a step. */
export interface SummaryNews {
  /** Whether the facts that this node announces have changed. */
  readonly areFactsChanged: boolean;
  /** Whether there may be something to send to other nodes and readers. */
  readonly isChanged: boolean;
}

/** Interval at which the export state is evaluated, in ms. The rate is limited because the evaluation reads every member. */
const JUDGE_MS = 500;
/** A node that was in sync within this time, in ms, is assumed to see its whole cluster. */
const IN_STEP_MS = 10_000;
/** Minimum pause that affects exports, in ms. After a shorter pause, data is no older than data from a slow link. */
const LEAST_STANDSTILL_MS = 1000;
/** The name for which the exporter of the beacon is chosen. */
const BEACON = "\0beacon";
/**
 * Delay per rank, in ms, between the confirming beacons of different nodes while exports are paused because many nodes vanished. Within this delay, a
 * node receives the beacon of its predecessor.
 */
const CONFIRM_APART_MS = 1000;
/** Number of records per step while a policy change is applied. */
const SWITCHED_AT_A_TIME = 512;

export class NodeSummaries {
  readonly held: HeldSummaries;
  readonly builder: Builder;
  readonly reads: SummaryReads;
  readonly #reassertQueue: ReassertQueue;
  readonly #options: SummariesOptions;
  readonly #parts: SummariesParts;
  #judgeMonoMs = Number.NEGATIVE_INFINITY;
  #inStepMonoMs = Number.NEGATIVE_INFINITY;
  #inStepWithListedMonoMs = Number.NEGATIVE_INFINITY;
  /** End of the last pause. Any in-sync time before it is no longer valid. */
  #wokeMonoMs = Number.NEGATIVE_INFINITY;
  #standing: Standing = "silent";
  /** Whether this node announces that it exports. */
  #isAnnounced = false;
  #seenRevision = 0;
  #seenVersion: number;
  #policy: PolicyEngine["policy"];
  #stale: ReadonlySet<string> = new Set();
  #borders: BorderChannel | undefined;
  /** Regions that are linked to this node's region. Undefined on a node without borders. */
  #linkedRegions: (() => ReadonlySet<string>) | undefined;
  readonly #policyWithdrawal: PolicyWithdrawal;
  #announced: readonly SignedBytes[] = [];
  /** Number of other nodes of the cluster that export. */
  #exporterCount = 0;
  /** Time after which this node sends an overdue beacon if no node exports and this node paused its exports only because many nodes vanished. */
  #confirmsAfterMs: number | undefined;
  readonly #lack = new MissingExporter();
  /** Whether a live node of the cluster accepts calls from other clusters. */
  #hasIngress = true;
  /** Number of drafts that could not be exported. */
  failedCount = 0;
  #time: Time = { monoMs: Number.NEGATIVE_INFINITY, wallMs: 0 };

  constructor(options: SummariesOptions, parts: SummariesParts) {
    const { nodeId, clusterId, region, exportScope, includeUnscoped, exportNamespaces, holdDownMs, exportIntervalMs } = options;
    const { catalog, policies, keys, signer, imports, node, onDenied, onAgain, now } = parts;
    this.#options = options;
    this.#parts = parts;
    this.#policy = policies.policy;
    this.#seenVersion = keys.version();
    const isOwner: HeldParts["isOwner"] = ({ namespace, scope }, source) => mayPublish(policies.policy.source(namespace, source), scope);
    this.held = new HeldSummaries(options, { keys, signer, imports, isOwner, isExporterOf: (key) => this.#isExporterOf(key) });
    const { held } = this;
    this.#policyWithdrawal = new PolicyWithdrawal({ held, clusterId, region, neighbours: options.neighbours });
    const exports = { source: { clusterId, region }, exportScope, includeUnscoped, exportNamespaces };
    this.builder = new Builder({ catalog, own: held.own, policies }, { ...exports, nodeId, holdDownMs, exportIntervalMs });
    this.#reassertQueue = new ReassertQueue({
      held,
      holdDownMs,
      saidMonoMs: (key) => this.builder.saidMonoMs(key),
      rankOf: (key) => this.builder.rankOf(key),
      saidUnder: (namespace, time) => this.builder.saidUnder(namespace, time),
    });
    const sources = heldSources(held, now);
    this.reads = new SummaryReads({ replica: held.replica, node, policies, onDenied, sources, onAgain, now });
  }

  /** The data that the fabric replicates within the region. */
  get replicated(): SummaryParts {
    const { held } = this;
    return { replica: held.replica, stamper: new SummaryStamper((source) => held.regionOf(source)), receipts: held };
  }

  /** Returns all stored data, for the next start. The data may be read over several turns of the event loop. */
  blocks(time: Time): Iterable<Uint8Array> {
    return summaryBlocks(this.replicated, this.#options.clusterId, time);
  }

  /** Makes the channel for border links. */
  atBorders(fabric: () => Pick<Fabric, "borders" | "membership">): BorderChannel {
    const { policies } = this.#parts;
    const linkedRegions = () => {
      const { borders, membership } = fabric();
      const counts = [...borders.counts, ...membership.listed().flatMap((member) => member.borders ?? [])];
      return new Set(counts.filter(({ links }) => links > 0).map(({ region }) => region));
    };
    this.#linkedRegions = linkedRegions;
    const priorityOf = (namespace: string) => policies.policy.ruleOf(namespace)?.priority ?? 0;
    const { ttlMs, storeForwardMs, storeForwardMaxMessages: storeForwardCount } = this.#options;
    // Half of a TTL, so that one beacon may be lost before other nodes of the region are queried.
    const options = { ...BORDER_FIXED, heardMs: ttlMs / 2, storeForwardMs, storeForwardCount };
    this.#borders = new BorderChannel(options, {
      here: this.#options,
      summaries: this.held,
      priorityOf,
      linkedRegions,
      borderExports: () => this.#options.borderExports,
      reaches: this.#policyWithdrawal,
    });
    this.#policyWithdrawal.follow(this.#borders.heard);
    return this.#borders;
  }

  /** Facts about summaries that this node announces to others. */
  get facts(): Pick<MemberFacts, "exportsSummaries" | "heardRules"> {
    const { told: heardRules } = this.#policyWithdrawal;
    return { ...(this.#isAnnounced && { exportsSummaries: true }), ...(heardRules.length > 0 && { heardRules }) };
  }

  /** Number of live nodes of the cluster that export, including this one. Undefined if the settings do not allow any export. */
  get exporterCount(): number | undefined {
    return this.#options.isExporting ? this.#exporterCount + Number(this.isExporting) : undefined;
  }

  /** Returns the age of the oldest summary that is due on a border but not accepted there, because a link is slow or missing. */
  exportLagMs(time: Time): number {
    return this.#borders?.lagMs(time) ?? 0;
  }

  /** Returns the clusters in `fabric.borders` whose region is not linked to any node of this region. O(members). */
  unlinkedNeighbours(): readonly Neighbour[] {
    const linked = this.#linkedRegions?.();
    return this.#options.neighbours.filter(({ region }) => linked?.has(region) !== true);
  }

  /** Returns the addresses at which clusters of other regions accept calls, according to their beacons. Dropped clusters are not included. */
  otherClusters(time: Time): readonly RemoteCluster[] {
    return this.held.beacons(time).flatMap(({ source: clusterId, ageMs }) => {
      const region = this.held.regionOf(clusterId);
      if (region === undefined || region === this.#options.region) return [];
      return [{ clusterId, region, heardWallMs: time.wallMs - ageMs, ingress: this.held.beaconOf(clusterId)?.ingress ?? [] }];
    });
  }

  /** Returns the progress report for operators. */
  lag(fabric: LagParts["fabric"], time: Time): SummaryLag {
    const { held, failedCount, isExporting, exporterCount = 0, standingText: detail } = this;
    const exports = { isExporting, exporterCount, detail, lagMs: this.exportLagMs(time), failedCount };
    return summaryLag({ held, exports, neighbours: this.#options.neighbours, channel: this.#borders, fabric }, time);
  }

  /** Returns the number of exports of a namespace, and whether this cluster may export it. */
  exportsOf(namespace: string, { wallMs }: Time): NamespaceExports {
    const { exportScope, includeUnscoped, exportNamespaces, isExporting } = this.#options;
    const options = { source: this.#options, exportScope, includeUnscoped, exportNamespaces };
    const verdict = exportVerdict(this.#parts.policies.policy, namespace, options, wallMs);
    const { count = 0, lastWallMs } = this.held.toldOf(namespace) ?? {};
    return { count, lastWallMs, ...(isExporting ? verdict : { allowed: false, reason: "export_disabled" }) };
  }

  /** Text in the `/readyz` line, for operators. */
  get standingText(): string {
    const texts = [this.#standingWords, this.#silenceWords, this.#ingressWords, this.#linkWords, this.held.unsaid.textAt(this.#time)];
    return texts.filter((text) => text !== "").join("; ");
  }

  /** Reports a missing key: a border node cannot verify the summaries of a cluster, including its own, without the key of that cluster. */
  get #silenceWords(): string {
    const { clusterId, isExporting, neighbours } = this.#options;
    if (!isExporting || neighbours.length === 0 || this.#parts.keys.hasKeys(clusterId)) return "";
    return `this node does not forward its own cluster's summaries to other regions: summary.keys has no key for ${clusterId}`;
  }

  /**
   * Reports a missing ingress: other clusters see the exports of this cluster, but do not redirect clients to a cluster that has no address to call.
   */
  get #ingressWords(): string {
    if (this.#hasIngress || (this.exporterCount ?? 0) === 0) return "";
    return "other clusters cannot redirect clients to this cluster: no live node of this cluster has the role ingress or a border";
  }

  get #linkWords(): string {
    const names = this.unlinkedNeighbours().map(({ clusterId, region }) => `${clusterId} (region ${region})`);
    return names.length === 0 ? "" : `no border link to ${names.join(", ")}`;
  }

  get #standingWords(): string {
    if (!this.#options.isExporting) return "not exporting summaries: summary.export_enabled is off";
    if (this.isExporting) return "exporting summaries";
    if (this.#confirmsAfterMs !== undefined)
      return "exports paused, because many nodes of the cluster disappeared at the same time; earlier exports are confirmed by beacons";
    if (this.#standing === "withholding") return "exports paused, because this node may see only part of its cluster";
    const others = this.#exporterCount;
    const elsewhere =
      others > 0 ? `exported by ${counted(others, "other node")} of the cluster` : "not exported by any node of the cluster";
    return this.#parts.signer === undefined
      ? `not exporting summaries: this node has no summary.signing_key_file; ${elsewhere}`
      : `not exporting summaries; ${elsewhere}`;
  }

  get isExporting(): boolean {
    return this.#standing === "exporting";
  }

  /** Must be called if the process was paused for `lagMs`, because other nodes may have exported in the meantime. */
  onProcessPause(lagMs: number, time: Time): void {
    this.#borders?.stoodStill(lagMs, time);
    this.#judgeMonoMs = Number.NEGATIVE_INFINITY;
    // A busy machine causes many short pauses.
    if (lagMs < LEAST_STANDSTILL_MS) return;
    this.#wokeMonoMs = time.monoMs;
    this.#inStepMonoMs = Number.NEGATIVE_INFINITY;
    this.#inStepWithListedMonoMs = Number.NEGATIVE_INFINITY;
    this.#standing = "silent";
    this.#confirmsAfterMs = undefined;
    this.builder.stoodStill();
  }

  /** Before the node begins, only a policy change is handled: readers must first follow the policy from disk. */
  nextDeadlineMs(isBegun: boolean): number {
    if (!isBegun) return this.reads.isRunning ? this.#time.monoMs : NEVER;
    if (this.reads.isRunning || this.held.hasRefused || this.#parts.policies.policy !== this.#policy) return this.#time.monoMs;
    const restateMonoMs = this.isExporting ? this.#reassertQueue.nextDeadlineMs() : NEVER;
    const heldMonoMs = this.held.nextDeadlineMs(this.#time);
    return Math.min(this.#judgeMonoMs, this.builder.nextDeadlineMs(), restateMonoMs, heldMonoMs, this.#beaconDueMonoMs());
  }

  /** Performs some of the due work. */
  step(circumstances: SummaryContext, time: Time, out: NodeOutput[]): SummaryNews {
    this.#time = time;
    this.#noteRules(time);
    const isJudged = this.#isJudgeDue(circumstances, time);
    const areFactsChanged = isJudged && this.#judge(circumstances, time);
    if (isJudged) this.#reportLack(time, out);
    const drafts: Draft[] = [];
    this.builder.tick(time, drafts);
    const exported = drafts.filter(({ facts }) => this.held.export(facts, time) !== undefined);
    for (const draft of exported) out.push({ kind: "summaryExported", draft });
    this.failedCount += drafts.length - exported.length;
    const isBeaconDue = time.monoMs >= this.#beaconDueMonoMs();
    // Only the node that exports the beacon reacts to an echo of it.
    if ((this.#goAbove(time, out) && this.#isBeaconMine()) || isBeaconDue || (isJudged && this.#hasFirstIngress(circumstances)))
      this.held.makeBeacon(this.#ingress(circumstances), time);
    this.held.work(time);
    for (const event of this.held.unsaid.take()) out.push({ kind: "summaryUnsaid", event });
    for (const event of this.held.takeRefused()) out.push({ kind: "summaryRefused", event });
    const hasFollowed = this.followPolicy(out);
    const { revision } = this.held.replica;
    const isChanged = revision !== this.#seenRevision || hasFollowed;
    this.#seenRevision = revision;
    if (!isChanged) return { areFactsChanged, isChanged };
    this.reads.changed();
    out.push({ kind: "wake" });
    return { areFactsChanged, isChanged };
  }

  /** Performs part of a policy change for the readers. Returns whether they now follow the policy. */
  followPolicy(out: NodeOutput[]): boolean {
    const hasFollowed = this.reads.isRunning && this.reads.step(SWITCHED_AT_A_TIME);
    if (hasFollowed) out.push({ kind: "summariesFollowed" });
    return hasFollowed;
  }

  /** Reasserts summaries that other nodes have in a higher version. Returns whether the beacon is one of them. */
  #goAbove(time: Time, out: NodeOutput[]): boolean {
    if (!this.isExporting) return false;
    const { drafts, isBeacon } = this.#reassertQueue.step(time);
    for (const draft of drafts) {
      this.builder.saidAgain(draft.facts, time);
      out.push({ kind: "summaryExported", draft });
    }
    return isBeacon;
  }

  /** Reacts to changed keys and to policy changes. */
  #noteRules(time: Time): void {
    const { keys, policies } = this.#parts;
    const announced = this.#parts.announcements();
    if (announced !== this.#announced) for (const text of announced) this.held.announce({ ...text, hops: 0 }, time);
    this.#announced = announced;
    keys.tick(time);
    const version = keys.version();
    if (version !== this.#seenVersion) {
      const changed = keys.changedSince(this.#seenVersion);
      this.held.keysChanged(changed);
      // A pending announcement may now be valid, and the region must then receive it.
      for (const text of keys.announcements(time.wallMs, changed)) this.held.announce({ ...text, hops: 0 }, time);
    }
    this.#seenVersion = version;
    if (policies.policy !== this.#policy) this.held.rulesChanged();
    this.#policy = policies.policy;
  }

  /** Returns when this node must send the beacon, unless another node sends it first. */
  #beaconDueMonoMs(): number {
    return this.held.beaconDueMonoMs + (this.#isBeaconMine() ? 0 : (this.#confirmsAfterMs ?? NEVER));
  }

  #isExporterOf(key: KeyText): boolean {
    if (summaryKeyOf(key) === undefined) return this.#isBeaconMine();
    return this.isExporting && this.builder.exporterOf(nameOfKey(key)) === this.#options.nodeId;
  }

  #isBeaconMine(): boolean {
    return this.isExporting && this.builder.exporterOf(BEACON) === this.#options.nodeId;
  }

  /**
   * Whether an ingress exists although the last beacon had none. Such a beacon is possible because the entries of nodes appear only after the nodes
   * start. Each beacon triggers at most one more.
   */
  #hasFirstIngress(circumstances: SummaryContext): boolean {
    if (!this.#isBeaconMine() || this.held.beaconOf(this.#options.clusterId)?.ingress.length !== 0) return false;
    return this.#ingress(circumstances).length > 0;
  }

  #ingress({ fabric }: SummaryContext): readonly IngressNode[] {
    return ingressNodes(this.#parts.catalog, this.#options.clusterId, this.#kin(fabric));
  }

  /** Returns the live nodes of the cluster, including this one. */
  #kin(fabric: SummaryContext["fabric"]): readonly MemberUpdate[] {
    const { nodeId, clusterId } = this.#options;
    const self = fabric?.membership.find(nodeId);
    const others = fabric?.membership.listed().filter((member) => member.clusterId === clusterId) ?? [];
    return self === undefined ? others : [self, ...others];
  }

  /**
   * Unreachable nodes trigger an evaluation immediately, instead of at the next regular time, because a node that may see only part of its cluster
   * must not export.
   */
  #isJudgeDue({ fabric, isReady }: SummaryContext, { monoMs }: Time): boolean {
    return monoMs >= this.#judgeMonoMs || (this.isExporting && (!isReady || this.#isProtected(fabric)));
  }

  #isProtected(fabric: SummaryContext["fabric"]): boolean {
    return fabric?.lifecycle.protectedClusters().includes(this.#options.clusterId) === true;
  }

  /** Evaluates the export state. Returns whether other nodes must receive new facts. */
  #judge({ fabric, isReady }: SummaryContext, time: Time): boolean {
    this.#judgeMonoMs = time.monoMs + JUDGE_MS;
    this.#noteStale(time);
    const { nodeId, clusterId } = this.#options;
    const inStepWith = fabric === undefined ? "all" : fabric.readiness.inStepWith(time, this.#wokeMonoMs);
    if (inStepWith === "all") this.#inStepMonoMs = time.monoMs;
    if (inStepWith !== "less") this.#inStepWithListedMonoMs = time.monoMs;
    const kin = fabric?.membership.listed().filter((member) => member.clusterId === clusterId) ?? [];
    const members = kin.flatMap((member) => (member.exportsSummaries === true ? [member.nodeId] : []));
    this.#standing = this.#standingNow(fabric, isReady, time);
    this.#exporterCount = members.length;
    // A standalone node has no other clusters.
    this.#hasIngress = fabric === undefined || ingressMembers(this.#kin(fabric)).length > 0;
    this.#confirmsAfterMs = undefined;
    // Earlier exports are confirmed so that a live cluster does not appear dead, just as the region keeps the entries themselves.
    const isPart = this.#standing === "withholding" && time.monoMs - this.#inStepWithListedMonoMs <= IN_STEP_MS;
    if (isPart && members.length === 0) {
      const rank = new Exporters([...kin.map((member) => member.nodeId), nodeId]).rankOf(BEACON, nodeId);
      this.#confirmsAfterMs = rank * CONFIRM_APART_MS;
    }
    this.builder.follow({ members: this.isExporting ? [...members, nodeId] : members, standing: this.#standing });
    const isNews = this.#policyWithdrawal.look(fabric?.membership.listed() ?? [], time);
    const isTurned = this.#isAnnounced !== this.isExporting;
    this.#isAnnounced = this.isExporting;
    return isNews || isTurned;
  }

  #reportLack(time: Time, out: NodeOutput[]): void {
    const { exporterCount, standingText: standing } = this;
    // If the settings do not allow any node to export, no exporter is missing.
    if (exporterCount !== undefined && this.#lack.judge(exporterCount, time)) out.push({ kind: "exporters", exporterCount, standing });
  }

  #standingNow(fabric: SummaryContext["fabric"], isReady: boolean, { monoMs }: Time): Standing {
    if (this.#parts.signer === undefined || !this.#options.isExporting || !isReady) return "silent";
    // The policy on this node may be old too.
    if (this.#inStepWithListedMonoMs < this.#wokeMonoMs) return "silent";
    return monoMs - this.#inStepMonoMs > IN_STEP_MS || this.#isProtected(fabric) ? "withholding" : "exporting";
  }

  #noteStale(time: Time): void {
    const stale = staleSourcesOf(this.held, time);
    const turned = stale.symmetricDifference(this.#stale);
    this.#stale = stale;
    if (turned.size > 0) this.reads.turned(turned);
  }
}

/** A cluster without an exporter is reported after this time, in ms. The delay allows for nodes that start one after the other. */
const LACK_MS = 60_000;

/** Decides when to report that no live node of the cluster exports summaries, and when to report that one does so again. */
class MissingExporter {
  #sinceMonoMs: number | undefined;
  #isReported = false;

  /** Returns whether a change in the number of exporters must be reported. Must be called every second or more often. */
  judge(exporterCount: number, { monoMs }: Time): boolean {
    if (exporterCount !== 0) {
      const wasReported = this.#isReported;
      this.#sinceMonoMs = undefined;
      this.#isReported = false;
      return wasReported;
    }
    this.#sinceMonoMs ??= monoMs;
    if (this.#isReported || monoMs - this.#sinceMonoMs < LACK_MS) return false;
    this.#isReported = true;
    return true;
  }
}
