/**
 * Which of its upstreams a resolver follows: the quickest one that may be followed. It leaves an upstream at once when that fails, and for a quicker one only
 * when that was clearly better for a while, because each change makes it catch up with another server (semantics.md, Resolver 10).
 */
import { backoffMs } from "../lib/backoff.ts";
import { NEVER } from "../lib/machine.ts";

/** What a server says about itself, or about the way to it. */
export interface UpstreamFacts {
  readonly clusterId: string;
  readonly region: string;
  /** The names of the resolvers through which its data comes, the nearest first. Empty at a node. */
  readonly via: readonly string[];
}

export interface UpstreamsOptions {
  /** In the order of preference among equals. Not empty. */
  readonly addresses: readonly string[];
  /** This resolver, by the name that it adds to `via`. */
  readonly name: string;
  readonly clusterId: string;
  readonly region: string;
  /** A random number, 0 ≤ x < 1. */
  readonly random: () => number;
}

/** Why an upstream is not followed, whatever its latency. */
export type UpstreamRefusal = "cluster" | "region" | "loop" | "chain" | "policy";

/** What counts as a fault of an upstream: that it began to be refused, or sent what no server of ours can have sent. */
export const UPSTREAM_FAULTS = ["cluster", "region", "loop", "chain", "policy", "garbled"] as const satisfies readonly (
  | UpstreamRefusal
  | "garbled"
)[];
export type UpstreamFault = (typeof UPSTREAM_FAULTS)[number];

/** An upstream that is not followed. `fault`: why, and what to set, for an operator. */
export interface RefusedUpstream {
  readonly upstream: string;
  readonly refusal: UpstreamRefusal;
  readonly fault: string;
}

interface KnownUpstream {
  readonly address: string;
  /** Of the last probes, smoothed. Undefined before the first one since it last failed. */
  latencyMs: number | undefined;
  /** Probes that failed since one was answered. */
  failures: number;
  /** How often what was followed there broke since it went well. */
  breaks: number;
  /** How often it named a policy that nobody has, and when it did last. */
  lies: number;
  liedMonoMs: number;
  /** Until then it is left alone, whatever a probe says that was under way when it broke. */
  restUntilMonoMs: number;
  nextProbeMonoMs: number;
  isProbing: boolean;
  refused: RefusedUpstream | undefined;
  /** What the last probe said. */
  place: Pick<UpstreamFacts, "clusterId" | "region"> | undefined;
  /** The resolvers through which its data comes, the nearest first. */
  via: readonly string[];
  /** Until when it counts as one whose data is stale, because it said so. */
  staleUntilMonoMs: number;
  /** Since when it has been clearly better than the one that is followed. */
  betterSinceMonoMs: number | undefined;
}

/** Most resolvers in a chain. */
export const MAX_VIA = 4;
const PROBE_INTERVAL_MS = 5000;
const RETRY = { baseMs: 250, maxMs: 10_000 } as const;
/** The share of the latency of the followed one below which another one is clearly better, and for how long it must be so. */
const BETTER = 0.8;
const BETTER_FOR_MS = 30_000;
/** An upstream that was left because its data is stale is followed again after this time, if it is the best. */
const STALE_FOR_MS = 30_000;
/** How long to leave an upstream alone that sent what it cannot have sent. */
const GARBLED_REST_MS = 10_000;
/** As long for one that named a policy which nobody has; each time twice as long, until it did not for `HONEST_MS`. */
const LIED_REST_MS = 60_000;
const LIED_REST_MAX_MS = 3_600_000;
const HONEST_MS = 24 * 3_600_000;
/** Most characters of a name that an upstream gives itself which are shown. */
const MAX_SHOWN = 64;
/** Weight of a new probe. */
const SMOOTHING = 0.3;

export class UpstreamSet {
  readonly #options: UpstreamsOptions;
  readonly #list: readonly KnownUpstream[];
  #current: KnownUpstream | undefined;
  /** Since when there is none. */
  #goneMonoMs: number;
  #newlyRefused: RefusedUpstream[] = [];
  /** How often an upstream had each fault. */
  readonly faults: Record<UpstreamFault, number> = { cluster: 0, region: 0, loop: 0, chain: 0, policy: 0, garbled: 0 };

