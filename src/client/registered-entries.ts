/** The entries that a handle keeps registered, their reports, and the changes that have not been sent to a server yet. */
import { clone, equals } from "@bufbuild/protobuf";
import { type Entry, type EntryKey, EntrySchema, HealthStatus, type LoadReport } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryReport } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { entryKeyText } from "../consumer/watch-follower.ts";

/** A report about an entry. Absent values are left unchanged. */
interface ReportedState {
  readonly health?: HealthStatus;
  readonly load?: LoadReport;
}

export class RegisteredEntries {
  /** The entries as accepted by a server. */
  #kept: readonly Entry[];
  /** Reports that have not been sent yet, by key. */
  readonly #reports = new Map<string, ReportedState>();
  /** Reports in a call that is in progress. They are merged into the entries when a server accepts them. */
  readonly #sent = new Map<string, ReportedState>();
  /** Keys in a put that a server may have applied. */
  readonly #unsure = new Map<string, EntryKey>();
  /** Keys of entries that are no longer wanted but may still be attached to the lease. */
  readonly #left = new Map<string, EntryKey>();

  constructor(entries: readonly Entry[]) {
    this.#kept = entries;
  }

  get list(): readonly Entry[] {
    return this.#kept;
  }

  /** Whether an entry has this instance ID. Includes the kept entries and the pending updates. */
  hasInstance(instanceId: string, waiting: readonly Entry[]): boolean {
    return [...this.#kept, ...waiting].some(({ key }) => key?.instanceId === instanceId);
  }

  /**
   * Records a report in the kept entries and the pending updates, for each entry with this instance ID or, without an ID, for all entries. Returns
   * whether any health has changed and must be sent immediately.
   */
  note(report: EntryReport, instanceId: string | undefined, waiting: readonly Entry[]): boolean {
    let isUrgent = false;
    const isMeant = ({ key }: Entry) => instanceId === undefined || key?.instanceId === instanceId;
    // UNSPECIFIED leaves the health unchanged.
    const saysHealth = report.health !== HealthStatus.UNSPECIFIED;
    const isOverridden = new Set<string>();
    for (const entry of waiting.filter(isMeant)) {
      // The values in an update are older than the report. The update may already be in progress, so the report is also sent.
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

  /** Whether a health change must be sent. */
  get hasNewHealth(): boolean {
    return this.#kept.some((entry) => this.#reports.get(idOf(entry))?.health !== undefined);
  }

  /** Returns the entries for a registration, including all reports, and marks the reports as sent. */
  registration(): readonly Entry[] {
    this.#send();
    return this.#kept.map((entry) => Object.assign(clone(EntrySchema, entry), this.#sent.get(idOf(entry))));
  }

  /** Returns the pending reports, and marks them as sent. */
  reports(): readonly (ReportedState & { readonly key: EntryKey })[] {
    this.#send();
    return this.#kept.flatMap((entry) => {
      const report = this.#sent.get(idOf(entry));
      return entry.key === undefined || report === undefined ? [] : [{ key: entry.key, ...report }];
    });
  }

  /** Called when a server has accepted the sent reports, so that later registrations include them. */
  taken(): void {
    for (const entry of this.#kept) Object.assign(entry, this.#sent.get(idOf(entry)));
    this.#sent.clear();
  }

  /** Called when a server has rejected the sent reports. */
  refused(): void {
    this.#sent.clear();
  }

  /** Called when no server has accepted the sent reports. The reports are sent again, unless there are newer values. */
  returned(): void {
    for (const [text, report] of this.#sent) this.#reports.set(text, { ...report, ...this.#reports.get(text) });
    this.#sent.clear();
  }

  /** Discards unsent reports that are overridden by the entries of a new update. */
  supersedes(entries: readonly Entry[]): void {
    for (const entry of entries) {
      const report = this.#reports.get(idOf(entry));
      if (report === undefined) continue;
      const { health, load } = report;
      const isHealthLeft = health !== undefined && entry.health === HealthStatus.UNSPECIFIED;
      const isLoadLeft = load !== undefined && entry.load === undefined;
      this.#reports.set(idOf(entry), { ...(isHealthLeft && { health }), ...(isLoadLeft && { load }) });
    }
  }

  /** Returns the entries of an update. An entry that does not set its health or load keeps the last value. */
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

  /**
   * Returns the entries that must be sent: new entries, changed entries, and entries that may differ on the server. Returns all entries if the list
   * has a duplicate key, so that the server rejects it.
   */
  toPut(merged: readonly Entry[]): readonly Entry[] {
    const kept = byText(this.#kept);
    if (byText(merged).size < merged.length) return merged;
    return merged.filter((entry) => {
      const before = kept.get(idOf(entry));
      return before === undefined || this.#unsure.has(idOf(entry)) || !equals(EntrySchema, before, entry);
    });
  }

  /** Records a put that a server may have applied. */
  mayHavePut(entries: readonly Entry[]): void {
    for (const entry of entries) if (entry.key !== undefined) this.#unsure.set(idOf(entry), entry.key);
  }

  /** Replaces the kept entries. Called when a server has all of the new entries. */
  replace(merged: readonly Entry[]): void {
    for (const entry of this.#kept) if (entry.key !== undefined) this.#left.set(idOf(entry), entry.key);
    for (const [text, key] of this.#unsure) this.#left.set(text, key);
    for (const entry of merged) this.#left.delete(idOf(entry));
    this.#unsure.clear();
    this.#kept = merged;
  }

  /** The keys to remove from the lease. */
  get left(): readonly EntryKey[] {
    return [...this.#left.values()];
  }

  /** Whether the lease may have entries other than the kept ones. */
  get isInDoubt(): boolean {
    return this.#unsure.size > 0 || this.#left.size > 0;
  }

  /** Called when a server has removed all keys in `left`. */
  removed(): void {
    this.#left.clear();
  }

  /** Called when the lease has exactly the kept entries, or the difference cannot be repaired. */
  withoutDoubt(): void {
    this.#left.clear();
    this.#unsure.clear();
  }

  /** Discards reports for entries that are neither kept nor in a pending update. */
  prune(waiting: readonly Entry[]): void {
    const known = byText([...this.#kept, ...waiting]);
    for (const text of this.#reports.keys()) if (!known.has(text)) this.#reports.delete(text);
  }

  /** Moves the reports of the kept entries from pending to sent. */
  #send(): void {
    for (const entry of this.#kept) {
      const report = this.#reports.get(idOf(entry));
      if (report === undefined) continue;
      this.#sent.set(idOf(entry), report);
      this.#reports.delete(idOf(entry));
    }
  }
}

/** Returns the key as a string. Returns an empty string for an entry without a key, which every server rejects. */
function idOf({ key }: Entry): string {
  return key === undefined ? "" : entryKeyText(key);
}

/** Maps each key to its last entry. */
function byText(entries: readonly Entry[]): ReadonlyMap<string, Entry> {
  return new Map(entries.map((entry) => [idOf(entry), entry]));
}
