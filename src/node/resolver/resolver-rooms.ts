/**
 * The parts of a resolver: the followed and fetched entries, the policy for its callers, and everything that answers readers from them. The product
 * and the simulator build them here, and supply the time and the upstream messages.
 */
import { EntryStamper } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import { StoredRecord } from "../../catalog/record/stored-record.ts";
import { TraitsPool } from "../../catalog/record/traits.ts";
import type { ReaderNode } from "../../catalog/watch/reader.ts";
import { EVERYTHING } from "../../config/resolver.ts";
import type { Settings } from "../../config/settings.ts";
import { heldSources, SummaryReads, staleSourcesOf } from "../../discovery/summaries/summary-reads.ts";
import type { Time } from "../../lib/machine.ts";
import { mayBeSeen, type OnDenied, type Policy } from "../../policy/set/verdict.ts";
import { type EngineOptions, HISTORY_BOUNDS, PolicyEngine } from "../../policy/versions/engine.ts";
import type { ResolverInput, ResolverOptions, ResolverOrder } from "../../resolver/io-types.ts";
import { ResolverMachine } from "../../resolver/machine.ts";
import { resolverParts } from "../../resolver/parts.ts";
import { type FollowedKeys, FollowedSummaries, type FollowedSummariesOptions } from "../../resolver/summaries/followed-summaries.ts";
import { type CoreProcess, openReadingCore, openReplica, type ReadingCore, type ReadingCoreOptions } from "../core/reading-core.ts";

export interface ResolverRoomsOptions extends CoreProcess {
  readonly nodeId: string;
  /** Generation of the replica, to which the resolver itself adds no entries. */
  readonly generation: number;
  readonly resolver: ResolverOptions;
  readonly history?: Pick<EngineOptions, "maxBytes" | "maxVersions">;
  /** The summaries to follow. Absent if no summaries are followed. */
  readonly summaries?: FollowedRegions | undefined;
}

/** The summaries that a resolver follows, and the callback that wakes their watchers. */
export interface FollowedRegions extends Pick<ResolverSummariesParts, "keys" | "onAgain"> {
  readonly options: FollowedSummariesOptions;
}

export interface ResolverRooms extends ReadingCore<PolicyEngine> {
  readonly machine: ResolverMachine;
  /** Undefined if no summaries are followed. */
  readonly summaries: ResolverSummaries | undefined;
  readonly inputs: MachineInputs;
}

export function openResolverRooms(options: ResolverRoomsOptions, time: Time): ResolverRooms {
  const { settings, nodeId, generation, resolver, history = HISTORY_BOUNDS, ...process } = options;
  const { clusterId, region } = settings.node;
  const policies = new PolicyEngine({ nodeId, clusterId, ...history });
  const replica = openReplica({ nodeId, generation, lastSeq: 0, floor: 0 }, settings, policies);
  const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
  const node = { nodeId, clusterId, region, boot: options.boot };
  const onDenied: OnDenied = (caller, denial) => core.accessLog.onDenied(caller, denial);
  const followed = options.summaries;
  const summaries = followed && new ResolverSummaries(followed.options, { ...followed, now: options.now, policies, node, onDenied });
  const machine = new ResolverMachine(resolver, { replica, stamper, policies, summaries: summaries?.followed }, resolverParts, time);
  const core = openReadingCore({
    ...process,
    settings,
    replica,
    policies,
    loads: { of: (key) => machine.loadOf(key) },
    startedMonoMs: time.monoMs,
    beside: besideReplica(machine, policies, clusterId),
  });
  if (summaries !== undefined) core.switches.followers.add(summaries.reads);
  machine.policy.setShown(() => !core.reads.isPending);
  const inputs = new MachineInputs({ core, machine, summaries }, options.onAgain);
  return { ...core, machine, summaries, inputs, show: () => inputs.show() };
}

function besideReplica(machine: ResolverMachine, policies: PolicyEngine, clusterId: string): ReadingCoreOptions<PolicyEngine>["beside"] {
  return {
    lists: {
      of: (namespace) => machine.lookupsOf(namespace),
      // The replica has already admitted the followed entries.
      admits: (record: CatalogRecord) => record instanceof StoredRecord || mayBeSeen(policies.policy, record, record.traits, clusterId),
      portableCursor: machine.bookmarks.portableCursor,
      isAtPlace: () => machine.bookmarks.isAtBookmark,
    },
    names: {
      lookup: machine.held.lookup,
      shows: (namespace) => machine.isComplete(namespace),
      takeTouched: () => machine.held.takeTouched(),
    },
  };
}

interface InputsParts extends Pick<ResolverRooms, "machine" | "summaries"> {
  readonly core: ReadingCore<PolicyEngine>;
}

/** Passes inputs to the machine, and marks the resulting changes for readers. */
class MachineInputs {
  /** Number of inputs. Data changes only while an input is being handled. */
  count = 0;
  readonly #parts: InputsParts;
  readonly #onAgain: () => void;
  #policy: Policy;
  /** Number of upstream bookmarks about which watches were notified. */
  #notedCount = 0;

