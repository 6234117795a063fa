/** Resolves a name in a reverse zone to the names of the visible services and nodes at that address. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { KIND } from "../../catalog/record/record.ts";
import { isDrained, tierOf } from "../../consumer/health-tiers.ts";
import { parseReverseName } from "../../lib/addresses.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { type DnsName, formatName, zoneOf } from "../names/names.ts";
import { withTarget } from "../records/best-entries.ts";
import type { DnsSettings } from "../records/record.ts";
import { apexSubject, type DnsCatalog, type DnsSubject, findSubject } from "../subject/subject.ts";

/** Maximum number of entries read to decide which names an address resolves to. */
const MAX_READ = 4_096;

type Zones = Pick<DnsSettings, "reverseZones" | "zones">;

/** Returns the reverse zone of a name. Returns undefined when there is none, or when a service zone matches more labels. */
export function reverseZoneOf(name: string, { reverseZones, zones }: Zones): string | undefined {
  const zone = zoneOf(name, reverseZones);
  return zone === undefined || (zoneOf(name, zones)?.length ?? -1) > zone.length ? undefined : zone;
}

/** The best health tier of each service or node (see `bestTier`), by name. These tiers are valid until the catalog changes. */
export type BestTiers = Map<string, number>;

/** Finds the subject of a full name in a reverse zone. `tiers` caches results that are shared between addresses. */
export function findReverseSubject(name: string, zone: string, all: Zones, catalog: DnsCatalog, tiers?: BestTiers): DnsSubject {
  if (name === zone) return apexSubject(zone, catalog);
  const meant = parseReverseName(name);
  if (meant === undefined) return { kind: "absent" };
  // Addresses below this name are not looked up, so that the answer does not reveal how many are hidden.
  if (meant === "above") return { kind: "empty" };
  const { items, isCut } = catalog.atAddress(meant);
  let isPart = isCut;
  const ttlSources: EntryView[] = [];
  const names: string[] = [];
  let readCount = 0;
  for (const entry of items) {
    const own = isDrained(entry) ? undefined : nameOf(entry, all);
    if (own === undefined) continue;
    // HOT: runs per address in a transfer. A healthy entry is shown regardless of the other entries with its name. There may be thousands of them.
    if (tierOf(withTarget(entry)) > 0 || catalog.remoteLookup !== undefined) {
      let best = tiers?.get(own.text);
      if (best === undefined) {
        if (readCount >= MAX_READ) {
          isPart = true;
          continue;
        }
        const subject = findSubject(own.text.slice(0, -own.zone.length - 1), own.zone, catalog);
        readCount += subject.kind === "entries" ? subject.entries.length : 0;
        best = bestTier(subject);
        tiers?.set(own.text, best);
      }
      // A sample might not contain the entry.
      if (best < 0 || tierOf(withTarget(entry)) > best) continue;
    }
    names.push(own.text);
    ttlSources.push(entry);
  }
  if (names.length > 0) return { kind: "list", names: { items: names, isCut: isPart }, ttlSources };
  if (catalog.remoteLookup?.isFollowed("") === false)
    throw new WaymarkError("not_ready", "cannot list the names of an address: this resolver does not watch all namespaces");
  return items.length > 0 ? { kind: "empty" } : { kind: "absent" };
}

/**
 * Returns the entry's own name in the first zone that is also the longest zone containing that name. Returns undefined when there is no such zone.
 */
function nameOf({ key }: EntryView, { zones, reverseZones }: Zones): { readonly text: string; readonly zone: string } | undefined {
  const { kind, name, namespace } = key;
  const form: DnsName = kind === KIND.NODE ? { form: "node", nodeId: name } : { form: "direct", name, namespace };
  const all = [...zones, ...reverseZones];
  for (const zone of zones) {
    const text = formatName(form, zone);
    if (text !== undefined && zoneOf(text, all) === zone) return { text, zone };
  }
  return undefined;
}

/** Returns the best health tier of the targets used for A and AAAA records, or -1 when the name has no entries, so that nothing is shown. */
function bestTier(subject: DnsSubject): number {
  if (subject.kind !== "entries") return -1;
  return subject.targets.reduce((best, { entry }) => Math.min(best, tierOf(withTarget(entry))), Number.POSITIVE_INFINITY);
}
