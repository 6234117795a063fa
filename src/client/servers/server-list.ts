/**
 * The servers of a client, and which of them is asked. Seeds are the addresses that the program was given; other servers were found by asking
 * (`nodesFor`, `resolversFor`). Reads and writes have servers of their own, because a resolver takes reads only. Nothing here waits or connects.
 */

import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { UNKNOWN_LOAD } from "../../consumer/load-score.ts";
import type { ZoneLocality } from "../../consumer/locality-levels.ts";
import { hostPort } from "../../lib/addresses.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { parseServer } from "../connect-options.ts";

/** A call that may go to a resolver, or one that only a node takes. */
export type CallUse = "read" | "write";

export interface FoundServer extends ZoneLocality {
  /** `host:port`. */
  readonly server: string;
  /** 0 for idle to 1 for overloaded. */
  readonly load: number;
  readonly kind: "node" | "resolver";
}

export interface ServersOptions {
  /** `host:port` each, at least one, in the order in which they are tried. */
  readonly seeds: readonly string[];
  /** Where the program runs. Undefined means where the first server is that said its place. */
  readonly place: ZoneLocality | undefined;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

interface KnownServer extends FoundServer {
  readonly seenMonoMs: number;
  /** It has answered. An address that others advertise need not lead anywhere from here. */
  readonly isProven: boolean;
}

/** A server that failed is asked again only after a rest, if there is another. */
interface FailedServer {
  readonly count: number;
  readonly restsUntilMonoMs: number;
}

const REST = { baseMs: 250, maxMs: 10_000 } as const;
/** A server that the answers name no more is forgotten after this time. The answer of a node that is cut off names few servers. */
const FORGET_MS = 600_000;
/** Most found servers. The nearest are kept. */
export const MAX_FOUND = 64;
/** Servers that are proven ahead of their use, of each kind. */
const PROVEN_WANTED = { node: 4, resolver: 2 } as const;

export class ServerList {
  readonly seeds: readonly string[];
  readonly #random: () => number;
  readonly #found = new Map<string, KnownServer>();
  readonly #failed = new Map<string, FailedServer>();
  #place: ZoneLocality | undefined;
  #writer: string;
  /** Servers that said that they take no writes: resolvers among the seeds. */
  readonly #readOnly = new Set<string>();
  /** The resolver that takes the reads; without one the writer takes them. */
  #reader: string | undefined;

  constructor({ seeds, place, random }: ServersOptions) {
    const [first] = seeds;
    if (first === undefined) throw new RangeError("a client needs at least one server");
    this.seeds = seeds;
    this.#place = place;
    this.#random = random;
    this.#writer = first;
  }

  /** Where the program runs, if that is known. */
  get place(): ZoneLocality | undefined {
    return this.#place;
  }

