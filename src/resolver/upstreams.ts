/**
 * Selects the upstream that a resolver follows: the usable upstream with the lowest latency. A failed upstream is replaced immediately. A faster
 * upstream is chosen only after it has been clearly better for some time, because each change requires catching up with another server (semantics.md,
 * Resolver 10).
 */
import { backoffMs } from "../lib/backoff.ts";
import { NEVER } from "../lib/machine.ts";

/** Facts that a server reports about itself and about the source of its data. */
export interface UpstreamFacts {
  readonly clusterId: string;
  readonly region: string;
  /** Names of the resolvers through which the server receives its data, nearest first. Empty for a node. */
  readonly via: readonly string[];
}

export interface UpstreamsOptions {
  /** Upstream addresses, in order of preference among equally fast upstreams. Not empty. */
  readonly addresses: readonly string[];
  /** Name of this resolver, as shown in `via`. */
  readonly name: string;
  readonly clusterId: string;
  readonly region: string;
  /** Returns a random number x, 0 ≤ x < 1. */
  readonly random: () => number;
}

/** Reason why an upstream is refused regardless of its latency. */
export type UpstreamRefusal = "cluster" | "region" | "loop" | "chain" | "policy";

/** Faults of an upstream: the reasons for refusing it, and `garbled` for a malformed message. */
export const UPSTREAM_FAULTS = ["cluster", "region", "loop", "chain", "policy", "garbled"] as const satisfies readonly (
  | UpstreamRefusal
  | "garbled"
)[];
export type UpstreamFault = (typeof UPSTREAM_FAULTS)[number];

/** A refused upstream. `fault` is the explanation for an operator: the cause and the setting to change. */
export interface RefusedUpstream {
  readonly upstream: string;
  readonly refusal: UpstreamRefusal;
  readonly fault: string;
}

interface KnownUpstream {
  readonly address: string;
  /** Smoothed latency of the last probes. Undefined between a failure and the next successful probe. */
  latencyMs: number | undefined;
  /** Number of failed probes since the last successful probe. */
  failures: number;
  /** Number of broken streams since the streams last worked. */
  breaks: number;
  /** How often, and when last, the upstream announced a policy version that no server sends. */
  unmetClaimCount: number;
  unmetClaimMonoMs: number;
  /** The upstream is not used before this time, even if a probe that was already running succeeds. */
  restUntilMonoMs: number;
  nextProbeMonoMs: number;
  isProbing: boolean;
  refused: RefusedUpstream | undefined;
  /** Cluster and region as reported by the last probe. */
  place: Pick<UpstreamFacts, "clusterId" | "region"> | undefined;
  /** Names of the resolvers through which the upstream receives its data, nearest first. */
  via: readonly string[];
  /** The upstream's data is considered stale until this time, because the upstream reported it as stale. */
  staleUntilMonoMs: number;
  /** The time since which this upstream has been clearly faster than the current upstream. */
  betterSinceMonoMs: number | undefined;
}

/** Maximum number of resolvers in a chain. */
export const MAX_VIA = 4;
const PROBE_INTERVAL_MS = 5000;
const RETRY = { baseMs: 250, maxMs: 10_000 } as const;
/** An upstream is clearly better if, for this long, its latency is at most this fraction of the current upstream's latency. */
const BETTER = 0.8;
const BETTER_FOR_MS = 30_000;
/** After this time, an upstream that was replaced because of stale data may be chosen again. */
const STALE_FOR_MS = 30_000;
/** Pause after a malformed message from an upstream. */
const GARBLED_REST_MS = 10_000;
/**
 * Pause after an upstream announced a policy version that no server sends. The pause doubles each time, up to the maximum, and is reset after
 * `CLAIM_RESET_MS` without such an event.
 */
const CLAIM_REST_MS = 60_000;
const CLAIM_REST_MAX_MS = 3_600_000;
const CLAIM_RESET_MS = 24 * 3_600_000;
/** Maximum number of characters shown from a name that an upstream reports. */
const MAX_SHOWN = 64;
/** Weight of a new probe in the smoothed latency. */
const SMOOTHING = 0.3;

export class UpstreamSet {
  readonly #options: UpstreamsOptions;
  readonly #list: readonly KnownUpstream[];
  #current: KnownUpstream | undefined;
  /** The time since which there has been no current upstream. */
  #goneMonoMs: number;
  #newlyRefused: RefusedUpstream[] = [];
  /** Number of faults across all upstreams, by fault. */
  readonly faults: Record<UpstreamFault, number> = { cluster: 0, region: 0, loop: 0, chain: 0, policy: 0, garbled: 0 };

