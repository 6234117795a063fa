/** `connect`, which opens a client. */
import { pause } from "../lib/stall-aware-time.io.ts";
import type { SummaryCallOptions } from "./calls.ts";
import { GrpcChannel } from "./channel.io.ts";
import { Client, type ClientOptions, type OtherClusterCalls } from "./client.ts";
import type { ClusterCalls } from "./cluster-calls.ts";
import { OwnCluster } from "./clusters/answer-cache.ts";
import { clusterAccess } from "./clusters/cluster-access.io.ts";
import { IngressCalls } from "./clusters/ingress-calls.ts";
import { type ClusterAccessRules, OtherClusters } from "./clusters/other-clusters.ts";
import { RedirectCache } from "./clusters/redirect-cache.ts";
import { type ConnectOptions, checkedServers, DEFAULT_LOOKUP_TTL_MS, DEFAULT_REFRESH_MS, DEFAULT_TIMEOUT_MS } from "./connect-options.ts";
import type { Choice, ResolveOptions } from "./live/choice.ts";
import { ServerFinder } from "./servers/find-servers.io.ts";
import { ServerList } from "./servers/server-list.ts";
import { credentialsOf } from "./tls.io.ts";

const NEEDED_NODE = 24;

/**
 * Opens a client. Connections are opened on first use. Throws a TypeError or RangeError that names the invalid option, and an Error if Node.js is
 * older than 24.
 */
export function connect(options: ConnectOptions): Client {
  return openClient(options, () => performance.now());
}

/** Like `connect`, with a monotonic clock (ms) that decides how long the client keeps answers. */
export function openClient(options: ConnectOptions, nowMs: () => number): Client {
  const { version, versions } = process;
  if (Number(versions.node.split(".", 1)[0]) < NEEDED_NODE)
    throw new Error(`waymark needs Node.js ${NEEDED_NODE} or newer; this is ${version}`);
  const seeds = checkedServers(options);
  const { region = "", zone = "", timeoutMs = DEFAULT_TIMEOUT_MS, findServers = true, refreshMs = DEFAULT_REFRESH_MS } = options;
  const place = region === "" && zone === "" ? undefined : { region, zone };
  const servers = new ServerList({ seeds, place, random: Math.random });
  const channelCredentials = credentialsOf(options.tls);
  const common = {
    timeoutMs,
    lookupTtlMs: options.lookupTtlMs ?? DEFAULT_LOOKUP_TTL_MS,
    nowMs,
    random: Math.random,
    wait: pause,
  };
  const ways = clusterAccess(options, (server, access) => new GrpcChannel(server, access.credentials, { ...access, timeoutMs }));
  return new Client(servers, (server) => new GrpcChannel(server, channelCredentials, options), {
    ...common,
    followsRedirects: options.autoSummaryRedirect === true,
    elsewhere: (client) => elsewhereOf(client, ways, common),
    ...(findServers && { startFinding: (calls: ClusterCalls) => new ServerFinder(calls, servers, { refreshMs, random: Math.random }) }),
  });
}

/**
 * Returns the calls to clusters other than the client's own. Their clients have the same options as this client, but do not discover servers.
 */
function elsewhereOf(
  home: Client,
  ways: ClusterAccessRules,
  options: Omit<ClientOptions, "elsewhere" | "startFinding">,
): OtherClusterCalls {
  const own = new OwnCluster(home);
  const { nowMs, lookupTtlMs } = options;
  const clusters = new OtherClusters(home, ways, { ...options, followsRedirects: false });
  const parts = { home, own, clusters, nowMs, lookupTtlMs };
  const redirects = new RedirectCache(parts);
  const calls = new IngressCalls(parts);
  return {
    resolve: (namespace: string, name: string, asked: ResolveOptions): Promise<Choice | undefined> =>
      redirects.resolve(namespace, name, asked),
    run: <T>(cluster: string, fn: (client: Client) => Promise<T>, asked: SummaryCallOptions): Promise<T> => calls.run(cluster, fn, asked),
    close: () => clusters.close(),
  };
}
