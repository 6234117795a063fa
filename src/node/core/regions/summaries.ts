/**
 * The summaries of a node: joins what it holds of clusters, what its own cluster says, who may say it, and who reads it (docs/design/summaries.md). The rules are
 * in `src/summary/`; here they only meet the catalog, the policy and the members.
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
  /** Whether this cluster makes summaries at all. */
  readonly isExporting: boolean;
  /** What waits for a border link for longer, or is more, is dropped; see the settings. */
  readonly storeForwardMs: number;
  /** The export rules of the borders that the settings name, by region. */
  readonly borderExports: ReadonlyMap<string, readonly (readonly string[])[]>;
  readonly neighbours: readonly Neighbour[];
  readonly storeForwardMaxMessages: number;
}

export interface SummariesParts extends Pick<HeldParts, "imports"> {
  readonly catalog: Replica;
  readonly policies: Pick<PolicyEngine, "policy">;
  readonly keys: KeyRegistry;
  /** The key of this cluster; undefined at a node without it. */
  readonly signer: ClusterSigner | undefined;
  /** What this cluster announces of its keys. The same list while it is the same. */
  announcements(): readonly SignedBytes[];
  readonly node: ReaderNode;
  readonly onDenied: OnDenied;
  /** Called when a watcher must be woken again. */
  readonly onAgain: () => void;
  readonly now: () => Time;
}

/** What the rest of the node is. */
export interface SummaryContext {
  /** Undefined for a node that stands alone. */
  readonly fabric: Pick<Fabric, "lifecycle" | "membership" | "readiness"> | undefined;
  /** The node is ready and does not stop. */
  readonly isReady: boolean;
}

/** What came of a step. */
export interface SummaryNews {
  /** Others are to be told other facts of this node. */
  readonly areFactsChanged: boolean;
  /** Other nodes and readers may have something to hear. */
  readonly isChanged: boolean;
}