  constructor(options: UpstreamsOptions, monoMs: number) {
    this.#options = options;
    this.#goneMonoMs = monoMs;
    this.#list = options.addresses.map((address) => ({
      address,
      latencyMs: undefined,
      failures: 0,
      breaks: 0,
      unmetClaimCount: 0,
      unmetClaimMonoMs: Number.NEGATIVE_INFINITY,
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

  /** Address of the current upstream. Undefined while no usable upstream responds. */
  get current(): string | undefined {
    return this.#current?.address;
  }

  /** Names of the resolvers through which the followed data is received, nearest first. */
  get via(): readonly string[] {
    return this.#current?.via ?? [];
  }

  /** Whether no upstream responds. Cached entries do not expire in the meantime. */
  get isCutOff(): boolean {
    return this.#current === undefined;
  }

  /** Monotonic time since which no upstream has responded. Undefined while an upstream responds. */
  get cutOffMonoMs(): number | undefined {
    return this.#current === undefined ? this.#goneMonoMs : undefined;
  }

  /** Addresses of the upstreams that respond and are not refused: the current upstream first, then the others from the fastest. */
  get usable(): readonly string[] {
    const others = this.#list.filter((upstream) => isUsable(upstream) && upstream !== this.#current).toSorted(quickestFirst);
    return [this.#current, ...others].flatMap((upstream) => upstream?.address ?? []);
  }

  /** The refused upstreams, in address order. */
  get refused(): readonly RefusedUpstream[] {
    return this.#list.flatMap(({ refused }) => refused ?? []);
  }

  /** Returns the upstreams that were refused, or whose reason changed, since the last call. Refusals by `noteUnmetClaim` are not included. */
  takeRefused(): readonly RefusedUpstream[] {
    const newlyRefused = this.#newlyRefused;
    if (newlyRefused.length > 0) this.#newlyRefused = [];
    return newlyRefused;
  }

  /** Returns the addresses to probe now. The caller reports each outcome with `answered` or `failed`. */
  takeProbes(monoMs: number): readonly string[] {
    const due = this.#list.filter(({ isProbing, nextProbeMonoMs }) => !isProbing && nextProbeMonoMs <= monoMs);
    for (const upstream of due) upstream.isProbing = true;
    return due.map(({ address }) => address);
  }

  /** Returns the monotonic time of the next probe. */
  nextDeadlineMs(): number {
    return Math.min(...this.#list.map(({ isProbing, nextProbeMonoMs }) => (isProbing ? NEVER : nextProbeMonoMs)));
  }

  /** Records that a probe was answered after `latencyMs`. */
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

  /** Records the chain of resolvers reported in a message from the current upstream. A loop may form long after a probe. */
  noteVia(address: string, via: readonly string[], monoMs: number): void {
    const upstream = this.#find(address);
    // Messages that were sent before the refusal do not lift it.
    if (upstream === undefined || upstream.refused?.refusal === "policy") return;
    this.#judge(upstream, { ...(upstream.place ?? this.#options), via });
    this.#choose(monoMs);
  }

  /**
   * Records whether the current upstream reported its data as stale, for example because it is a resolver without upstreams. If the data is stale,
   * another upstream is chosen if one is usable.
   */
  noteStale(address: string, isStale: boolean, monoMs: number): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    upstream.staleUntilMonoMs = isStale ? monoMs + STALE_FOR_MS : Number.NEGATIVE_INFINITY;
    if (isStale) this.#choose(monoMs);
  }

  /** Records a failed probe. `retryMs` is the pause that the upstream requested. */
  failed(address: string, monoMs: number, retryMs = 0): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    upstream.isProbing = false;
    upstream.failures += 1;
    this.#rest(upstream, monoMs, retryMs);
  }

  /** Records a malformed message from an upstream. */
  garbled(address: string, monoMs: number): void {
    this.faults.garbled += 1;
    this.broke(address, monoMs, GARBLED_REST_MS);
  }

  /**
   * Records that an upstream announced a policy version that no server sends. Callers did not receive answers while the resolver waited for the
   * version, so the pause is longer each time.
   */
  noteUnmetClaim(address: string, monoMs: number): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    this.faults.policy += 1;
    upstream.unmetClaimCount = monoMs - upstream.unmetClaimMonoMs > CLAIM_RESET_MS ? 1 : upstream.unmetClaimCount + 1;
    upstream.unmetClaimMonoMs = monoMs;
    upstream.refused = { upstream: address, refusal: "policy", fault: "it referred to a policy version that no server has sent" };
    this.broke(address, monoMs, Math.min(CLAIM_REST_MAX_MS, CLAIM_REST_MS * 2 ** (upstream.unmetClaimCount - 1)));
  }

  /** Records a broken stream from an upstream. Successful probes do not shorten the pause before the next attempt. */
  broke(address: string, monoMs: number, retryMs = 0): void {
    const upstream = this.#find(address);
    if (upstream === undefined) return;
    upstream.breaks += 1;
    this.#rest(upstream, monoMs, retryMs);
  }

  /** Records that the streams of an upstream work. */
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
      // The sort is stable, so that the first upstream in the list is chosen among equally fast upstreams.
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

  /** Randomizes an interval by ±25 %, so that resolvers that start at the same time do not probe at the same time. */
  #jittered(ms: number): number {
    return ms * (0.75 + 0.5 * this.#options.random());
  }
}

function isUsable({ latencyMs, refused }: KnownUpstream): boolean {
  return latencyMs !== undefined && refused === undefined;
}

/** Explains a refusal and names the setting to change. */
function faultOf(refusal: Exclude<UpstreamRefusal, "policy">, { clusterId, region, via }: UpstreamFacts, own: UpstreamsOptions): string {
  switch (refusal) {
    case "cluster":
      return `it belongs to cluster ${shown(clusterId)}, but this resolver belongs to ${shown(own.clusterId)}; set node.cluster_id or resolver.upstreams`;
    case "region":
      return `it belongs to region ${shown(region)}, but this resolver belongs to ${shown(own.region)}; set node.region or resolver.upstreams`;
    case "loop":
      return `its data comes through a resolver with this resolver's id, ${shown(own.name)}; set resolver.upstreams to servers that do not read from this resolver, or change node.id if another resolver has the same id`;
    case "chain":
      return `its data comes through ${via.length} resolvers, but at most ${MAX_VIA} are allowed; set resolver.upstreams to nodes, or to resolvers closer to them`;
  }
}

function shown(name: string): string {
  return JSON.stringify(name.length > MAX_SHOWN ? `${name.slice(0, MAX_SHOWN)}…` : name);
}

function quickestFirst(a: KnownUpstream, b: KnownUpstream): number {
  return (a.latencyMs ?? NEVER) - (b.latencyMs ?? NEVER);
}
