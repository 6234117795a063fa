/** The catalog facts that policy changes need: the entries for a dry run, and the known clusters and regions. */
import { ANY } from "../catalog/query/filter.ts";
import { ListCursor } from "../catalog/query/ordered-records.ts";
import { queryPage } from "../catalog/query/query.ts";
import { BODY, type CatalogRecord, KIND, keyParts } from "../catalog/record/record.ts";
import type { StoredRecord } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { CatalogFacts, PlanEntry } from "../policy/set/plan.ts";
import type { Viewer } from "../policy/set/verdict.ts";
import type { CatalogReads } from "./reads.ts";

const ENTRIES_A_SLICE = 1000;

/** Returns the facts that a dry run needs. `viewers`: the known viewers. `channels`: copied to the facts. */
export function catalogFactsForPlan(
  { lookup, origins }: Replica,
  { node }: Pick<CatalogReads, "node">,
  { viewers, channels }: { readonly viewers: readonly Viewer[]; readonly channels: CatalogFacts["channels"] },
): CatalogFacts {
  return {
    channels,
    namespaces: () => lookup.namespaces.list(),
    count: (namespace) => lookup.namespaceCount(namespace),
    examples: (namespace, max) =>
      queryPage(lookup, { ...ANY, namespace }, { limit: max, afterKey: "", self: node, allowed: () => true, explain: false }).records.map(
        ({ key }) => keyParts(key),
      ),
    viewers: () => viewers,
    entries: () => catalogEntries(origins),
  };
}

/** Yields between slices, so that other work can run. If entries change in the meantime, their new state is read. */
function* catalogEntries(origins: Replica["origins"]): Generator<PlanEntry> {
  for (const { log } of origins.values()) {
    let afterSeq = 0;
    for (let storedRecords: StoredRecord[] = []; ; storedRecords = []) {
      log.forEachSince(afterSeq, (stored, seq) => {
        afterSeq = seq;
        storedRecords.push(stored);
        return storedRecords.length < ENTRIES_A_SLICE;
      });
      for (const { body, namespace, scope, traits, key } of storedRecords) {
        const from = { clusterId: traits.clusterId, region: traits.region };
        if (body === BODY.ENTRY) yield { namespace, scope, from, key: () => keyParts(key) };
      }
      if (storedRecords.length < ENTRIES_A_SLICE) break;
    }
  }
}

/** Returns every cluster that has a node in the catalog, together with its region. */
export function regionsOf({ lookup }: Replica): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const nodes = new ListCursor(lookup.ofKind(KIND.NODE));
  for (let node: CatalogRecord | undefined = nodes.next(); node !== undefined; node = nodes.next())
    found.set(node.traits.clusterId, node.traits.region);
  return found;
}
