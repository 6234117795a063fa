/**
 * Keeps a client's servers, and chooses the server for each call. Seeds are the addresses that the program passed. Other servers are discovered from
 * the known ones (`nodesFor`, `resolversFor`). Reads and writes each have a current server, because a resolver serves only reads. This module does
 * not perform I/O or wait.
 */

import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { UNKNOWN_LOAD } from "../../consumer/load-score.ts";
import type { ZoneLocality } from "../../consumer/locality-levels.ts";
import { hostPort } from "../../lib/addresses.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { parseServer } from "../connect-options.ts";

/** Distinguishes calls that a resolver can serve from calls that only a node can serve. */
export type CallUse = "read" | "write";

export interface FoundServer extends ZoneLocality {
  /** `host:port`. */
  readonly server: string;
  /** The load, from 0 for idle to 1 for overloaded. */
  readonly load: number;
  readonly kind: "node" | "resolver";
}

export interface ServersOptions {
  /** At least one server, each as `host:port`, in the order in which they are tried. */
  readonly seeds: readonly string[];
  /** The location of the program. Defaults to the location of the first server that reports one. */
  readonly place: ZoneLocality | undefined;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

interface KnownServer extends FoundServer {
  readonly seenMonoMs: number;
  /** Whether the server has answered. An advertised address may be unreachable from this program. */
  readonly isProven: boolean;
}

/** If there is another server, a failed server is not used again before its backoff ends. */
interface FailedServer {
  readonly count: number;
  readonly restsUntilMonoMs: number;
}

const REST = { baseMs: 250, maxMs: 10_000 } as const;
/**
 * Time after which a discovered server is forgotten if it is no longer listed. The time is long, because a partitioned node lists only a few servers.
 */
const FORGET_MS = 600_000;
/** Maximum number of discovered servers. The nearest servers are kept. */
export const MAX_FOUND = 64;
/** Number of servers of each kind that are verified before they are needed. */
const PROVEN_WANTED = { node: 4, resolver: 2 } as const;

export class ServerList {
  readonly seeds: readonly string[];
  readonly #random: () => number;
  readonly #found = new Map<string, KnownServer>();
  readonly #failed = new Map<string, FailedServer>();
  #place: ZoneLocality | undefined;
  #writer: string;
  /** Servers that have rejected writes: resolvers among the seeds. */
  readonly #readOnly = new Set<string>();
  /** The resolver that serves reads. If there is no resolver, the write server also serves reads. */
  #reader: string | undefined;

  constructor({ seeds, place, random }: ServersOptions) {
    const [first] = seeds;
    if (first === undefined) throw new RangeError("the list of servers is empty");
    this.seeds = seeds;
    this.#place = place;
    this.#random = random;
    this.#writer = first;
  }

  /** The location of the program, if it is known. */
  get place(): ZoneLocality | undefined {
    return this.#place;
  }

