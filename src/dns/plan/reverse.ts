/** Finds what a name of a reverse zone stands for: the names of visible services and nodes at an address. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { KIND } from "../../catalog/record/record.ts";
import { isDrained, tierOf } from "../../consumer/health-tiers.ts";
import { parseReverseName } from "../../lib/addresses.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { type DnsName, formatName, zoneOf } from "../names/names.ts";
import { withTarget } from "../records/best-entries.ts";
import type { DnsSettings } from "../records/record.ts";
import { apexSubject, type DnsCatalog, type DnsSubject, findSubject } from "../subject/subject.ts";

/** Most entries that are read to see which names of one address answer with it. */
const MAX_READ = 4_096;

type Zones = Pick<DnsSettings, "reverseZones" | "zones">;

/** The reverse zone of a name; undefined where there is none, or a zone of services is longer. */
export function reverseZoneOf(name: string, { reverseZones, zones }: Zones): string | undefined {
  const zone = zoneOf(name, reverseZones);
  return zone === undefined || (zoneOf(name, zones)?.length ?? -1) > zone.length ? undefined : zone;
}

/** By the name of a service or node, the best tier that it shows, as `bestTier` finds it. For as long as nothing changes. */
export type BestTiers = Map<string, number>;

/** What a full name of a reverse zone stands for. `tiers`: what other addresses have found. */
export function findReverseSubject(name: string, zone: string, all: Zones, catalog: DnsCatalog, tiers?: BestTiers): DnsSubject {
  if (name === zone) return apexSubject(zone, catalog);
  const meant = parseReverseName(name);
  if (meant === undefined) return { kind: "absent" };
  // Whether there is an address below is not looked for: then nothing tells how many are hidden.
  if (meant === "above") return { kind: "empty" };
  const { items, isCut } = catalog.atAddress(meant);
  let isPart = isCut;
  const ttlSources: EntryView[] = [];
  const names: string[] = [];
  let readCount = 0;
  for (const entry of items) {
    const own = isDrained(entry) ? undefined : nameOf(entry, all);
    if (own === undefined) continue;
    // HOT: once an address in a transfer. What is healthy is shown whatever the others of its name are, of which there may be thousands.
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
      // Of a sample the entry may be no part.
      if (best < 0 || tierOf(withTarget(entry)) > best) continue;
    }
    names.push(own.text);
    ttlSources.push(entry);
  }
  if (names.length > 0) return { kind: "list", names: { items: names, isCut: isPart }, ttlSources };
  if (catalog.remoteLookup?.isFollowed("") === false)
    throw new WaymarkError("not_ready", "this resolver does not follow everything, and does not know who else is at the address");
  return items.length > 0 ? { kind: "empty" } : { kind: "absent" };
}

/** The entry's own name, in the first zone that has it: what lies in a longer zone is another name, or none. */
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

/** Of the entries that A and AAAA are drawn from the best tier. -1 where there is no such name, so that nothing is shown at it. */
function bestTier(subject: DnsSubject): number {
  if (subject.kind !== "entries") return -1;
  return subject.targets.reduce((best, { entry }) => Math.min(best, tierOf(withTarget(entry))), Number.POSITIVE_INFINITY);
}
