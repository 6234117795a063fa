/** What a client does at other clusters than its own. */
import type { SummaryCallOptions } from "../calls.ts";
import type { Client, ClientOptions, Elsewhere } from "../client.ts";
import type { Choice, ResolveOptions } from "../live/choice.ts";
import { OwnCluster } from "./asking.ts";
import { IngressCalls } from "./ingress-calls.ts";
import { type ClusterWays, OtherClusters } from "./other-clusters.ts";
import { Redirects } from "./redirects.ts";

/** The clients of the other clusters have the options of the own one, and find no servers. */
export function elsewhereOf(home: Client, ways: ClusterWays, options: Omit<ClientOptions, "elsewhere" | "startFinding">): Elsewhere {
  const own = new OwnCluster(home);
  const { nowMs, lookupTtlMs } = options;
  const clusters = new OtherClusters(home, ways, { ...options, followsRedirects: false });
  const parts = { home, own, clusters, nowMs, lookupTtlMs };
  const redirects = new Redirects(parts);
  const calls = new IngressCalls(parts);
  return {
    resolve: (namespace: string, name: string, asked: ResolveOptions): Promise<Choice | undefined> =>
      redirects.resolve(namespace, name, asked),
    run: <T>(cluster: string, fn: (client: Client) => Promise<T>, asked: SummaryCallOptions): Promise<T> => calls.run(cluster, fn, asked),
    close: () => clusters.close(),
  };
}
