/** A decoded entry as plain values, for the rooms that look inside one (DNS, select, listings). */
import type { EntryFields, LoadReportFields, TargetFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import type { EntryKey, Health } from "../record/record.ts";
import type { Scope } from "./scope.ts";

export type TargetView = TargetFields;

export interface LoadView extends Omit<LoadReportFields, "observedAt"> {
  readonly observedWallMs: number;
}

/** All that an entry says, but for the times and stamps that nobody looks at here. */
export interface EntryView
  extends Omit<
    EntryFields,
    "key" | "scope" | "ttl" | "clusterId" | "health" | "load" | "registeredAt" | "updatedAt" | "registeredByAdmin"
  > {
  readonly key: EntryKey;
  readonly scope: Scope;
  /** Advice to caches; undefined when the entry gives none. */
  readonly ttlMs: number | undefined;
  /** What readers see: ORPHANED while the origin is away. */
  readonly health: Health;
  readonly load: LoadView | undefined;
}

/** Of a FUNCTION; empty when it has none, and for the other kinds. */
export function versionOf({ detail }: Pick<EntryFields, "detail">): string {
  return detail.case === "function" ? detail.value.version : "";
}