  constructor(options: UpstreamsOptions, monoMs: number) {
    this.#options = options;
    this.#goneMonoMs = monoMs;
    this.#list = options.addresses.map((address) => ({
      address,
      latencyMs: undefined,
      failures: 0,
      breaks: 0,
      lies: 0,
      liedMonoMs: Number.NEGATIVE_INFINITY,
      restUntilMonoMs: monoMs,
      nextProbeMonoMs: monoMs,
      isProbing: false,
      refused: undefined,
      place: undefined,
      via: [],
      staleUntilMonoMs: Number.NEGATIVE_INFINITY,
      betterSinceMonoMs: undefined,
    }));
  }

  /** The address to follow. Undefined while none answers that may be followed. */
  get current(): string | undefined {
    return this.#current?.address;
  }

  /** The resolvers through which the data comes that is followed, the nearest first. */
  get via(): readonly string[] {
    return this.#current?.via ?? [];
  }

  /** Whether no upstream answers, so that what is held does not expire. */
  get isCutOff(): boolean {
    return this.#current === undefined;
  }

  /** Since when no upstream answers, by monotonic ms. Undefined while one does. */
  get cutOffMonoMs(): number | undefined {
    return this.#current === undefined ? this.#goneMonoMs : undefined;
  }

  /** Addresses of those that answer and may be followed: the one that is followed first, then the quickest. */
  get usable(): readonly string[] {
    const others = this.#list.filter((upstream) => isUsable(upstream) && upstream !== this.#current).toSorted(quickestFirst);
    return [this.#current, ...others].flatMap((upstream) => upstream?.address ?? []);
  }

  /** Those that are refused now, in the order of the addresses. */
  get refused(): readonly RefusedUpstream[] {
    return this.#list.flatMap(({ refused }) => refused ?? []);
  }

  /** Those that began to be refused, or are refused for another reason, since this was last asked. One that `lied` is not among them. */
  takeRefused(): readonly RefusedUpstream[] {
    const taken = this.#newlyRefused;
    if (taken.length > 0) this.#newlyRefused = [];
    return taken;
  }

  /** Addresses to probe now. Each is probed until `answered` or `failed` is told of it. */
  takeProbes(monoMs: number): readonly string[] {
    const due = this.#list.filter(({ isProbing, nextProbeMonoMs }) => !isProbing && nextProbeMonoMs <= monoMs);
    for (const upstream of due) upstream.isProbing = true;
    return due.map(({ address }) => address);
  }

  /** Monotonic ms of the next probe. */
  nextDeadlineMs(): number {
    return Math.min(...this.#list.map(({ isProbing, nextProbeMonoMs }) => (isProbing ? NEVER : nextProbeMonoMs)));
  }

  /** A probe was answered after `latencyMs`. */
  answered(address: string, latencyMs: number, facts: UpstreamFacts, monoMs: number): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    const isResting = monoMs < upstream.restUntilMonoMs;
    const nextProbeMonoMs = isResting ? upstream.restUntilMonoMs : monoMs + this.#jittered(PROBE_INTERVAL_MS);
    Object.assign(upstream, { isProbing: false, failures: 0, nextProbeMonoMs });
    if (isResting) return;
    upstream.latencyMs = upstream.latencyMs === undefined ? latencyMs : upstream.latencyMs + SMOOTHING * (latencyMs - upstream.latencyMs);
    upstream.place = facts;
    this.#judge(upstream, facts);
    this.#choose(monoMs);
  }

  /** A message of the followed upstream says through which resolvers it came. A loop may close long after a probe. */
  heardVia(address: string, via: readonly string[], monoMs: number): void {
    const upstream = this.#find(address);
    // What was under way when it lied does not make it honest.
    if (upstream === undefined || upstream.refused?.refusal === "policy") return;
    this.#judge(upstream, { ...(upstream.place ?? this.#options), via });
    this.#choose(monoMs);
  }

  /** The followed upstream says whether its data is stale, as that of a resolver that is cut off. Another one is followed then, if it may be. */
  heardStale(address: string, isStale: boolean, monoMs: number): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    upstream.staleUntilMonoMs = isStale ? monoMs + STALE_FOR_MS : Number.NEGATIVE_INFINITY;
    if (isStale) this.#choose(monoMs);
  }

  /** A probe of an upstream failed. `retryMs`: what it asked for. */
  failed(address: string, monoMs: number, retryMs = 0): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    upstream.isProbing = false;
    upstream.failures += 1;
    this.#rest(upstream, monoMs, retryMs);
  }

  /** An upstream sent what no server of ours can have sent. */
  garbled(address: string, monoMs: number): void {
    this.faults.garbled += 1;
    this.broke(address, monoMs, GARBLED_REST_MS);
  }

  /** An upstream named a policy that nobody has. While that was waited for nobody was answered, so each time it is left alone for longer. */
  lied(address: string, monoMs: number): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    this.faults.policy += 1;
    upstream.lies = monoMs - upstream.liedMonoMs > HONEST_MS ? 1 : upstream.lies + 1;
    upstream.liedMonoMs = monoMs;
    upstream.refused = { upstream: address, refusal: "policy", fault: "it named a version of the policy that no server has sent" };
    this.broke(address, monoMs, Math.min(LIED_REST_MAX_MS, LIED_REST_MS * 2 ** (upstream.lies - 1)));
  }

  /** What was followed at an upstream broke. That it answers probes does not make the next try come sooner. */
  broke(address: string, monoMs: number, retryMs = 0): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    upstream.breaks += 1;
    this.#rest(upstream, monoMs, retryMs);
  }

  /** What is followed at an upstream goes well. */
  markHealthy(address: string): void {
    const upstream = this.#find(address);
    if (upstream !== undefined) upstream.breaks = 0;
  }

  #rest(upstream: KnownUpstream, monoMs: number, retryMs: number): void {
    const attempt = Math.max(upstream.failures, upstream.breaks) - 1;
    const restUntilMonoMs = monoMs + Math.max(retryMs, backoffMs(attempt, this.#options.random(), RETRY));
    Object.assign(upstream, { restUntilMonoMs, nextProbeMonoMs: restUntilMonoMs, latencyMs: undefined, betterSinceMonoMs: undefined });
    this.#choose(monoMs);
  }

  #find(address: string): KnownUpstream | undefined {
    return this.#list.find((upstream) => upstream.address === address);
  }

  #judge(upstream: KnownUpstream, facts: UpstreamFacts): void {
    const { clusterId, region, via } = facts;
    const { name, clusterId: ours, region: here } = this.#options;
    upstream.via = via;
    const faults: readonly (readonly [Exclude<UpstreamRefusal, "policy">, boolean])[] = [
      ["cluster", clusterId !== ours],
      ["region", region !== here],
      ["loop", via.includes(name)],
      ["chain", via.length > MAX_VIA],
    ];
    const refusal = faults.find(([, isSo]) => isSo)?.[0];
    const before = upstream.refused?.refusal;
    upstream.refused = refusal && { upstream: upstream.address, refusal, fault: faultOf(refusal, facts, this.#options) };
    if (upstream.refused === undefined || refusal === undefined || refusal === before) return;
    this.faults[refusal] += 1;
    this.#newlyRefused.push(upstream.refused);
  }

  #choose(monoMs: number): void {
    const current = this.#current;
    const usable = this.#list.filter(isUsable);
    const isFresh = ({ staleUntilMonoMs }: KnownUpstream) => staleUntilMonoMs <= monoMs;
    const fresh = usable.filter(isFresh);
    if (current === undefined || !isUsable(current) || (!isFresh(current) && fresh.length > 0)) {
      // Of equals the first in the list.
      this.#use((fresh.length > 0 ? fresh : usable).toSorted(quickestFirst)[0], monoMs);
      return;
    }
    for (const upstream of this.#list) {
      const isBetter =
        isUsable(upstream) &&
        (isFresh(upstream) || !isFresh(current)) &&
        (upstream.latencyMs ?? NEVER) <= (current.latencyMs ?? 0) * BETTER;
      if (!isBetter || upstream === current) upstream.betterSinceMonoMs = undefined;
      else upstream.betterSinceMonoMs ??= monoMs;
    }
    const better = this.#list.filter(
      ({ betterSinceMonoMs }) => betterSinceMonoMs !== undefined && monoMs - betterSinceMonoMs >= BETTER_FOR_MS,
    );
    if (better.length > 0) this.#use(better.toSorted(quickestFirst)[0], monoMs);
  }

  #use(upstream: KnownUpstream | undefined, monoMs: number): void {
    if (upstream === undefined && this.#current !== undefined) this.#goneMonoMs = monoMs;
    this.#current = upstream;
    for (const one of this.#list) one.betterSinceMonoMs = undefined;
  }

  /** So that the probes of many resolvers that start at once do not come at once. */
  #jittered(ms: number): number {
    return ms * (0.75 + 0.5 * this.#options.random());
  }
}

