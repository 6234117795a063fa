/** The rows of the VERBS table for a resolver's cache. */
import type { VerbSpec } from "./verb.ts";

const cache = () => import("../verbs/resolver.ts");

const BELOW = { name: "[namespaces...]", doc: "Namespaces, each including the namespaces below it (default all)." };

/** `group` is the word before the verb. The verbs for statistics and resync are also in the group of verbs for entries. */
function statsVerb(group: "resolver" | "discovery"): VerbSpec {
  return {
    path: `${group} cache-stats`,
    summary: "Show the statistics of a resolver's cache: entries, answers, age, lag, resyncs and memory.",
    examples: [[`${group} cache-stats`, "show the hit rate, lag and upstream of the resolver"]],
    load: async () => (await cache()).cacheStats,
  };
}

function resyncVerb(group: "resolver" | "discovery"): VerbSpec {
  return {
    path: `${group} resync`,
    summary: "Make a resolver refetch the namespaces that it follows. Until the fetch is complete, lookups return the cached entries.",
    args: [BELOW],
    examples: [
      [`${group} resync`, "refetch all followed namespaces"],
      [`${group} resync svc.market`, "refetch one namespace and the namespaces below it"],
    ],
    load: async () => (await cache()).resync,
  };
}

export const RESOLVER_VERBS: readonly VerbSpec[] = [
  statsVerb("resolver"),
  resyncVerb("resolver"),
  {
    path: "resolver prewarm",
    summary:
      "Make a resolver follow namespaces before the first lookup. The resolver stops following a namespace 10 minutes after the last lookup.",
    args: [{ name: "<namespaces...>", doc: "Namespaces, each including the namespaces below it." }],
    examples: [["resolver prewarm svc.market svc.data", "fill the cache before traffic arrives"]],
    load: async () => (await cache()).prewarm,
  },
  {
    path: "resolver evict",
    summary:
      "Remove fetched entries, and namespaces followed only because of lookups, from a resolver's cache. Configured and watched namespaces are not removed.",
    args: [BELOW],
    examples: [["resolver evict svc.old", "free the memory of one namespace"]],
    load: async () => (await cache()).evict,
  },
  statsVerb("discovery"),
  resyncVerb("discovery"),
];
