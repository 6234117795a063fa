/** Runs `resolve` in other clusters. Servers redirect clients to other clusters if no entry with the requested name can be chosen in this cluster. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../client.ts";
import { type Choice, kindIn, type ResolveOptions } from "../live/choice.ts";
import type { LookupName } from "../live/lookup-cache.ts";
import { RequestError } from "../request-error.ts";
import { AnswerCache, askedOf, type OwnCluster } from "./answer-cache.ts";
import type { ClusterAddress, OtherClusters } from "./other-clusters.ts";

/** Maximum number of redirects that one `resolve` follows. */
const MAX_REDIRECTS = 2;
/** Minimum time for which a name keeps its target cluster, as long as servers still redirect to that cluster and it answers. */
const HOLD_MS = 30_000;
/** If all clusters have failed, the failure is cached for this time. */
const FAILED_MS = 1000;
/** Maximum number of clusters that a request can list as visited (discovery.proto), including the client's own. */
const MAX_VISITED = 8;
const CLUSTER_ID = /^[A-Za-z0-9._:/@+-]{1,64}$/;

interface RedirectTarget extends ClusterAddress {
  readonly ttlMs: number;
}

/** The cluster in which a name was last found, or the failure. */
interface KnownRedirect {
  readonly target?: RedirectTarget | undefined;
  readonly failure?: RequestError | undefined;
  readonly sinceMonoMs: number;
}

/** The attempts of one `resolve` so far. */
interface RedirectAttempts {
  readonly choice?: Choice | undefined;
  readonly failure?: RequestError | undefined;
  /** The client that is used to request the next cluster. */
  readonly asker: Client;
}

export interface RedirectParts {
  readonly home: Client;
  readonly own: OwnCluster;
  readonly clusters: OtherClusters;
  /** Time for which the client caches a negative answer: no cluster has the name, or a cluster has no known ingress. */
  readonly lookupTtlMs: number;
  /** Monotonic clock. */
  readonly nowMs: () => number;
}

export class RedirectCache {
  readonly #parts: RedirectParts;
  readonly #known = new AnswerCache<KnownRedirect>();
  /** Requests in progress to the client's own cluster, one per name. */
  readonly #asking = new Map<string, Promise<KnownRedirect>>();

  constructor(parts: RedirectParts) {
    this.#parts = parts;
  }

  /**
   * Chooses one of the entries in the cluster to which the name is redirected. Undefined without a redirect. Throws a `RequestError` if none of the
   * target clusters can be called.
   */
  async resolve(namespace: string, name: string, options: ResolveOptions): Promise<Choice | undefined> {
    const wanted = { namespace, name, kind: kindIn(options) };
    const id = JSON.stringify(wanted);
    const visited: string[] = [];
    let tried: RedirectAttempts = { asker: this.#parts.home };
    let ttlMs = Number.POSITIVE_INFINITY;
    while (visited.length < MAX_REDIRECTS) {
      const target = visited.length === 0 ? await this.#targetOf(id, wanted) : await this.#next(tried.asker, wanted, visited);
      if (target === undefined) break;
      ttlMs = Math.min(ttlMs, target.ttlMs);
      visited.push(target.clusterId);
      const next = await this.#tryAt(target, tried, wanted, options);
      // The program has already tried all entries in this cluster, so the cluster itself has not failed.
      if (next.choice === undefined && next.failure === undefined && options.avoid?.length) return undefined;
      if (next.choice !== undefined) {
        if (visited.length > 1) this.#keep(id, { target, sinceMonoMs: this.#parts.nowMs() }, ttlMs);
        return next.choice;
      }
      tried = { ...next, failure: next.failure ?? tried.failure };
    }
    const { failure } = tried;
    if (visited.length > 0) this.#keep(id, { failure, sinceMonoMs: 0 }, failure === undefined ? this.#parts.lookupTtlMs : FAILED_MS);
    if (failure !== undefined) throw failure;
    return undefined;
  }

  /**
   * Tries a cluster. If the cluster has no entry, its servers are asked for the next cluster. If the cluster fails, the servers that redirected to it
   * are asked again.
   */
  async #tryAt(
    target: RedirectTarget,
    { asker }: RedirectAttempts,
    { namespace, name }: LookupName,
    options: ResolveOptions,
  ): Promise<RedirectAttempts> {
    try {
      const cluster = this.#parts.clusters.at(target);
      return { choice: await cluster.client.resolve(namespace, name, options).catch(cluster.thrown), asker: cluster.client };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return { failure: error, asker };
    }
  }

