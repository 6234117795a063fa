/** Finds the nodes that serve a zone, according to their own catalog entries. */
import { DNS_ZONES_KEY, NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import { portWord } from "../../catalog/entry/view.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { ListCursor } from "../../catalog/query/ordered-records.ts";
import { type CatalogRecord, HEALTH, KIND, viewHealth } from "../../catalog/record/record.ts";
import { isLoopbackHost } from "../../lib/addresses.ts";

/** Maximum number of name servers of a zone. Their addresses must fit into small responses. */
export const MAX_GATEWAYS = 8;
/** Maximum number of node entries that are examined, and of this cluster's entries that are decoded. */
const MAX_SEEN = 10_000;
const MAX_DECODED = 256;
/** Name of the target that each node with a DNS gateway registers. */
const DNS_PORT = "dns";

/**
 * Returns the entries of healthy nodes in the cluster whose gateway serves the zone. The result is ordered by id and limited, so that all nodes
 * return the same list. A gateway that listens on loopback is omitted unless all targets of its node are on loopback, because other hosts cannot
 * reach it.
 */
export function findGateways(
  lookup: EntryIndex,
  { clusterId, zone, read }: { readonly clusterId: string; readonly zone: string; readonly read: (record: CatalogRecord) => EntryView },
): readonly EntryView[] {
  const cursor = new ListCursor(lookup.ofKind(KIND.NODE));
  cursor.seek(`${NODES_NAMESPACE}\0`);
  const found: EntryView[] = [];
  let decodedCount = 0;
  for (let seen = 0; seen < MAX_SEEN && decodedCount < MAX_DECODED && found.length < MAX_GATEWAYS; seen++) {
    const record = cursor.next();
    if (record === undefined || record.namespace !== NODES_NAMESPACE) break;
    const { traits } = record;
    if (traits.clusterId !== clusterId || !traits.ports.includes(portWord("udp", DNS_PORT))) continue;
    if (viewHealth(record) !== HEALTH.HEALTHY) continue;
    const entry = read(record);
    decodedCount += 1;
    if (servesZone(entry, zone)) found.push(entry);
  }
  return found;
}

/** Returns the host of the node's gateway. Returns undefined when other hosts cannot reach the gateway. */
export function gatewayHost({ targets }: EntryView): string | undefined {
  const host = targets.find(({ name }) => name === DNS_PORT)?.host;
  if (host === undefined || !isLoopbackHost(host)) return host;
  return targets.every((target) => isLoopbackHost(target.host)) ? host : undefined;
}

function servesZone(entry: EntryView, zone: string): boolean {
  return (entry.read("metadata")[DNS_ZONES_KEY] ?? "").split(" ").includes(zone) && gatewayHost(entry) !== undefined;
}