function isUsable({ latencyMs, refused }: KnownUpstream): boolean {
  return latencyMs !== undefined && refused === undefined;
}

/** Why an upstream that says this of itself is refused, and what to set. */
function faultOf(refusal: Exclude<UpstreamRefusal, "policy">, { clusterId, region, via }: UpstreamFacts, own: UpstreamsOptions): string {
  switch (refusal) {
    case "cluster":
      return `it is of cluster ${shown(clusterId)}, and this resolver of ${shown(own.clusterId)}; set node.cluster_id, or resolver.upstreams`;
    case "region":
      return `it is of region ${shown(region)}, and this resolver of ${shown(own.region)}; set node.region, or resolver.upstreams`;
    case "loop":
      return `its data comes through a resolver with the id of this one, ${shown(own.name)}; set resolver.upstreams to servers that do not read this resolver, or node.id if another one has the same`;
    case "chain":
      return `its data comes through ${via.length} resolvers, and ${MAX_VIA} are the most; set resolver.upstreams to nodes, or to resolvers nearer to them`;
  }
}

function shown(name: string): string {
  return JSON.stringify(name.length > MAX_SHOWN ? `${name.slice(0, MAX_SHOWN)}…` : name);
}

function quickestFirst(a: KnownUpstream, b: KnownUpstream): number {
  return (a.latencyMs ?? NEVER) - (b.latencyMs ?? NEVER);
}
