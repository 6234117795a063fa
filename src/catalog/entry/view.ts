/** A decoded entry as plain values, for rooms that need its fields (DNS, select, listings). */
import type { EntryFields, LoadReportFields, TargetFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import type { EntryKey, Health } from "../record/record.ts";
import type { Scope } from "./scope.ts";

export type TargetView = TargetFields;

export interface LoadView extends Omit<LoadReportFields, "observedAt"> {
  readonly observedWallMs: number;
}

/** The fields of an entry, except times and stamps that no reader needs. */
export interface EntryView
  extends Omit<
    EntryFields,
    "key" | "scope" | "ttl" | "clusterId" | "health" | "load" | "registeredAt" | "updatedAt" | "registeredByAdmin"
  > {
  readonly key: EntryKey;
  readonly scope: Scope;
  /** Advice to caches. Undefined if the entry has none. */
  readonly ttlMs: number | undefined;
  /** The health that readers see: ORPHANED while the origin is away. */
  readonly health: Health;
  readonly load: LoadView | undefined;
  /** When its node last changed anything of it, by the clock of that node. Undefined where nobody said. */
  readonly updatedWallMs?: number | undefined;
}

/** The version of a FUNCTION. Empty without a version and for other kinds. */
export function versionOf({ detail }: Pick<EntryFields, "detail">): string {
  return detail.case === "function" ? detail.value.version : "";
}
