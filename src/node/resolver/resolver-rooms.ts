/**
 * The rooms of a resolver: what it follows and fetched, the policy by which it judges its callers, and all that answers readers from that. Product and
 * simulator build them here; the shells give them time, and what servers say.
 */

import { EntryStamper } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import { Lookup } from "../../catalog/query/lookup.ts";
import type { CatalogRecord, KeyText } from "../../catalog/record/record.ts";
import { Slab } from "../../catalog/record/slab.ts";
import { StoredRecord } from "../../catalog/record/stored-record.ts";
import { TraitsPool } from "../../catalog/record/traits.ts";
import { Replica } from "../../catalog/replica/replica.ts";
import type { Settings } from "../../config/settings.ts";
import { DnsNames, plainName } from "../../discovery/dns-names.ts";
import { Fanout } from "../../discovery/fanout.ts";
import { isAdmitted } from "../../discovery/policy-switch.ts";
import { Reads } from "../../discovery/reads.ts";
import { SwitchQueue } from "../../discovery/switch-queue.ts";
import { reverseBlocks } from "../../lib/addresses.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { AuditSink } from "../../policy/audit/record.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { mayBeSeen } from "../../policy/set/visibility.ts";
import { type EngineOptions, HISTORY_BOUNDS, PolicyEngine } from "../../policy/versions/engine.ts";
import type { ResolverInput, ResolverOptions, ResolverOrder } from "../../resolver/io-types.ts";
import { ResolverMachine } from "../../resolver/machine.ts";
import { resolverParts } from "../../resolver/parts.ts";
import type { FollowedSummariesOptions } from "../../resolver/summaries/followed-summaries.ts";
import { DiscoveryBytes } from "../../services/discovery/response-bytes.ts";
import { AccessLog } from "../access-log.ts";
import type { CopyRoomsOptions } from "../core/copies/copy-rooms.ts";
import { NodeLimits } from "../limits.ts";
import { ResolverSummaries, type ResolverSummariesParts } from "./summaries/resolver-summaries.ts";

export interface ResolverRoomsOptions
  extends Pick<CopyRoomsOptions, "blocks" | "boot" | "catalog" | "nameBounds" | "nodeId" | "onAgain" | "onDenied" | "zones"> {
  /** Of the replica, in which the resolver itself has no entries. */
  readonly generation: number;
  readonly resolver: ResolverOptions;
  readonly history: Pick<EngineOptions, "maxBytes" | "maxVersions">;
  /** What it follows of summaries; absent where it follows none. */
  readonly summaries?: FollowedRegions | undefined;
}

/** Which summaries a resolver follows, and how it wakes who watches them. */
export interface FollowedRegions extends Pick<ResolverSummariesParts, "keys" | "now" | "onAgain"> {
  readonly options: FollowedSummariesOptions;
}

/** What a process adds: its limits, and the record of who was answered. */
export interface ResolverProcess {
  readonly settings: Settings;
  readonly metrics: Metrics;
  readonly audit: Pick<AuditSink, "record">;
  readonly now: () => Time;
}

export interface OpenedRooms {
  readonly rooms: ResolverRooms;
  readonly limits: NodeLimits;
  readonly accessLog: AccessLog;
}

export function openResolverRooms(
  options: Pick<ResolverRoomsOptions, "boot" | "generation" | "nodeId" | "onAgain" | "resolver" | "summaries">,
  { settings, metrics, audit, now }: ResolverProcess,
): OpenedRooms {
  const { catalog, dns } = settings;
  const accessLog = new AccessLog(metrics, { sampleReads: settings.audit.sampleReads, wallMs: () => now().wallMs, audit });
  const bounds = { catalog, history: HISTORY_BOUNDS, zones: dns.zones, blocks: reverseBlocks(dns) };
  const rooms = new ResolverRooms({ ...options, ...bounds, onDenied: accessLog.onDenied }, now());
  const limits = new NodeLimits({ settings, metrics, policies: rooms.policies, lookup: rooms.replica.lookup, now, audit });
  return { rooms, limits, accessLog };
}

