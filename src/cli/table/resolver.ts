/** The rows of the VERBS table about the cache of a resolver. */
import type { VerbSpec } from "./verb.ts";

const cache = () => import("../verbs/resolver.ts");

const BELOW = { name: "[namespaces...]", doc: "Namespaces, each with those below it (default all)." };

/** `group`: words before the verb. Statistics and resync are among the verbs about entries too. */
function statsVerb(group: "resolver" | "discovery"): VerbSpec {
  return {
    path: `${group} cache-stats`,
    summary: "Statistics of a resolver's cache: entries, answers, age, lag, resyncs and memory.",
    examples: [[`${group} cache-stats`, "hit rate, lag and upstream of the resolver"]],
    load: async () => (await cache()).cacheStats,
  };
}

function resyncVerb(group: "resolver" | "discovery"): VerbSpec {
  return {
    path: `${group} resync`,
    summary: "Let a resolver fetch again what it follows. Until all of it is there, lookups show what was held.",
    args: [BELOW],
    examples: [
      [`${group} resync`, "everything"],
      [`${group} resync svc.market`, "one namespace, and those below it"],
    ],
    load: async () => (await cache()).resync,
  };
}

export const RESOLVER_VERBS: readonly VerbSpec[] = [
  statsVerb("resolver"),
  resyncVerb("resolver"),
  {
    path: "resolver prewarm",
    summary: "Let a resolver follow namespaces before somebody asks for them. It lets them go 10 minutes after the last ask.",
    args: [{ name: "<namespaces...>", doc: "Namespaces, each with those below it." }],
    examples: [["resolver prewarm svc.market svc.data", "before the traffic comes"]],
    load: async () => (await cache()).prewarm,
  },
  {
    path: "resolver evict",
    summary:
      "Let a resolver let go what it fetched, and what it follows only because it was asked for. What is configured or watched stays.",
    args: [BELOW],
    examples: [["resolver evict svc.old", "frees its memory"]],
    load: async () => (await cache()).evict,
  },
  statsVerb("discovery"),
  resyncVerb("discovery"),
];
