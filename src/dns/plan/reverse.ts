/** Finds what a name of a reverse zone stands for: the names of visible services and nodes at an address. */
import type { EntryView } from "../../catalog/entry/view.ts";
import { HEALTH, KIND } from "../../catalog/record/record.ts";
import { parseReverseName } from "../../lib/addresses.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { formatName, zoneOf } from "../names/names.ts";
import type { DnsSettings } from "../records/record.ts";
import { bestOf } from "../records/shown.ts";
import { apexSubject, type DnsCatalog, findSubject, type Subject } from "../subject/subject.ts";

/** Most entries that are read to see which names of one address answer with it. */
const MAX_READ = 4_096;

type Zones = Pick<DnsSettings, "reverseZones" | "zones">;

/** The reverse zone of a name; undefined where there is none, or a zone of services is longer. */
export function reverseZoneOf(name: string, { reverseZones, zones }: Zones): string | undefined {
  const zone = zoneOf(name, reverseZones);
  return zone === undefined || (zoneOf(name, zones)?.length ?? -1) > zone.length ? undefined : zone;
}

/** What a full name of a reverse zone stands for. Services and nodes are named in the first of the zones. */
export function findReverseSubject(name: string, zone: string, { zones: [nameZone = ""] }: Zones, catalog: DnsCatalog): Subject {
  if (name === zone) return apexSubject(zone, catalog);
  const meant = parseReverseName(name);
  if (meant === undefined) return { kind: "absent" };
  // Whether there is an address below is not looked for: then nothing tells how many are hidden.
  if (meant === "above") return { kind: "empty" };
  const { items, isCut } = catalog.atAddress(meant);
  let isPart = isCut;
  const carriers: EntryView[] = [];
  const names: string[] = [];
  let readCount = 0;
  for (const entry of items) {
    if (entry.health === HEALTH.MAINTENANCE) continue;
    if (readCount >= MAX_READ) {
      isPart = true;
      break;
    }
    const text = nameOf(entry, nameZone);
    const subject = text === undefined ? undefined : findSubject(text.slice(0, -nameZone.length - 1), nameZone, catalog);
    if (text === undefined || subject?.kind !== "entries") continue;
    readCount += subject.entries.length;
    if (!isAnswered(entry, subject)) continue;
    names.push(text);
    carriers.push(entry);
  }
  if (names.length > 0) return { kind: "list", names: { items: names, isCut: isPart }, carriers };
  if (catalog.elsewhere?.isFollowed("") === false)
    throw new WaymarkError("not_ready", "this resolver does not follow everything, and does not know who else is at the address");
  return items.length > 0 ? { kind: "empty" } : { kind: "absent" };
}

function nameOf({ key }: EntryView, zone: string): string | undefined {
  if (key.kind === KIND.NODE) return formatName({ form: "node", nodeId: key.name }, zone);
  return formatName({ form: "direct", name: key.name, namespace: key.namespace }, zone);
}

/** Whether A or AAAA of the name shows the addresses of this entry: those of the best tier are shown. */
function isAnswered(entry: EntryView, { targets }: Subject & { readonly kind: "entries" }): boolean {
  const entries = [entry, ...targets.map((target) => target.entry)];
  return bestOf(entries, (each) => each).includes(entry);
}