export class ResolverRooms {
  readonly replica: Replica;
  readonly policies: PolicyEngine;
  readonly fanout: Fanout;
  readonly dnsNames: DnsNames;
  readonly reads: Reads;
  readonly bytes: DiscoveryBytes;
  readonly loads: { of(key: KeyText): LoadView | undefined };
  readonly switches: SwitchQueue;
  readonly machine: ResolverMachine;
  /** Undefined where it follows none. */
  readonly summaries: ResolverSummaries | undefined;
  /** Counts the inputs of the machine: between two of them nothing arrives. */
  inputCount = 0;
  readonly #onAgain: () => void;
  #policy: Policy;
  /** What DNS and watches know of. */
  #shown = { revision: 0, collectedRevision: 0 };
  /** Bookmarks of the upstream of which watches know. */
  #notedCount = 0;

  constructor(options: ResolverRoomsOptions, time: Time) {
    const { nodeId, generation, boot, resolver, catalog, history, zones, blocks, onDenied, onAgain, nameBounds } = options;
    const { clusterId, region } = resolver;
    const policies = new PolicyEngine({ nodeId, clusterId, ...history });
    const replica = new Replica(new Lookup(), new Slab(), { nodeId, generation, lastSeq: 0, floor: 0, ...catalog });
    replica.setAdmission((stored) => isAdmitted(policies.policy, stored, clusterId));
    const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
    const node = { nodeId, clusterId, region, boot };
    const { summaries } = options;
    this.summaries = summaries && new ResolverSummaries(summaries.options, { ...summaries, policies, node, onDenied });
    const followed = this.summaries?.followed;
    const machine = new ResolverMachine(resolver, { replica, stamper, policies, summaries: followed }, resolverParts, time);
    const lists = {
      of: (namespace: string) => machine.lookupsOf(namespace),
      // Those that are followed have passed the admission of the replica.
      admits: (record: CatalogRecord) => record instanceof StoredRecord || mayBeSeen(policies.policy, record, record.traits, clusterId),
      portableCursor: machine.bookmarks.portableCursor,
      isAtPlace: () => machine.bookmarks.isAtBookmark,
    };
    this.replica = replica;
    this.policies = policies;
    this.machine = machine;
    this.#onAgain = onAgain;
    this.fanout = new Fanout(onAgain, nameBounds);
    this.dnsNames = new DnsNames(replica, zones.map(plainName), blocks, {
      lookup: machine.held.lookup,
      shows: (namespace) => machine.isComplete(namespace),
      takeTouched: () => machine.held.takeTouched(),
    });
    this.reads = new Reads(replica, node, { policies, onDenied, lists });
    this.switches = new SwitchQueue({ policies, replica, reads: this.reads, fanout: this.fanout, clusterId });
    if (this.summaries !== undefined) this.switches.followers.add(this.summaries.reads);
    this.loads = { of: (key) => machine.loadOf(key) };
    this.bytes = new DiscoveryBytes(replica.slab, this.loads);
    machine.policy.setShown(() => !this.reads.isPending);
    // The reads were built under the policy that is pending. That no policy is in force is a change from there.
    this.#policy = policies.policy;
  }

  /** Takes an input, and notes for DNS and for watches what is new. Returns whether another policy is in force: `switches` is then to be run. */
  handle(input: ResolverInput, time: Time, out: ResolverOrder[]): boolean {
    this.inputCount += 1;
    this.machine.handle(input, time, out);
    if (this.summaries?.show(time) === true) this.switches.onFollowed();
    this.show();
    const { policy } = this.policies;
    if (policy === this.#policy) return false;
    this.#policy = policy;
    this.machine.policyChanged();
    return true;
  }

  /** When the next input is needed, by monotonic ms. */
  nextDeadlineMs(): number {
    return this.summaries?.reads.isRunning === true ? Number.NEGATIVE_INFINITY : this.machine.nextDeadlineMs();
  }

  /** Notes what is new, also after a step of `switches`. HOT: once a message of the upstream. */
  show(): void {
    const { revision, collectedRevision } = this.replica;
    const touched = this.replica.takeTouched();
    const isChanged = touched.size > 0 || revision !== this.#shown.revision || collectedRevision !== this.#shown.collectedRevision;
    if (isChanged || this.machine.held.isTouched) this.dnsNames.refresh();
    if (isChanged) {
      this.#shown = { revision, collectedRevision };
      this.fanout.changed(touched);
    }
    const { notedCount } = this.machine.bookmarks;
    if (notedCount !== this.#notedCount) {
      this.#notedCount = notedCount;
      // Until the next change there is a cursor that is good everywhere.
      this.fanout.all();
    }
    this.#onAgain();
  }
}
