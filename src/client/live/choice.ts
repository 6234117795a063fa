/** The result of one `resolve`: the endpoint for one call, and the methods that report the outcome of the call. */
import { create } from "@bufbuild/protobuf";
import { type Entry, EntryKind, type Target, TargetSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { ResolvePolicy } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Chooser } from "../../consumer/chooser.ts";
import type { Endpoint } from "../../consumer/endpoint.ts";
import { hostOf, hostTargets, isCalledAtNode } from "../../consumer/hosting.ts";
import { SELECT_POLICY, type SelectPolicy, type ZoneLocality } from "../../consumer/locality-levels.ts";
import { drawTarget } from "../../consumer/targets.ts";
import type { Time } from "../../lib/machine.ts";
import { checkOptions, enumRule, type OptionRule, type OptionRules, TEXT } from "../option-rules.ts";
import { DEFAULT_POLICY, type LiveEntry, type NamedEntries } from "./named-entries.ts";

/** Options of `resolve`. */
export interface ResolveOptions {
  /** Default: SERVICE. */
  readonly kind?: EntryKind;
  /** How to choose. Default: LOAD_AWARE. */
  readonly policy?: ResolvePolicy;
  /** Key for the HASH policy: the same key selects the same entry for as long as that entry exists and is fit for traffic. */
  readonly hashKey?: string;
  /** Choices that have already been tried and must not be repeated. `resolve` chooses another endpoint, or none. */
  readonly avoid?: readonly Choice[];
}

const CHOICES: OptionRule = {
  isRight: (value) => Array.isArray(value) && value.every((one) => one instanceof Choice),
  what: "a list of choices",
  Wrong: TypeError,
};
const RULES: OptionRules<ResolveOptions> = {
  kind: enumRule(EntryKind, "EntryKind"),
  policy: enumRule(ResolvePolicy, "ResolvePolicy"),
  hashKey: TEXT,
  avoid: CHOICES,
};

/** Throws a TypeError or RangeError that names the invalid option. */
export function checkResolveOptions(options: ResolveOptions): void {
  checkOptions("resolve", options, RULES);
  if (options.policy === ResolvePolicy.HASH && !options.hashKey) throw new RangeError("resolve: policy HASH requires a hashKey");
}

/** The requested kind. */
export function kindIn({ kind }: ResolveOptions): EntryKind {
  return kind === undefined || kind === EntryKind.UNSPECIFIED ? EntryKind.SERVICE : kind;
}

/** A chosen endpoint. Report the call with `begin`, and then with `succeeded`, `failed` or `abandoned`: later choices use the outcomes. */
export class Choice {
  /** The chosen port of the entry. Undefined if the entry has no ports. */
  readonly target: Target | undefined;
  readonly endpoint: Endpoint<LiveEntry>;
  readonly #candidate: LiveEntry;
  readonly #group: NamedEntries;
  readonly #chooser: Chooser<LiveEntry>;
  readonly #now: () => Time;
  #beganMonoMs: number | undefined;

  /** `group` and `chooser` selected the endpoint. `now` is the clock that measures calls. */
  // HOT: runs once per `resolve`, which does not create any other object.
  constructor(
    endpoint: Endpoint<LiveEntry>,
    target: Target | undefined,
    group: NamedEntries,
    chooser: Chooser<LiveEntry>,
    now: () => Time,
  ) {
    this.#candidate = endpoint.candidate;
    this.target = target;
    this.endpoint = endpoint;
    this.#group = group;
    this.#chooser = chooser;
    this.#now = now;
  }

  /** The chosen entry, in its state at the time of the choice. */
  // The entry is read only on demand, because reading it costs a cache miss.
  get entry(): Entry {
    return this.#candidate.entry;
  }

  /** Records the start of the call. Afterwards, call `succeeded`, `failed` or `abandoned`. Further calls have no effect. */
  begin(): this {
    if (this.#beganMonoMs === undefined) {
      this.#beganMonoMs = this.#now().monoMs;
      this.#chooser.started(this.endpoint);
    }
    return this;
  }

  /** Records a successful call. The latency is the time since `begin`. */
  succeeded(): void {
    const beganMonoMs = this.#end();
    if (beganMonoMs === undefined) return;
    const time = this.#now();
    const latencyMs = time.monoMs - beganMonoMs;
    this.#chooser.succeeded(this.endpoint, latencyMs, time);
    this.#group.succeededCount += 1;
    this.#group.latencies.add(latencyMs);
  }

  /** Records a failure that might not occur on another endpoint: the call was rejected, interrupted, or not answered in time. */
  failed(): void {
    if (this.#end() === undefined) return;
    this.#chooser.failed(this.endpoint, this.#now());
    this.#group.failedCount += 1;
  }

  /** Records a call that ended without information about the endpoint, for example because the caller canceled it. */
  abandoned(): void {
    if (this.#end() !== undefined) this.#chooser.abandoned(this.endpoint);
  }

  #end(): number | undefined {
    const beganMonoMs = this.#beganMonoMs;
    // Later outcomes of this call are ignored.
    this.#beganMonoMs = undefined;
    return beganMonoMs;
  }
}

/** The namespace in which nodes register themselves. */
export const NODES_NAMESPACE = "discovery.nodes";

/** Returns the node entries with a given ID, one per cluster. */
export type NodesOf = (nodeId: string) => Iterable<Entry>;

/** The program's location and clock, and the nodes that it knows. */
export interface ClientContext {
  readonly place: ZoneLocality | undefined;
  readonly now: () => Time;
  readonly nodesOf: NodesOf;
}

const NOWHERE: ZoneLocality = { region: "", zone: "" };
const chance: { random: () => number; place: ZoneLocality } = { random: Math.random, place: NOWHERE };

/**
 * Chooses one of a name's entries. Returns undefined if there are no entries, all are in MAINTENANCE, or all have been tried. HOT (bench/resolve.ts).
 */
export function chosenFrom(group: NamedEntries, options: ResolveOptions, { place, now, nodesOf }: ClientContext): Choice | undefined {
  const { policy = ResolvePolicy.LOAD_AWARE, hashKey = "", avoid } = options;
  chance.place = place ?? NOWHERE;
  const chooser = group.chooser(policyOf(policy), chance);
  const wishes =
    avoid === undefined && hashKey === "" ? undefined : { hashKey, avoid: avoid && new Set(avoid.map(({ endpoint }) => endpoint)) };
  const endpoint = chooser.choose(now(), Math.random, wishes);
  if (endpoint === undefined) return undefined;
  const target = endpoint.target(Math.random()) ?? hostTarget(endpoint.candidate.entry, nodesOf);
  return new Choice(endpoint, target, group, chooser, now);
}

/** For an entry that is called through its node, returns the endpoint of the node. */
function hostTarget(entry: Entry, nodesOf: NodesOf): Target | undefined {
  const host = isCalledAtNode(entry) ? hostOf(entry, nodesOf(entry.nodeId)) : undefined;
  const target = host && drawTarget(hostTargets(host.detail), Math.random());
  return target && create(TargetSchema, target);
}

function policyOf(policy: ResolvePolicy): SelectPolicy {
  switch (policy) {
    case ResolvePolicy.ROUND_ROBIN:
      return SELECT_POLICY.ROUND_ROBIN;
    case ResolvePolicy.RANDOM:
      return SELECT_POLICY.RANDOM;
    case ResolvePolicy.HASH:
      return SELECT_POLICY.HASH;
    case ResolvePolicy.LOAD_AWARE:
    case ResolvePolicy.UNSPECIFIED:
    default:
      return DEFAULT_POLICY;
  }
}
