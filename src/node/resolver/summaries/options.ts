/** Builds the options for following summaries from the settings. */
import { EVERYTHING } from "../../../config/resolver.ts";
import type { Settings } from "../../../config/settings.ts";
import { CHANNELS, type FollowedKeys, type FollowedSummariesOptions } from "../../../resolver/summaries/followed-summaries.ts";
import { TrustedKeys } from "../../../resolver/summaries/trusted-keys.ts";

/** This is more than any node stores: 200,000 summaries of other clusters, plus its own cluster's summaries, source heartbeats and announcements. */
const MAX_RECORDS = 250_000;

/** Returns the options. Undefined if the settings do not name a scope, in which case no summaries are followed. */
export function followedSummariesOf(
  { node, resolver, summary }: Settings,
  own: Pick<FollowedSummariesOptions, "generation" | "nodeId">,
): FollowedSummariesOptions | undefined {
  const { resolverScopes, resolverNamespaces, keys, ttlMs, staleKeepMs, maxClockSkewMs, pruneIntervalMs, requireSignatures } = summary;
  if (resolverScopes.length === 0) return undefined;
  const named = resolverNamespaces.length > 0 ? resolverNamespaces : resolver.namespaces;
  return {
    ...own,
    clusterId: node.clusterId,
    region: node.region,
    ttlMs,
    staleKeepMs,
    maxClockSkewMs,
    pruneIntervalMs,
    requireSignatures: keys.length > 0 && requireSignatures,
    prefixes: named.length === 0 || named.includes(EVERYTHING) ? [""] : named,
    scopes: new Set(resolverScopes.flatMap((word) => (isChannel(word) ? [CHANNELS[word]] : []))),
    maxEntries: Math.min(resolver.maxEntries, MAX_RECORDS),
    maxBytes: resolver.maxBytes,
  };
}

/** Returns the keys for verifying summaries. Without configured keys, summaries from the upstream are trusted. */
export function followedKeysOf({ summary }: Settings, open: () => FollowedKeys): FollowedKeys {
  return summary.keys.length > 0 ? open() : new TrustedKeys();
}

function isChannel(word: string): word is keyof typeof CHANNELS {
  return Object.hasOwn(CHANNELS, word);
}
