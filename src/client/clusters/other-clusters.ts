/** The clients of other clusters, each created when a cluster is first called through a set of URLs. */
import { BoundedMap } from "../../lib/bounded-map.ts";
import { Client, type ClientOptions } from "../client.ts";
import { RequestError, unreachedFailure } from "../request-error.ts";
import { ServerList } from "../servers/server-list.ts";
import { type IngressUrls, ingressIn } from "./ingress-urls.ts";
import { type DirectedChannel, ProvenChannel, type ServerProbeResult } from "./proven-channel.ts";

/** Maximum number of clients with open connections. The least recently used client is closed first. */
const MAX_PLACES = 32;

/** Rules for connections to other clusters. */
export interface ClusterAccessRules {
  /** Whether the cluster is called over TLS. */
  isTls(clusterId: string): boolean;
  /**
   * Opens a connection with the credentials for this cluster, if there are any. The credentials are sent only to servers whose certificate names
   * the cluster.
   */
  open(clusterId: string, server: string): DirectedChannel;
  /** Checks a server whose URL was provided by `from`. No credentials are sent. */
  lookAt(
    found: { readonly clusterId: string; readonly server: string; readonly from: string },
    timeoutMs: number,
  ): Promise<ServerProbeResult>;
}

/** The URLs that a server provided for another cluster. */
export interface ClusterAddress {
  readonly clusterId: string;
  readonly urls: readonly string[];
  /** The server that provided the URLs, as `host:port`. */
  readonly from: string;
}

export interface ClusterClient {
  readonly client: Client;
  /** Adds the cluster and the faults of its URLs to a call's error, and throws it. Throws other errors unchanged. */
  readonly thrown: (error: unknown) => never;
}

export class OtherClusters {
  readonly #home: Client;
  readonly #ways: ClusterAccessRules;
  readonly #options: ClientOptions;
  /**
   * Clients by cluster and servers, with the least recently used first. A second set of URLs for a cluster has its own client, so that calls to the
   * first set are not interrupted.
   */
  readonly #known = new BoundedMap<string, ClusterClient>(MAX_PLACES, (_place, { client }) => client.close());

  constructor(home: Client, ways: ClusterAccessRules, options: ClientOptions) {
    this.#home = home;
    this.#ways = ways;
    this.#options = options;
  }

  /**
   * Returns the client for a cluster. Calls through this client try the URLs one after the other. Throws a `RequestError` if none of the URLs can be
   * used.
   */
  at(located: ClusterAddress): ClusterClient {
    const { clusterId, from } = located;
    const ingress = ingressIn(located.urls, { from, isTls: this.#ways.isTls(clusterId) });
    if (ingress.servers.length === 0) throw failureOf(unreachedFailure("none of its URLs can be used", from), located, ingress);
    const place = [clusterId, ...ingress.servers].join(" ");
    const known = this.#known.get(place) ?? {
      client: this.#clientOf(located, ingress),
      thrown: (error: unknown) => throwTold(error, located, ingress),
    };
    this.#known.set(place, known);
    return known;
  }

  close(): void {
    for (const { client } of this.#known.values()) client.close();
    this.#known.clear();
  }

  #clientOf({ clusterId, from }: ClusterAddress, { servers }: IngressUrls): Client {
    const { random, nowMs } = this.#options;
    const lookAt = (server: string, timeoutMs: number) => this.#ways.lookAt({ clusterId, server, from }, timeoutMs);
    const open = (server: string) => new ProvenChannel(this.#ways.open(clusterId, server), { clusterId, lookAt, nowMs });
    return new Client(new ServerList({ seeds: servers, place: this.#home.place, random }), open, this.#options);
  }
}

function throwTold(error: unknown, located: ClusterAddress, ingress: IngressUrls): never {
  const isOurs = error instanceof RequestError && ingress.servers.includes(error.facts.server);
  throw isOurs ? failureOf(error, located, ingress) : error;
}

function failureOf(error: RequestError, { clusterId }: ClusterAddress, { faults }: IngressUrls): RequestError {
  const strange = faults.length === 0 ? "" : `; ${faults.length} of its URLs were rejected: ${[...new Set(faults)].join(", ")}`;
  const metadata = { ...error.facts.metadata, cluster: clusterId, unusedUrls: String(faults.length) };
  return new RequestError(`cluster ${clusterId}: ${error.message}${strange}`, { ...error.facts, metadata }, error);
}
