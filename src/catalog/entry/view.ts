/** A decoded entry as plain values, for rooms that need its fields (DNS, select, listings). */
import { type EntryFields, type LoadReportFields, newEntry, type TargetFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import type { EntryKey, Health } from "../record/record.ts";
import type { Scope } from "./scope.ts";

export type TargetView = TargetFields;

export interface LoadView extends Omit<LoadReportFields, "observedAt"> {
  readonly observedWallMs: number;
}

/** Fields that may be large, and that few readers need. */
export type LargeFields = Pick<EntryFields, "aliases" | "capabilities" | "detail" | "metadata" | "tags">;

/** The fields of an entry that answers need from every instance of a name. `read` gives the others. */
export interface EntryView extends Pick<EntryFields, "nodeId" | "region" | "targets" | "zone"> {
  readonly key: EntryKey;
  readonly scope: Scope;
  /** Advice to caches. Undefined if the entry has none. */
  readonly ttlMs: number | undefined;
  /** The health that readers see: ORPHANED while the origin is away. */
  readonly health: Health;
  readonly load: LoadView | undefined;
  /** When its node last changed anything of it, by the clock of that node. Undefined where nobody said. */
  readonly updatedWallMs?: number | undefined;
  /** Decodes a large field, again at each call. For an entry of the catalog only in the turn in which that was read, because its bytes are not kept. */
  readonly read: <F extends keyof LargeFields>(field: F) => LargeFields[F];
}

/** The version of a FUNCTION. Empty without a version and for other kinds. */
export function versionOf({ detail }: Pick<EntryFields, "detail">): string {
  return detail.case === "function" ? detail.value.version : "";
}

/** An entry made of targets, for an answer about a name that has no entry in the catalog. */
export function viewOfPlaces(
  targets: readonly TargetView[],
  facts: Pick<EntryView, "health" | "key" | "region" | "scope" | "ttlMs">,
): EntryView {
  return { nodeId: "", zone: "", ...facts, load: undefined, targets, read: (field) => newEntry()[field] };
}