/** The standing is judged this often, because being in step is asked of every member. */
const JUDGE_MS = 500;
/** A node that was in step within this time sees the whole of its cluster. */
const IN_STEP_MS = 10_000;
/** What a shorter standstill makes old is no older than what a slow link brings. */
const LEAST_STANDSTILL_MS = 1000;
/** The name by which the exporter of the beacon is drawn. */
const BEACON = "\0beacon";
/** Of nodes that export nothing only because so much of their cluster vanished, the next one confirms so much later. By then it knows of the other's beacon. */
const CONFIRM_APART_MS = 1000;
/** Units of a change of policy in one step. */
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
  /** The end of the last standstill. What was in step before is not any more. */
  #wokeMonoMs = Number.NEGATIVE_INFINITY;
  #standing: Standing = "silent";
  /** As others are told it. */
  #isToldToExport = false;
  #seenRevision = 0;
  #seenVersion: number;
  #policy: PolicyEngine["policy"];
  #stale: ReadonlySet<string> = new Set();
  #borders: BorderChannel | undefined;
  /** The regions that are linked to this node's region. Undefined for a node without borders. */
  #linkedRegions: (() => ReadonlySet<string>) | undefined;
  readonly #policyWithdrawal: PolicyWithdrawal;
  #announced: readonly SignedBytes[] = [];
  /** Other nodes of the cluster that export. */
  #exporterCount = 0;
  /** Nobody of the cluster exports, and this node does not only because so much of it vanished: so long after the beacon is due it sends it. */
  #confirmsAfterMs: number | undefined;
  readonly #lack = new ExporterLack();
  /** Some live node of the cluster takes calls of other clusters. */
  #hasIngress = true;
  /** Drafts that could not be exported. */
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

  /** What the fabric replicates inside the region. */
  get replicated(): SummaryParts {
    const { held } = this;
    return { replica: held.replica, stamper: new SummaryStamper((source) => held.regionOf(source)), receipts: held };
  }

  /** All that is held, for the next start, to be read over several turns. */
  blocks(time: Time): Iterable<Uint8Array> {
    return summaryBlocks(this.replicated, this.#options.clusterId, time);
  }

  /** What is said on border links. */
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
    // Half a ttl: one beacon may be lost before others of the region are asked.
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

  /** What other nodes are told of this one. */
  get facts(): Pick<MemberFacts, "exportsSummaries" | "heardRules"> {
    const { told: heardRules } = this.#policyWithdrawal;
    return { ...(this.#isToldToExport && { exportsSummaries: true }), ...(heardRules.length > 0 && { heardRules }) };
  }

  /** Live nodes of the cluster that export, this one included. Undefined where the settings let none export. */
  get exporterCount(): number | undefined {
    return this.#options.isExporting ? this.#exporterCount + Number(this.isExporting) : undefined;
  }

  /** Age of the oldest summary that is due on some border and not taken there, because a link is slow or there is none. */
  exportLagMs(time: Time): number {
    return this.#borders?.lagMs(time) ?? 0;
  }

  /** The clusters in `fabric.borders` whose region is not linked to any node of this region. O(members). */
  unlinkedNeighbours(): readonly Neighbour[] {
    const linked = this.#linkedRegions?.();
    return this.#options.neighbours.filter(({ region }) => linked?.has(region) !== true);
  }

  /** Where clusters of other regions take calls, by the beacons of those that are not dropped. */
  otherClusters(time: Time): readonly RemoteCluster[] {
    return this.held.beacons(time).flatMap(({ source: clusterId, ageMs }) => {
      const region = this.held.regionOf(clusterId);
      if (region === undefined || region === this.#options.region) return [];
      return [{ clusterId, region, heardWallMs: time.wallMs - ageMs, ingress: this.held.beaconOf(clusterId)?.ingress ?? [] }];
    });
  }

  /** What is on its way, for people. */
  lag(fabric: LagParts["fabric"], time: Time): SummaryLag {
    const { held, failedCount, isExporting, exporterCount = 0, standingText: detail } = this;
    const exports = { isExporting, exporterCount, detail, lagMs: this.exportLagMs(time), failedCount };
    return summaryLag({ held, exports, neighbours: this.#options.neighbours, channel: this.#borders, fabric }, time);
  }

  /** What this cluster exports of a namespace, and whether it may. */
  exportsOf(namespace: string, { wallMs }: Time): NamespaceExports {
    const { exportScope, includeUnscoped, exportNamespaces, isExporting } = this.#options;
    const options = { source: this.#options, exportScope, includeUnscoped, exportNamespaces };
    const verdict = exportVerdict(this.#parts.policies.policy, namespace, options, wallMs);
    const { count = 0, lastWallMs } = this.held.toldOf(namespace) ?? {};
    return { count, lastWallMs, ...(isExporting ? verdict : { allowed: false, reason: "export_disabled" }) };
  }

  /** For people. */
  get standingText(): string {
    const texts = [this.#standingWords, this.#silenceWords, this.#ingressWords, this.#linkWords, this.held.unsaid.textAt(this.#time)];
    return texts.filter((text) => text !== "").join("; ");
  }

  /** A border node cannot verify what a cluster says of which it knows no key, also where that is its own. */
  get #silenceWords(): string {
    const { clusterId, isExporting, neighbours } = this.#options;
    if (!isExporting || neighbours.length === 0 || this.#parts.keys.hasKeys(clusterId)) return "";
    return `it passes nothing of its cluster on to other regions: summary.keys has no key of ${clusterId}`;
  }

  /** Other clusters see what this one exports, and lead nobody to a cluster that names no place to call. */
  get #ingressWords(): string {
    if (this.#hasIngress || (this.exporterCount ?? 0) === 0) return "";
    return "clients of other clusters cannot be led here: no live node of the cluster has the role ingress or a border";
  }

  get #linkWords(): string {
    const names = this.unlinkedNeighbours().map(({ clusterId, region }) => `${clusterId} (region ${region})`);
    return names.length === 0 ? "" : `no border link to ${names.join(", ")}`;
  }

  get #standingWords(): string {
    if (!this.#options.isExporting) return "held; not exported: summary.export_enabled is off";
    if (this.isExporting) return "held and exported";
    if (this.#confirmsAfterMs !== undefined)
      return "held and confirmed by beacons; what changes is not exported, because so much of the cluster vanished at once";
    if (this.#standing === "withholding") return "held; what changes is not exported, because this node may see only a part of its cluster";
    const others = this.#exporterCount;
    const elsewhere = others > 0 ? `exported by ${others} other nodes of the cluster` : "exported by no node of the cluster";
    return this.#parts.signer === undefined ? `held; ${elsewhere}: this one has no summary.signing_key_file` : `held; ${elsewhere}`;
  }

  get isExporting(): boolean {
    return this.#standing === "exporting";
  }

  /** The process stood still for so long. Others may have exported meanwhile. */
  onProcessPause(lagMs: number, time: Time): void {
    this.#borders?.stoodStill(lagMs, time);
    this.#judgeMonoMs = Number.NEGATIVE_INFINITY;
    // A busy machine has many of these.
    if (lagMs < LEAST_STANDSTILL_MS) return;
    this.#wokeMonoMs = time.monoMs;
    this.#inStepMonoMs = Number.NEGATIVE_INFINITY;
    this.#inStepWithListedMonoMs = Number.NEGATIVE_INFINITY;
    this.#standing = "silent";
    this.#confirmsAfterMs = undefined;
    this.builder.stoodStill();
  }

  /** A node begins when the policy of its disk is in force, which readers must follow before. */
  nextDeadlineMs(isBegun: boolean): number {
    if (!isBegun) return this.reads.isRunning ? this.#time.monoMs : NEVER;
    if (this.reads.isRunning || this.held.hasRefused || this.#parts.policies.policy !== this.#policy) return this.#time.monoMs;
    const restateMonoMs = this.isExporting ? this.#reassertQueue.nextDeadlineMs() : NEVER;
    const heldMonoMs = this.held.nextDeadlineMs(this.#time);
    return Math.min(this.#judgeMonoMs, this.builder.nextDeadlineMs(), restateMonoMs, heldMonoMs, this.#beaconDueMonoMs());
  }

  /** Does a slice of what is due. */
  step(circumstances: SummaryContext, time: Time, out: NodeOutput[]): SummaryNews {
    this.#time = time;
    this.#noteRules(time);
    const isJudged = this.#isJudgeDue(circumstances, time);
    const areFactsChanged = isJudged && this.#judge(circumstances, time);
    if (isJudged) this.#tellOfLack(time, out);
    const drafts: Draft[] = [];
    this.builder.tick(time, drafts);
    const exported = drafts.filter(({ facts }) => this.held.export(facts, time) !== undefined);
    for (const draft of exported) out.push({ kind: "summaryExported", draft });
    this.failedCount += drafts.length - exported.length;
    const isBeaconDue = time.monoMs >= this.#beaconDueMonoMs();
    // Who is not the exporter of the beacon holds its echo for that one.
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

  /** Does a slice of a change of policy for the readers. Returns whether they follow it now. */
  followPolicy(out: NodeOutput[]): boolean {
    const hasFollowed = this.reads.isRunning && this.reads.step(SWITCHED_AT_A_TIME);
    if (hasFollowed) out.push({ kind: "summariesFollowed" });
    return hasFollowed;
  }

  /** Says again what others know better of this cluster. Returns whether that is its beacon too. */
  #goAbove(time: Time, out: NodeOutput[]): boolean {
    if (!this.isExporting) return false;
    const { drafts, isBeacon } = this.#reassertQueue.step(time);
    for (const draft of drafts) {
      this.builder.saidAgain(draft.facts, time);
      out.push({ kind: "summaryExported", draft });
    }
    return isBeacon;
  }

  /** Keys and the policy may be others than they were. */
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
      // An announcement that waited may be good now, and the region is to know it.
      for (const text of keys.announcements(time.wallMs, changed)) this.held.announce({ ...text, hops: 0 }, time);
    }
    this.#seenVersion = version;
    if (policies.policy !== this.#policy) this.held.rulesChanged();
    this.#policy = policies.policy;
  }

  /** When this node is to send the beacon, if nobody does before. */
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

  /** The last beacon says that nobody takes calls, because the entries of nodes come after their start, and now somebody does. So each beacon is followed by one more at most. */
  #hasFirstIngress(circumstances: SummaryContext): boolean {
    if (!this.#isBeaconMine() || this.held.beaconOf(this.#options.clusterId)?.ingress.length !== 0) return false;
    return this.#ingress(circumstances).length > 0;
  }

  #ingress({ fabric }: SummaryContext): readonly IngressNode[] {
    return ingressNodes(this.#parts.catalog, this.#options.clusterId, this.#kin(fabric));
  }

  /** The live nodes of the cluster, this one included. */
  #kin(fabric: SummaryContext["fabric"]): readonly MemberUpdate[] {
    const { nodeId, clusterId } = this.#options;
    const self = fabric?.membership.find(nodeId);
    const others = fabric?.membership.listed().filter((member) => member.clusterId === clusterId) ?? [];
    return self === undefined ? others : [self, ...others];
  }

  /** Orphans are counted as soon as they are known, so a node that may see a part must not export until it is judged next. */
  #isJudgeDue({ fabric, isReady }: SummaryContext, { monoMs }: Time): boolean {
    return monoMs >= this.#judgeMonoMs || (this.isExporting && (!isReady || this.#isProtected(fabric)));
  }

  #isProtected(fabric: SummaryContext["fabric"]): boolean {
    return fabric?.lifecycle.protectedClusters().includes(this.#options.clusterId) === true;
  }

  /** Returns whether others are to hear of another standing. */
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
    // A node that stands alone has no other clusters.
    this.#hasIngress = fabric === undefined || ingressMembers(this.#kin(fabric)).length > 0;
    this.#confirmsAfterMs = undefined;
    // What was exported is confirmed, as the region itself keeps the entries. Nobody is to see a cluster die that lives.
    const isPart = this.#standing === "withholding" && time.monoMs - this.#inStepWithListedMonoMs <= IN_STEP_MS;
    if (isPart && members.length === 0) {
      const rank = new Exporters([...kin.map((member) => member.nodeId), nodeId]).rankOf(BEACON, nodeId);
      this.#confirmsAfterMs = rank * CONFIRM_APART_MS;
    }
    this.builder.follow({ members: this.isExporting ? [...members, nodeId] : members, standing: this.#standing });
    const isNews = this.#policyWithdrawal.look(fabric?.membership.listed() ?? [], time);
    const isTurned = this.#isToldToExport !== this.isExporting;
    this.#isToldToExport = this.isExporting;
    return isNews || isTurned;
  }

  #tellOfLack(time: Time, out: NodeOutput[]): void {
    const { exporterCount, standingText: standing } = this;
    // Where the settings let no node export, none is missed.
    if (exporterCount !== undefined && this.#lack.judge(exporterCount, time)) out.push({ kind: "exporters", exporterCount, standing });
  }

  #standingNow(fabric: SummaryContext["fabric"], isReady: boolean, { monoMs }: Time): Standing {
    if (this.#parts.signer === undefined || !this.#options.isExporting || !isReady) return "silent";
    // Its policy may be old too.
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

/** A cluster without an exporter for so long is told of. Nodes that start one after the other need some of it. */
const LACK_MS = 60_000;

/** Decides when people are told that no live node of the cluster exports summaries, and that one does again. */
class ExporterLack {
  #sinceMonoMs: number | undefined;
  #isTold = false;

  /** Takes how many export now, and returns whether that is to be told. To be called each second, or more often. */
  judge(exporterCount: number, { monoMs }: Time): boolean {
    if (exporterCount !== 0) {
      const wasTold = this.#isTold;
      this.#sinceMonoMs = undefined;
      this.#isTold = false;
      return wasTold;
    }
    this.#sinceMonoMs ??= monoMs;
    if (this.#isTold || monoMs - this.#sinceMonoMs < LACK_MS) return false;
    this.#isTold = true;
    return true;
  }
}
