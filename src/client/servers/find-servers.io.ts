/**
 * Discovers other servers by sending requests to a client's servers, repeatedly while the client is open. `server-list.ts` decides which of them are
 * used.
 */

import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { ClusterCalls } from "../cluster-calls.ts";
import { RequestError } from "../request-error.ts";
import type { ServerList } from "./server-list.ts";
import { nodesFor, RESOLVERS_NAMESPACE, resolversFor } from "./server-list.ts";

export interface FindingOptions {
  readonly refreshMs: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/**
 * The first discovery request is sent within this time after the first answer, so a program that makes one call and exits does not send another
 * request.
 */
const FIRST_MS = 1000;
/** A discovered server that does not answer within this time is not used. */
const PROOF_MS = 2000;
const PAGE_LIMIT = 1000;
/** Maximum number of pages requested for each list. If a cluster is larger, the first pages contain enough nodes. */
const MAX_PAGES = 4;

export class ServerFinder {
  readonly #calls: ClusterCalls;
  readonly #servers: ServerList;
  readonly #options: FindingOptions;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #hasPlace = false;
  #place = { region: "", zone: "" };

  constructor(calls: ClusterCalls, servers: ServerList, options: FindingOptions) {
    this.#calls = calls;
    this.#servers = servers;
    this.#options = options;
    this.#schedule(FIRST_MS * options.random());
  }

  close(): void {
    this.#abort.abort();
    clearTimeout(this.#timer);
  }

  #schedule(waitMs: number): void {
    if (this.#abort.signal.aborted) return;
    this.#timer = setTimeout(() => void this.#round(), waitMs);
    // Server discovery must not keep the program running.
    this.#timer.unref();
  }

  async #round(): Promise<void> {
    try {
      await this.#ask();
    } catch (error) {
      // Known servers are kept, because the failure of one server says nothing about the others.
      if (!(error instanceof RequestError)) throw error;
    }
    this.#schedule(this.#options.refreshMs * (0.5 + this.#options.random()));
  }

  async #ask(): Promise<void> {
    const { signal } = this.#abort;
    const { serverInfo, clusterMap, catalogQuery } = DiscoveryService.method;
    let clusterId = "";
    const nodes = await this.#pages(async (pageToken) => {
      const page = await this.#calls.call(clusterMap, { scope: Scope.ZONE, limit: PAGE_LIMIT, pageToken }, { signal });
      ({ clusterId } = page);
      return { items: page.nodes, next: page.nextPageToken };
    });
    const resolvers = await this.#pages(async (pageToken) => {
      const page = await this.#calls.call(catalogQuery, { namespace: RESOLVERS_NAMESPACE, limit: PAGE_LIMIT, pageToken }, { signal });
      return { items: page.items, next: page.nextPageToken };
    }).catch((error: unknown) => {
      // Some callers are not allowed to see resolvers.
      if (error instanceof RequestError) return [];
      throw error;
    });
    if (!this.#hasPlace) {
      this.#place = await this.#calls.call(serverInfo, {}, { signal });
      this.#hasPlace = true;
    }
    const ofCluster = resolvers.filter((entry) => entry.clusterId === clusterId);
    this.#servers.learn([...nodesFor(nodes), ...resolversFor(ofCluster)], this.#place, performance.now());
    this.#calls.dropUnlisted();
    const toProve = this.#servers.toProve(performance.now());
    const answers = await Promise.all(toProve.map((server) => this.#isOf(clusterId, server)));
    const proven = toProve.filter((_, i) => answers[i]);
    if (proven.length > 0) this.#servers.proven(proven, performance.now());
  }

  /** Whether a server is reachable from this program and belongs to the cluster. */
  async #isOf(clusterId: string, server: string): Promise<boolean> {
    const options = { timeoutMs: PROOF_MS, signal: this.#abort.signal };
    try {
      return (await this.#calls.callAt(server, DiscoveryService.method.serverInfo, {}, options)).clusterId === clusterId;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      this.#servers.failed(server, performance.now());
      return false;
    }
  }

  async #pages(
    ask: (pageToken: string) => Promise<{ readonly items: readonly Entry[]; readonly next: string }>,
  ): Promise<readonly Entry[]> {
    const found: Entry[] = [];
    let token = "";
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const { items, next } = await ask(token);
      found.push(...items);
      token = next;
      if (token === "") break;
    }
    return found;
  }
}
