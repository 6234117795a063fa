/** Which services a namespace has. */
import { portWord, TRANSPORTS, type Transport } from "../../catalog/entry/ports.ts";
import type { Lookup } from "../../catalog/query/lookup.ts";
import { Cursor } from "../../catalog/query/ordered.ts";
import { HEALTH, KIND } from "../../catalog/record/record.ts";
import type { Listed, ListedService } from "../plan/browsing.ts";

/** Most entries that are looked at for one list. */
const MAX_SEEN = 20_000;

/** Services with an entry that is not in maintenance, in order of their names: at most so many, and as many as MAX_SEEN entries have. Cost: their entries, none of which is decoded. */
export function listServices(lookup: Lookup, namespace: string, most: number): Listed<ListedService> {
  const cursor = new Cursor(lookup.ofKind(KIND.SERVICE));
  cursor.seek(`${namespace}\0`);
  const found = new Map<string, Set<Transport>>();
  let hasDrained = false;
  for (let seen = 0; ; seen++) {
    const record = cursor.next();
    if (record === undefined || record.namespace !== namespace) break;
    if (seen === MAX_SEEN) return listed(found, { isCut: true, hasDrained });
    if (record.health === HEALTH.MAINTENANCE) {
      hasDrained ||= TRANSPORTS.some((transport) => record.traits.ports.includes(portWord(transport)));
      continue;
    }
    if (!found.has(record.name) && found.size === most) return listed(found, { isCut: true, hasDrained });
    const transports = found.get(record.name) ?? new Set();
    found.set(record.name, transports);
    for (const transport of TRANSPORTS) if (record.traits.ports.includes(portWord(transport))) transports.add(transport);
  }
  return listed(found, { isCut: false, hasDrained });
}

function listed(
  found: ReadonlyMap<string, ReadonlySet<Transport>>,
  { isCut, hasDrained }: { readonly isCut: boolean; readonly hasDrained: boolean },
): Listed<ListedService> {
  const items = [...found].map(([name, transports]) => ({ name, transports: [...transports] }));
  return { items, isCut, ...(hasDrained && { hasDrained }) };
}