  /** The server that the next call of this use goes to. */
  current(use: CallUse): string {
    return use === "read" ? (this.#reader ?? this.#writer) : this.#writer;
  }

  /** All servers: the seeds, then those found. */
  list(): readonly string[] {
    return [...new Set([...this.seeds, ...this.#found.keys()])];
  }

  /** The server is away. Those who used it turn to the next one; a second failure while it rests says nothing new. */
  failed(server: string, monoMs: number): void {
    const before = this.#failed.get(server);
    if (before === undefined || before.restsUntilMonoMs <= monoMs) {
      const count = before?.count ?? 0;
      this.#failed.set(server, { count: count + 1, restsUntilMonoMs: monoMs + backoffMs(count, this.#random(), REST) });
    }
    if (this.#reader === server) this.#reader = this.#bestReader(monoMs);
    if (this.#writer === server) this.#writer = this.#nextWriter(server, monoMs);
  }

  /** For one read that these servers refused: the nearest server that has answered, else a seed, one that does not rest first. Undefined when all refused it. */
  beside(refused: ReadonlySet<string>, monoMs: number): string | undefined {
    const proven = [...this.#usable("resolver", monoMs), ...this.#usable("node", monoMs)].filter(({ server }) => !refused.has(server));
    if (proven.length > 0) return this.#lighterOf(proven);
    const seeds = this.seeds.filter((server) => !refused.has(server));
    return seeds.find((server) => !this.#rests(server, monoMs)) ?? seeds[0];
  }

  /** The server takes reads only: it keeps these, and writes turn to the next one. */
  refusedWrites(server: string, monoMs: number): void {
    this.#readOnly.add(server);
    if (this.#writer !== server) return;
    this.#reader ??= server;
    this.#writer = this.#nextWriter(server, monoMs);
  }

  /** A resolver named nodes. They are tried when no node that has answered and no seed is left, because their addresses need not lead anywhere from here. */
  named(servers: readonly string[], monoMs: number): void {
    for (const server of servers) {
      if (this.#found.size >= MAX_FOUND || this.#found.has(server) || this.seeds.includes(server)) continue;
      this.#found.set(server, { server, region: "", zone: "", load: UNKNOWN_LOAD, kind: "node", seenMonoMs: monoMs, isProven: false });
    }
  }

  /** The server answered, so it is as good as one that never failed. */
  answered(server: string): void {
    if (this.#failed.size > 0) this.#failed.delete(server);
  }

  /**
   * Takes what a server said: the servers of the cluster, and its own place. An empty list changes nothing, because a cluster without servers does not
   * answer.
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

  /** Found servers to prove by asking them who they are, the nearest first. */
  toProve(monoMs: number): readonly string[] {
    return (["node", "resolver"] as const).flatMap((kind) => {
      const all = [...this.#found.values()].filter((one) => one.kind === kind).toSorted((a, b) => this.#distance(a) - this.#distance(b));
      const wanted = all.filter(({ server }) => !this.#rests(server, monoMs)).slice(0, PROVEN_WANTED[kind]);
      return wanted.filter(({ isProven }) => !isProven).map(({ server }) => server);
    });
  }

  /** Found servers have answered that they belong to the cluster. They come together, so that the choice among them is by load and not by speed. */
  proven(servers: readonly string[], monoMs: number): void {
    for (const server of servers) {
      const known = this.#found.get(server);
      if (known !== undefined) this.#found.set(server, { ...known, isProven: true });
      this.answered(server);
    }
    this.#settle(monoMs);
  }

  /** Moves to a nearer server. Among equally near ones it stays, so that a program reads what it has written. */
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

  /** A resolver that is no farther away than the nodes. */
  #bestReader(monoMs: number): string | undefined {
    const resolvers = this.#usable("resolver", monoMs);
    const nearest = Math.min(...resolvers.map((one) => this.#distance(one)));
    const isNodeNearer = this.#usable("node", monoMs).some((one) => this.#distance(one) < nearest);
    return resolvers.length === 0 || isNodeNearer ? undefined : this.#lighterOf(resolvers);
  }

  /** After a loss: a node that has answered before, then a seed, then an address that nobody has tried, then who rests the shortest. */
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

  /** Of the nearest ones the less loaded of two random ones, so that clients which start together do not all choose the same. */
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

  /** 0 in the same zone, 1 in the same region, 2 elsewhere. A zone is a part of its region. */
  #distance({ region, zone }: ZoneLocality): number {
    if (this.#place === undefined || region !== this.#place.region) return 2;
    return zone === this.#place.zone ? 0 : 1;
  }
}

// Reads which servers there are from the answers of a server: nodes from `ClusterMap`, resolvers from the entries of their namespace.

/** Where resolvers register themselves. */
export const RESOLVERS_NAMESPACE = "discovery.resolvers";
/** A node that its operator wants clients to use. */
const INGRESS_ROLE = "ingress";

/** The nodes for clients: those with the role `ingress`, or all of them when none has it. Entries without a gRPC address are left out. */
export function nodesFor(entries: readonly Entry[]): readonly FoundServer[] {
  const ingress = entries.filter(({ capabilities }) => capabilities.includes(INGRESS_ROLE));
  return serversOf(ingress.length > 0 ? ingress : entries, "node");
}

export function resolversFor(entries: readonly Entry[]): readonly FoundServer[] {
  return serversOf(entries, "resolver");
}

/** Most urls that a refusal is read for. */
const MAX_URLS = 4;

/** The nodes that a resolver names when it refuses a write: urls with spaces between, each `host:port` or `grpc://host:port` (`grpcs` with TLS). Others are left out. */
export function nodesNamedIn(urls: string): readonly string[] {
  const addresses = urls.split(" ", MAX_URLS).map((url) => parseServer(url.replace(/^grpcs?:\/\//, "")));
  return addresses.filter((address) => address !== undefined);
}

function serversOf(entries: readonly Entry[], kind: FoundServer["kind"]): readonly FoundServer[] {
  return entries.flatMap(({ targets, region, zone, load }) => {
    const target = targets.find(({ name }) => name === "grpc") ?? targets.find(({ name, protocol }) => name === "" && protocol === "grpc");
    const server = target && parseServer(hostPort(target.host, target.port));
    if (server === undefined) return [];
    return [{ server, region, zone, load: load?.utilization ?? UNKNOWN_LOAD, kind }];
  });
}

// How many tries a client may make beyond the first ones (gRPC A6, "Throttling Retry Attempts and Hedged RPCs"; Finagle's `RetryBudget`). Each call
// earns a tenth of a token and each retry spends a whole one, so retries are at most a tenth of the calls, beside the tokens of the start. In an outage
// the tokens run out, and the clients do not multiply the traffic to the servers that are left.

/** Tokens that a call earns: the most retries a call, in the long run. */
const EARNED = 0.1;
/** Most tokens, and those of the start: that many calls in a row can fail over before any has succeeded. */
const MOST = 10;

export class RetryBudget {
  #tokens = MOST;

  /** A call begins. */
  earn(): void {
    this.#tokens = Math.min(MOST, this.#tokens + EARNED);
  }

  /** Takes a token for one more try, if there is one. */
  spend(): boolean {
    // Ten times a tenth is a little less than one.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens -= 1;
    return true;
  }
}