  constructor(parts: InputsParts, onAgain: () => void) {
    this.#parts = parts;
    this.#onAgain = onAgain;
    // The parts were opened under the pending policy, so even the absence of any policy is a change.
    this.#policy = parts.core.policies.policy;
  }

  /**
   * Handles an input, and marks changes for DNS and watches. Returns whether another policy is now in force. If so, the caller must run `switches`.
   */
  handle(input: ResolverInput, time: Time, out: ResolverOrder[]): boolean {
    const { machine, summaries, core } = this.#parts;
    this.count += 1;
    machine.handle(input, time, out);
    if (summaries?.show(time) === true) core.switches.onFollowed();
    this.show();
    const { policy } = core.policies;
    if (policy === this.#policy) return false;
    this.#policy = policy;
    machine.policyChanged();
    return true;
  }

  /** Monotonic time at which the next input is needed. */
  nextDeadlineMs(): number {
    const { machine, summaries } = this.#parts;
    return summaries?.reads.isRunning === true ? Number.NEGATIVE_INFINITY : machine.nextDeadlineMs();
  }

  /** Marks changes for readers. Must also be called after each step of `switches`. HOT: runs per message from the upstream. */
  show(): void {
    const { machine, core } = this.#parts;
    core.show(machine.held.isTouched);
    const { notedCount } = machine.bookmarks;
    if (notedCount !== this.#notedCount) {
      this.#notedCount = notedCount;
      // Readers can receive a portable cursor until the next change.
      core.fanout.all();
    }
    this.#onAgain();
  }
}

// Builds the options of a resolver from the settings.

/**
 * Returns the machine's options from the settings of a resolver (`node.mode` = resolver). `name` is the resolver's node id, by which other resolvers
 * know it.
 */
export function resolverOptionsOf({ node, resolver }: Settings, own: Pick<ResolverOptions, "name" | "random">): ResolverOptions {
  const { upstreams, namespaces, maxWatches, maxEntries, maxBytes, maxStaleMs, guardHoldMs, pruneIntervalMs } = resolver;
  const { ttlZoneMs: zoneMs, ttlRegionMs: regionMs, ttlGlobalMs: globalMs, negativeTtlMs: negativeMs } = resolver;
  return {
    ...own,
    clusterId: node.clusterId,
    region: node.region,
    upstreams,
    // An empty prefix matches all namespaces.
    namespaces: namespaces.includes(EVERYTHING) ? [""] : namespaces,
    maxWatches,
    maxEntries,
    maxBytes,
    ttls: { zoneMs, regionMs, globalMs, negativeMs },
    maxStaleMs,
    guardHoldMs,
    pruneIntervalMs,
    seedOnStart: resolver.seedOnStart,
    resyncIntervalMs: resolver.resyncIntervalMs,
  };
}

export interface ResolverSummariesParts {
  readonly policies: PolicyEngine;
  readonly keys: FollowedKeys;
  readonly node: ReaderNode;
  readonly onDenied: OnDenied;
  /** Called when a watcher of summaries must be woken. */
  readonly onAgain: () => void;
  readonly now: () => Time;
}

/** Number of units that one step of a policy switch handles. */
const SWITCHED_AT_A_TIME = 512;

/**
 * The summaries of a resolver: connects the followed summaries to the policy and to their readers. The rules are in `src/resolver/summaries/` and
 * `src/summary/`.
 */
export class ResolverSummaries {
  readonly followed: FollowedSummaries;
  readonly reads: SummaryReads;
  readonly #onAgain: () => void;
  #mark = 0;
  #revision = 0;
  #stale: ReadonlySet<string> = new Set();

  constructor(options: FollowedSummariesOptions, parts: ResolverSummariesParts) {
    const { policies, keys, now, onAgain } = parts;
    this.#onAgain = onAgain;
    this.followed = new FollowedSummaries(options, { policies, keys });
    const { held } = this.followed;
    const { lookup } = held.replica;
    // A resolver receives only the current records, so these cursors are valid only on this resolver.
    const lists = { of: () => [lookup], admits: () => true, portableCursor: () => "", isAtPlace: undefined };
    this.reads = new SummaryReads({ ...parts, replica: held.replica, sources: heldSources(held, now), lists });
  }

  /** Marks changes for readers. Returns whether this step completed a policy switch. If so, the caller must call `SwitchQueue.onFollowed`. */
  show(time: Time): boolean {
    const hasFollowed = this.reads.isRunning && this.reads.step(SWITCHED_AT_A_TIME);
    const { mark, held } = this.followed;
    if (mark === this.#mark && !hasFollowed) return false;
    this.#mark = mark;
    const stale = staleSourcesOf(held, time);
    const turned = stale.symmetricDifference(this.#stale);
    this.#stale = stale;
    if (turned.size > 0) this.reads.turned(turned);
    const { revision } = held.replica;
    if (revision === this.#revision && turned.size === 0 && !hasFollowed) return false;
    this.#revision = revision;
    this.reads.changed();
    this.#onAgain();
    return hasFollowed;
  }
}
