/** One answer of `resolve`: the endpoint for one call, and how the program says what came of the call. */
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

export interface ResolveOptions {
  /** Default SERVICE. */
  readonly kind?: EntryKind;
  /** How to choose; default LOAD_AWARE. */
  readonly policy?: ResolvePolicy;
  /** For the policy HASH: the same text gives the same entry while that entry is there and fit for traffic. */
  readonly hashKey?: string;
  /** Choices that were tried already: another endpoint is chosen, or none. */
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

/** Throws a TypeError or RangeError that names the option which is wrong. */
export function checkResolveOptions(options: ResolveOptions): void {
  checkOptions("resolve", options, RULES);
  if (options.policy === ResolvePolicy.HASH && !options.hashKey) throw new RangeError("resolve: the policy HASH needs a hashKey");
}

/** The kind that is asked for. */
export function kindIn({ kind }: ResolveOptions): EntryKind {
  return kind === undefined || kind === EntryKind.UNSPECIFIED ? EntryKind.SERVICE : kind;
}

export class Choice {
  /** The chosen port of the entry; undefined if it has none. */
  readonly target: Target | undefined;
  readonly endpoint: Endpoint<LiveEntry>;
  readonly #candidate: LiveEntry;
  readonly #group: NamedEntries;
  readonly #chooser: Chooser<LiveEntry>;
  readonly #now: () => Time;
  #beganMonoMs: number | undefined;

  /** `group` and `chooser` are where the endpoint comes from, and `now` is the clock of the calls. */
  // HOT: once a `resolve`, which makes no other object.
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

  /** The chosen entry, as it was when it was chosen. */
  // It is looked up when it is asked for, because a step to it is a miss of the cache.
  get entry(): Entry {
    return this.#candidate.entry;
  }

  /** The call begins. Then one of `succeeded`, `failed` and `abandoned` follows; a second one counts for nothing. */
  begin(): this {
    if (this.#beganMonoMs === undefined) {
      this.#beganMonoMs = this.#now().monoMs;
      this.#chooser.started(this.endpoint);
    }
    return this;
  }

  /** The call ended well. Its latency is the time since `begin`. */
  succeeded(): void {
    const beganMonoMs = this.#end();
    if (beganMonoMs === undefined) return;
    const time = this.#now();
    const latencyMs = time.monoMs - beganMonoMs;
    this.#chooser.succeeded(this.endpoint, latencyMs, time);
    this.#group.succeededCount += 1;
    this.#group.latencies.add(latencyMs);
  }

  /** The call failed for a reason that another endpoint might not have: it was refused, cut, or not answered in time. */
  failed(): void {
    if (this.#end() === undefined) return;
    this.#chooser.failed(this.endpoint, this.#now());
    this.#group.failedCount += 1;
  }

  /** The call ended without a verdict on the endpoint, for example because the caller gave it up. */
  abandoned(): void {
    if (this.#end() !== undefined) this.#chooser.abandoned(this.endpoint);
  }

  #end(): number | undefined {
    const beganMonoMs = this.#beganMonoMs;
    // Later verdicts find a call that never began.
    this.#beganMonoMs = undefined;
    return beganMonoMs;
  }
}

/** Where nodes register themselves. */
export const NODES_NAMESPACE = "discovery.nodes";

/** The entries of the nodes with an id, one for each cluster. */
export type NodesOf = (nodeId: string) => Iterable<Entry>;

/** Where the program is, its clock, and the nodes that it knows. */
export interface ClientContext {
  readonly place: ZoneLocality | undefined;
  readonly now: () => Time;
  readonly nodesOf: NodesOf;
}

const NOWHERE: ZoneLocality = { region: "", zone: "" };
const chance: { random: () => number; place: ZoneLocality } = { random: Math.random, place: NOWHERE };

/** Chooses among the entries of a name. Undefined when there are none, when all are in MAINTENANCE, or when all were tried. HOT: bench/resolve.ts. */
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

/** The endpoint of its node where an entry is called there. */
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
