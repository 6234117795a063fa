/** The clients of other clusters, made when a cluster is first called at a place. */
import { BoundedMap } from "../../lib/bounded-map.ts";
import { Client, type ClientOptions } from "../client.ts";
import { RequestError, unreachedFailure } from "../request-error.ts";
import { ServerList } from "../servers/server-list.ts";
import { type IngressUrls, ingressIn } from "./ingress-urls.ts";
import { type AimedChannel, ProvenChannel, type ServerProbeResult } from "./proven-channel.ts";

/** Most places with open connections; the one used longest ago goes first. */
const MAX_PLACES = 32;

/** How other clusters are reached. */
export interface ClusterAccessRules {
  /** Whether the cluster is called by TLS. */
  isTls(clusterId: string): boolean;
  /** A connection with the credentials for this cluster, if there are any, that shows them to no server whose certificate does not name it. */
  open(clusterId: string, server: string): AimedChannel;
  /** Looks at a server that `from` has named. It is shown no credentials. */
  lookAt(
    found: { readonly clusterId: string; readonly server: string; readonly from: string },
    timeoutMs: number,
  ): Promise<ServerProbeResult>;
}

/** Where a server says that another cluster is. */
export interface ClusterAddress {
  readonly clusterId: string;
  readonly urls: readonly string[];
  /** The server that says so, as `host:port`. */
  readonly from: string;
}

export interface ClusterClient {
  readonly client: Client;
  /** Throws the failure of a call there as the program is told it: with the cluster, and what was wrong with its urls. Throws other errors unchanged. */
  readonly thrown: (error: unknown) => never;
}

export class OtherClusters {
  readonly #home: Client;
  readonly #ways: ClusterAccessRules;
  readonly #options: ClientOptions;
  /** By cluster and servers, the one used longest ago first. Others may name another place of a cluster, and must not end the calls at this one. */
  readonly #known = new BoundedMap<string, ClusterClient>(MAX_PLACES, (_place, { client }) => client.close());

  constructor(home: Client, ways: ClusterAccessRules, options: ClientOptions) {
    this.#home = home;
    this.#ways = ways;
    this.#options = options;
  }

  /** The client of a cluster. Its calls try the urls in turn. Throws a `RequestError` when none of these may be used. */
  at(located: ClusterAddress): ClusterClient {
    const { clusterId, from } = located;
    const ingress = ingressIn(located.urls, { from, isTls: this.#ways.isTls(clusterId) });
    if (ingress.servers.length === 0) throw failureOf(unreachedFailure("it has no url that may be used", from), located, ingress);
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
  const strange = faults.length === 0 ? "" : `; ${faults.length} of its urls were not used: ${[...new Set(faults)].join(", ")}`;
  const metadata = { ...error.facts.metadata, cluster: clusterId, unusedUrls: String(faults.length) };
  return new RequestError(`cluster ${clusterId}: ${error.message}${strange}`, { ...error.facts, metadata }, error);
}