  /**
   * Returns the next cluster after the first one. A cluster that has no entry or does not answer may know fewer other clusters than the client's own
   * cluster, so the client's own cluster is also asked.
   */
  async #next(asker: Client, wanted: LookupName, visited: readonly string[]): Promise<RedirectTarget | undefined> {
    const { home } = this.#parts;
    const named = asker === home ? undefined : await this.#ask(asker, wanted, visited).catch(noneIfRefused);
    return named ?? this.#ask(home, wanted, visited);
  }

  /** Returns the first target of a name, from the cache or from the client's own cluster. Throws a cached failure. */
  async #targetOf(id: string, wanted: LookupName): Promise<RedirectTarget | undefined> {
    const found = this.#known.find(id, this.#parts.nowMs());
    const known = found?.isFresh ? found.value : await this.#renewed(id, wanted, found?.value);
    if (known.failure !== undefined) throw known.failure;
    return known.target;
  }

  #renewed(id: string, wanted: LookupName, before: KnownRedirect | undefined): Promise<KnownRedirect> {
    let asking = this.#asking.get(id);
    if (asking === undefined) {
      asking = this.#renew(id, wanted, before).finally(() => this.#asking.delete(id));
      this.#asking.set(id, asking);
    }
    return asking;
  }

  async #renew(id: string, wanted: LookupName, before: KnownRedirect | undefined): Promise<KnownRedirect> {
    const named = await this.#ask(this.#parts.home, wanted, []);
    const nowMs = this.#parts.nowMs();
    const isHeld = before?.target !== undefined && nowMs - before.sinceMonoMs < HOLD_MS;
    const target = isHeld ? await this.#sameIfOffered(wanted, named, before.target.clusterId) : named;
    const isSame = target !== undefined && target.clusterId === before?.target?.clusterId;
    const known = { target, sinceMonoMs: isSame ? before.sinceMonoMs : nowMs };
    this.#keep(id, known, target?.ttlMs ?? this.#parts.lookupTtlMs);
    return known;
  }

  /**
   * Returns the previous target if the client's own cluster still redirects to it when other clusters are excluded. If not, returns the cluster to
   * which it now redirects.
   */
  async #sameIfOffered(wanted: LookupName, named: RedirectTarget | undefined, before: string): Promise<RedirectTarget | undefined> {
    const others: string[] = [];
    for (let other = named; other !== undefined; other = await this.#ask(this.#parts.home, wanted, others)) {
      if (other.clusterId === before) return other;
      others.push(other.clusterId);
      if (others.length >= MAX_VISITED - 1) break;
    }
    return named;
  }

  /** Returns the cluster to which a server redirects. Returns undefined if it is the client's own cluster or one of `visited`. */
  async #ask(asker: Client, { namespace, name, kind }: LookupName, visited: readonly string[]): Promise<RedirectTarget | undefined> {
    const own = await this.#parts.own.id();
    const visitedClusters = own === "" ? [...visited] : [own, ...visited];
    const { place } = this.#parts.home;
    const request = { namespace, name, kind, visitedClusters, ...(place && { prefer: { region: place.region, zone: place.zone } }) };
    const answered = await askedOf(asker, DiscoveryService.method.resolve, request);
    const redirect = answered?.answer.redirect;
    if (answered === undefined || redirect === undefined) return undefined;
    const { clusterId, urls, ttl } = redirect;
    if (!CLUSTER_ID.test(clusterId) || visitedClusters.includes(clusterId)) return undefined;
    return { clusterId, urls, from: answered.from, ttlMs: ttl === undefined ? 0 : durationMs(ttl) };
  }

  #keep(id: string, known: KnownRedirect, ttlMs: number): void {
    this.#known.set(id, known, this.#parts.nowMs() + ttlMs);
  }
}

function noneIfRefused(error: unknown): undefined {
  if (!(error instanceof RequestError)) throw error;
  return undefined;
}