  /** Returns the server for the next call of this kind. */
  current(use: CallUse): string {
    return use === "read" ? (this.#reader ?? this.#writer) : this.#writer;
  }

  /** Returns all servers: first the seeds, then the discovered servers. */
  list(): readonly string[] {
    return [...new Set([...this.seeds, ...this.#found.keys()])];
  }

  /** Records that the server is unavailable, and switches to the next server. Further failures during the backoff are ignored. */
  failed(server: string, monoMs: number): void {
    const before = this.#failed.get(server);
    if (before === undefined || before.restsUntilMonoMs <= monoMs) {
      const count = before?.count ?? 0;
      this.#failed.set(server, { count: count + 1, restsUntilMonoMs: monoMs + backoffMs(count, this.#random(), REST) });
    }
    if (this.#reader === server) this.#reader = this.#bestReader(monoMs);
    if (this.#writer === server) this.#writer = this.#nextWriter(server, monoMs);
  }

  /**
   * Returns another server for one read that the given servers have rejected: the nearest server that has answered or, if there is none, a seed,
   * preferably one that has not failed recently. Returns undefined if all servers have rejected it.
   */
  beside(refused: ReadonlySet<string>, monoMs: number): string | undefined {
    const proven = [...this.#usable("resolver", monoMs), ...this.#usable("node", monoMs)].filter(({ server }) => !refused.has(server));
    if (proven.length > 0) return this.#lighterOf(proven);
    const seeds = this.seeds.filter((server) => !refused.has(server));
    return seeds.find((server) => !this.#rests(server, monoMs)) ?? seeds[0];
  }

  /** Records that the server serves only reads. The server continues to serve reads, and writes switch to the next server. */
  refusedWrites(server: string, monoMs: number): void {
    this.#readOnly.add(server);
    if (this.#writer !== server) return;
    this.#reader ??= server;
    this.#writer = this.#nextWriter(server, monoMs);
  }

  /**
   * Adds nodes that a resolver listed. These nodes are tried only when no verified node or seed is left, because their addresses may be unreachable
   * from this program.
   */
  named(servers: readonly string[], monoMs: number): void {
    for (const server of servers) {
      if (this.#found.size >= MAX_FOUND || this.#found.has(server) || this.seeds.includes(server)) continue;
      this.#found.set(server, { server, region: "", zone: "", load: UNKNOWN_LOAD, kind: "node", seenMonoMs: monoMs, isProven: false });
    }
  }

  /** Records an answer, which clears the server's failures. */
  answered(server: string): void {
    if (this.#failed.size > 0) this.#failed.delete(server);
  }

  /**
   * Applies a discovery answer: the servers of the cluster, and the location of the server that answered. An empty list is ignored, because a cluster
   * without servers cannot answer.
   */
  learn(servers: readonly FoundServer[], place: ZoneLocality, monoMs: number): void {
    if (servers.length === 0) return;
    this.#place ??= { region: place.region, zone: place.zone };
    for (const one of servers) {
      const isProven = this.#found.get(one.server)?.isProven ?? this.seeds.includes(one.server);
      this.#found.set(one.server, { ...one, seenMonoMs: monoMs, isProven });
    }
    const kept = [...this.#found.values()]
      .filter(({ seenMonoMs }) => monoMs - seenMonoMs < FORGET_MS)
      .toSorted((a, b) => this.#distance(a) - this.#distance(b) || b.seenMonoMs - a.seenMonoMs)
      .slice(0, MAX_FOUND);
    this.#found.clear();
    for (const one of kept) this.#found.set(one.server, one);
    const servable = new Set(this.list());
    for (const server of this.#failed.keys()) if (!servable.has(server)) this.#failed.delete(server);
    this.#settle(monoMs);
  }

  /** Returns discovered servers that must be verified with a request, nearest first. */
  toProve(monoMs: number): readonly string[] {
    return (["node", "resolver"] as const).flatMap((kind) => {
      const all = [...this.#found.values()].filter((one) => one.kind === kind).toSorted((a, b) => this.#distance(a) - this.#distance(b));
      const wanted = all.filter(({ server }) => !this.#rests(server, monoMs)).slice(0, PROVEN_WANTED[kind]);
      return wanted.filter(({ isProven }) => !isProven).map(({ server }) => server);
    });
  }

  /**
   * Records discovered servers that have answered and belong to the cluster. The servers are added at the same time, so that the choice among them
   * depends on load and not on response time.
   */
  proven(servers: readonly string[], monoMs: number): void {
    for (const server of servers) {
      const known = this.#found.get(server);
      if (known !== undefined) this.#found.set(server, { ...known, isProven: true });
      this.answered(server);
    }
    this.#settle(monoMs);
  }

  /** Switches to a nearer server. If servers are equally near, the current one is kept, so that a program reads its own writes. */
  #settle(monoMs: number): void {
    const nodes = this.#usable("node", monoMs);
    const now = this.#found.get(this.#writer);
    const nearest = Math.min(...nodes.map((one) => this.#distance(one)));
    const isBest = now?.kind === "node" && this.#distance(now) <= nearest && !this.#rests(now.server, monoMs);
    if (nodes.length > 0 && !isBest) this.#writer = this.#lighterOf(nodes);
    if (this.#reader === undefined || !this.#isGoodReader(this.#reader, monoMs)) this.#reader = this.#bestReader(monoMs);
  }

  #isGoodReader(server: string, monoMs: number): boolean {
    const known = this.#found.get(server);
    if (known === undefined || this.#rests(server, monoMs)) return false;
    return this.#usable("resolver", monoMs).every((one) => this.#distance(known) <= this.#distance(one));
  }

  /** Returns a resolver that is no farther away than the nodes. */
  #bestReader(monoMs: number): string | undefined {
    const resolvers = this.#usable("resolver", monoMs);
    const nearest = Math.min(...resolvers.map((one) => this.#distance(one)));
    const isNodeNearer = this.#usable("node", monoMs).some((one) => this.#distance(one) < nearest);
    return resolvers.length === 0 || isNodeNearer ? undefined : this.#lighterOf(resolvers);
  }

  /** After a loss, returns a verified node, then a seed, then an untried address, then the server whose backoff ends first. */
  #nextWriter(lost: string, monoMs: number): string {
    const proven = this.#usable("node", monoMs);
    if (proven.length > 0) return this.#lighterOf(proven);
    const at = this.seeds.indexOf(lost) + 1;
    const inTurn = [...this.seeds.slice(at), ...this.seeds.slice(0, at)];
    const others = [...this.#found.values()].filter(({ kind }) => kind === "node").map(({ server }) => server);
    const candidates = [...inTurn, ...others].filter((server) => server !== lost && !this.#readOnly.has(server));
    const rested = candidates.find((server) => !this.#rests(server, monoMs));
    const until = (server: string): number => this.#failed.get(server)?.restsUntilMonoMs ?? 0;
    return rested ?? candidates.toSorted((a, b) => until(a) - until(b))[0] ?? lost;
  }

  #usable(kind: FoundServer["kind"], monoMs: number): readonly KnownServer[] {
    return [...this.#found.values()].filter((one) => one.kind === kind && one.isProven && !this.#rests(one.server, monoMs));
  }

  /**
   * Picks two of the nearest servers at random and returns the less loaded one, so that clients that start at the same time do not all choose the
   * same server.
   */
  #lighterOf(servers: readonly KnownServer[]): string {
    const nearest = Math.min(...servers.map((one) => this.#distance(one)));
    const near = servers.filter((one) => this.#distance(one) === nearest);
    const draw = (): KnownServer | undefined => near[Math.floor(this.#random() * near.length)];
    const [one, other] = [draw(), draw()];
    const lighter = one !== undefined && other !== undefined && other.load < one.load ? other : one;
    return lighter?.server ?? this.#writer;
  }

  #rests(server: string, monoMs: number): boolean {
    return (this.#failed.get(server)?.restsUntilMonoMs ?? Number.NEGATIVE_INFINITY) > monoMs;
  }

  /** Returns 0 in the same zone, 1 in the same region, or 2 elsewhere. Each zone is part of exactly one region. */
  #distance({ region, zone }: ZoneLocality): number {
    if (this.#place === undefined || region !== this.#place.region) return 2;
    return zone === this.#place.zone ? 0 : 1;
  }
}

// Reads the servers from the answers: nodes from `ClusterMap`, and resolvers from the entries in their namespace.

/** The namespace in which resolvers register themselves. */
export const RESOLVERS_NAMESPACE = "discovery.resolvers";
/** The role of nodes that are meant for clients. */
const INGRESS_ROLE = "ingress";

/**
 * Returns the nodes for clients: nodes with the role `ingress`, or all nodes if none has this role. Entries without a gRPC address are excluded.
 */
export function nodesFor(entries: readonly Entry[]): readonly FoundServer[] {
  const ingress = entries.filter(({ capabilities }) => capabilities.includes(INGRESS_ROLE));
  return serversOf(ingress.length > 0 ? ingress : entries, "node");
}

export function resolversFor(entries: readonly Entry[]): readonly FoundServer[] {
  return serversOf(entries, "resolver");
}

/** Maximum number of URLs that are read from a rejection. */
const MAX_URLS = 4;

/**
 * Returns the nodes that a resolver lists when it rejects a write: URLs separated by spaces, each in the form `host:port` or `grpc://host:port`
 * (`grpcs` with TLS). Other URLs are ignored.
 */
export function nodesNamedIn(urls: string): readonly string[] {
  const addresses = urls.split(" ", MAX_URLS).map((url) => parseServer(url.replace(/^grpcs?:\/\//, "")));
  return addresses.filter((address) => address !== undefined);
}

function serversOf(entries: readonly Entry[], kind: FoundServer["kind"]): readonly FoundServer[] {
  return entries.flatMap((entry) => {
    const server = serverOf(entry);
    const { region, zone, load } = entry;
    return server === undefined ? [] : [{ server, region, zone, load: load?.utilization ?? UNKNOWN_LOAD, kind }];
  });
}

/** Returns the gRPC address of a node or a resolver, as `host:port`. Undefined if its entry has none. */
export function serverOf({ targets }: Entry): string | undefined {
  const target = targets.find(({ name }) => name === "grpc") ?? targets.find(({ name, protocol }) => name === "" && protocol === "grpc");
  return target && parseServer(hostPort(target.host, target.port));
}

// A client's retry budget (gRPC A6, "Throttling Retry Attempts and Hedged RPCs"; Finagle's `RetryBudget`). Each call earns a tenth of a token, and
// each retry costs one token. The number of retries is therefore at most a tenth of the calls, plus the initial tokens. In an outage, the tokens run
// out, so clients do not multiply the traffic to the remaining servers.

/** Tokens earned per call, which is also the long-term number of retries per call. */
const EARNED = 0.1;
/** Maximum and initial number of tokens. This many calls in a row can fail over before any call has succeeded. */
const MOST = 10;

export class RetryBudget {
  #tokens = MOST;

  /** Adds tokens for a new call. */
  earn(): void {
    this.#tokens = Math.min(MOST, this.#tokens + EARNED);
  }

  /** Spends a token on a retry, if there is one. */
  spend(): boolean {
    // Because of rounding, ten times 0.1 is a little less than 1.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens -= 1;
    return true;
  }
}
