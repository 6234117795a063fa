/** Makes the options of a resolver from the settings. */
import { EVERYTHING } from "../../config/resolver.ts";
import type { Settings } from "../../config/settings.ts";
import type { ResolverOptions } from "../../resolver/io-types.ts";

/** The settings of a resolver (`node.mode` = resolver), as its machine takes them. `name` is its node id, by which other resolvers know it. */
export function resolverOptionsOf({ node, resolver }: Settings, own: Pick<ResolverOptions, "name" | "random">): ResolverOptions {
  const { upstreams, namespaces, maxWatches, maxEntries, maxBytes, maxStaleMs, guardHoldMs, pruneIntervalMs } = resolver;
  const { ttlZoneMs: zoneMs, ttlRegionMs: regionMs, ttlGlobalMs: globalMs, negativeTtlMs: negativeMs } = resolver;
  return {
    ...own,
    clusterId: node.clusterId,
    region: node.region,
    upstreams,
    // Below an empty prefix is everything.
    namespaces: namespaces.includes(EVERYTHING) ? [""] : namespaces,
    maxWatches,
    maxEntries,
    maxBytes,
    ttls: { zoneMs, regionMs, globalMs, negativeMs },
    maxStaleMs,
    guardHoldMs,
    pruneIntervalMs,
    seedOnStart: resolver.seedOnStart,
    resyncIntervalMs: resolver.resyncIntervalMs,
  };
}
