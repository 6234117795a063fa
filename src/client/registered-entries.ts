/** The entries that a handle keeps registered, what was reported of them, and what a server must be told so that it has others in their place. */
import { clone, equals } from "@bufbuild/protobuf";
import { type Entry, type EntryKey, EntrySchema, HealthStatus, type LoadReport } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryReport } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { entryKeyText } from "../consumer/watch-follower.ts";

/** What was reported of an entry. What is absent stays as it was. */
interface ReportedState {
  readonly health?: HealthStatus;
  readonly load?: LoadReport;
}

export class RegisteredEntries {
  /** As a server has taken them. */
  #kept: readonly Entry[];
  /** Reports that no server has been told yet, by key. */
  readonly #reports = new Map<string, ReportedState>();
  /** Reports that a server is being told: the entries have them when it has taken them. */
  readonly #sent = new Map<string, ReportedState>();
  /** Keys that a server was told to put, and may have put. */
  readonly #unsure = new Map<string, EntryKey>();
  /** Keys that may be under the lease, and are not kept. */
  readonly #left = new Map<string, EntryKey>();

  constructor(entries: readonly Entry[]) {
    this.#kept = entries;
  }

  get list(): readonly Entry[] {
    return this.#kept;
  }

  /** Whether any entry has this instance id: one that is kept, or one of an update that waits. */
  hasInstance(instanceId: string, waiting: readonly Entry[]): boolean {
    return [...this.#kept, ...waiting].some(({ key }) => key?.instanceId === instanceId);
  }

  /**
   * Notes a report about each entry with this instance id, or about all without one: those that are kept, and those of updates that wait. Returns whether a health is new, so that it is to be
   * told at once.
   */
  note(report: EntryReport, instanceId: string | undefined, waiting: readonly Entry[]): boolean {
    let isUrgent = false;
    const isMeant = ({ key }: Entry) => instanceId === undefined || key?.instanceId === instanceId;
    // UNSPECIFIED leaves the health as it is.
    const saysHealth = report.health !== HealthStatus.UNSPECIFIED;
    const isOverridden = new Set<string>();
    for (const entry of waiting.filter(isMeant)) {
      // What an update says is older than the report. It may be on its way already, so the report follows it in any case.
      if (report.load !== undefined && entry.load !== undefined) entry.load = report.load;
      if (!saysHealth || entry.health === HealthStatus.UNSPECIFIED) continue;
      entry.health = report.health;
      isOverridden.add(idOf(entry));
    }
    for (const [text, entry] of byText([...waiting, ...this.#kept].filter(isMeant))) {
      const before = this.#reports.get(text);
      const last = { health: entry.health, ...this.#sent.get(text), ...before };
      const isNew = saysHealth && (isOverridden.has(text) || report.health !== last.health);
      isUrgent ||= isNew;
      this.#reports.set(text, { ...before, ...(isNew && { health: report.health }), ...(report.load && { load: report.load }) });
    }
    return isUrgent;
  }

  /** Whether a server is to be told a health. */
  get hasNewHealth(): boolean {
    return this.#kept.some((entry) => this.#reports.get(idOf(entry))?.health !== undefined);
  }

  /** The entries as a registration says them, with all that was reported. It is being told from now on. */
  registration(): readonly Entry[] {
    this.#send();
    return this.#kept.map((entry) => Object.assign(clone(EntrySchema, entry), this.#sent.get(idOf(entry))));
  }

  /** The reports that are due. They are being told from now on. */
  reports(): readonly (ReportedState & { readonly key: EntryKey })[] {
    this.#send();
    return this.#kept.flatMap((entry) => {
      const said = this.#sent.get(idOf(entry));
      return entry.key === undefined || said === undefined ? [] : [{ key: entry.key, ...said }];
    });
  }

  /** A server has taken what it was told: later registrations say the same. */
  taken(): void {
    for (const entry of this.#kept) Object.assign(entry, this.#sent.get(idOf(entry)));
    this.#sent.clear();
  }

  /** A server has refused what it was told. */
  refused(): void {
    this.#sent.clear();
  }

  /** No server has taken what it was told. It is to be told again, except what is newer by now. */
  returned(): void {
    for (const [text, said] of this.#sent) this.#reports.set(text, { ...said, ...this.#reports.get(text) });
    this.#sent.clear();
  }

  /** An update comes. What its entries say is newer than what was reported of them and not told yet. */
  supersedes(entries: readonly Entry[]): void {
    for (const entry of entries) {
      const said = this.#reports.get(idOf(entry));
      if (said === undefined) continue;
      const { health, load } = said;
      const isHealthLeft = health !== undefined && entry.health === HealthStatus.UNSPECIFIED;
      const isLoadLeft = load !== undefined && entry.load === undefined;
      this.#reports.set(idOf(entry), { ...(isHealthLeft && { health }), ...(isLoadLeft && { load }) });
    }
  }

  /** The entries of an update, with the last health and load of those that say none. */
  merged(wanted: readonly Entry[]): readonly Entry[] {
    const kept = byText(this.#kept);
    return wanted.map((entry) => {
      const before = kept.get(idOf(entry));
      const made = clone(EntrySchema, entry);
      if (before !== undefined && made.health === HealthStatus.UNSPECIFIED) made.health = before.health;
      if (before?.load !== undefined) made.load ??= before.load;
      return made;
    });
  }

  /** Those of the entries that a server must be told: new ones, changed ones, and those that it may have otherwise. All of them where a server would refuse the list. */
  toPut(merged: readonly Entry[]): readonly Entry[] {
    const kept = byText(this.#kept);
    if (byText(merged).size < merged.length) return merged;
    return merged.filter((entry) => {
      const before = kept.get(idOf(entry));
      return before === undefined || this.#unsure.has(idOf(entry)) || !equals(EntrySchema, before, entry);
    });
  }

  /** A server was told to put these, and may have done so. */
  mayHavePut(entries: readonly Entry[]): void {
    for (const entry of entries) if (entry.key !== undefined) this.#unsure.set(idOf(entry), entry.key);
  }

  /** These are the entries from now on. A server has all of them. */
  replace(merged: readonly Entry[]): void {
    for (const entry of this.#kept) if (entry.key !== undefined) this.#left.set(idOf(entry), entry.key);
    for (const [text, key] of this.#unsure) this.#left.set(text, key);
    for (const entry of merged) this.#left.delete(idOf(entry));
    this.#unsure.clear();
    this.#kept = merged;
  }

  /** The keys that are to be removed from the lease. */
  get left(): readonly EntryKey[] {
    return [...this.#left.values()];
  }

  /** Whether the lease may have other entries than those that are kept. */
  get isInDoubt(): boolean {
    return this.#unsure.size > 0 || this.#left.size > 0;
  }

  /** A server has removed them all. */
  removed(): void {
    this.#left.clear();
  }

  /** The lease has the entries that are kept, and no others; or nothing can be done about it. */
  withoutDoubt(): void {
    this.#left.clear();
    this.#unsure.clear();
  }

  /** Forgets reports of entries that are neither kept nor wait. */
  prune(waiting: readonly Entry[]): void {
    const known = byText([...this.#kept, ...waiting]);
    for (const text of this.#reports.keys()) if (!known.has(text)) this.#reports.delete(text);
  }

  /** What was reported of the kept entries goes to a server now. */
  #send(): void {
    for (const entry of this.#kept) {
      const said = this.#reports.get(idOf(entry));
      if (said === undefined) continue;
      this.#sent.set(idOf(entry), said);
      this.#reports.delete(idOf(entry));
    }
  }
}

/** The key as a text. An entry without a key, which no server takes, has an empty one. */
function idOf({ key }: Entry): string {
  return key === undefined ? "" : entryKeyText(key);
}

/** Of several entries of one key the last one. */
function byText(entries: readonly Entry[]): ReadonlyMap<string, Entry> {
  return new Map(entries.map((entry) => [idOf(entry), entry]));
}
