/** Lists the services of a namespace. */
import { portWord, TRANSPORTS } from "../../catalog/entry/view.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { ListCursor } from "../../catalog/query/ordered-records.ts";
import { type CatalogRecord, KIND } from "../../catalog/record/record.ts";
import { isDrained } from "../../consumer/health-tiers.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";
import type { ListedService, TruncatedList, TtlSource } from "../subject/browsing.ts";

/** Maximum number of entries that are examined for one list. */
const MAX_SEEN = 20_000;

export interface ListOptions {
  /** Maximum number of services. */
  readonly most: number;
  /** Reads the fields of a record that limit the TTL of the list. Called for each record in the list. */
  readonly read: (record: CatalogRecord) => TtlSource;
}

/**
 * Returns at most `most` services with an entry that is not in maintenance, ordered by name. Only the first `MAX_SEEN` entries are examined. The cost
 * is proportional to the number of entries examined.
 */
export function listServices(lookup: EntryIndex, namespace: string, { most, read }: ListOptions): TruncatedList<ListedService> {
  const cursor = new ListCursor(lookup.ofKind(KIND.SERVICE));
  cursor.seek(`${namespace}\0`);
  const found = new Map<string, Set<TransportProtocol>>();
  const ttlSources = new Map<string, TtlSource>();
  const listed = (isCut: boolean): TruncatedList<ListedService> => {
    const items = [...found].map(([name, transports]) => ({ name, transports: [...transports] }));
    const facts = { ...(ttlSources.size > 0 && { ttlSources: [...ttlSources.values()] }), ...(hasDrained && { hasDrained }) };
    return { items, isCut, ...facts };
  };
  let hasDrained = false;
  for (let seen = 0; ; seen++) {
    const record = cursor.next();
    if (record === undefined || record.namespace !== namespace) break;
    if (seen === MAX_SEEN) return listed(true);
    if (isDrained(record)) {
      hasDrained ||= TRANSPORTS.some((transport) => record.traits.ports.includes(portWord(transport)));
      continue;
    }
    if (!found.has(record.name) && found.size === most) return listed(true);
    const transports = found.get(record.name) ?? new Set();
    found.set(record.name, transports);
    for (const transport of TRANSPORTS) if (record.traits.ports.includes(portWord(transport))) transports.add(transport);
    const source = read(record);
    // There are only a few distinct TTLs, regardless of the number of entries.
    ttlSources.set(`${source.ttlMs} ${source.health}`, source);
  }
  return listed(false);
}
