/** One change of a set: the rows that it edits, its item in the history, and the head with the next epoch, in one transaction. */
import type { Time } from "../../lib/machine.ts";
import type { StoreCondition, StoreWrite } from "../../store/control/store.ts";
import { encodeRecord, type LeaderRecord } from "../leadership/records.ts";
import type { ChangeOrigin } from "./io-types.ts";
import { fenceNumbers, type ShardMap, type ShardRow, statusOf } from "./maps.ts";
import { historyKey, type RowState, rowKey, SHARD_SETS, type ShardChange, type ShardSetRecord, type ShardSettings } from "./records.ts";

/** Maximum number of rows of a change, so that all its conditions fit into one transaction. */
export const MAX_CHANGED_ROWS = 48;

export interface ShardEdits {
  readonly map: ShardMap;
  /** The settings after the change, until when the set is frozen, and whether it is deleted. */
  readonly settings: ShardSettings & Pick<ShardSetRecord, "frozenUntilWallMs" | "isDeleted">;
  /** The rows after the change. Their epochs and times are set by `changeOf`. */
  readonly rows: readonly ShardRow[];
  readonly origin: ChangeOrigin;
  /** Number of changes that the history keeps. */
  readonly historyCount: number;
}

export interface PreparedChange {
  readonly epoch: number;
  /** The rows and the head have the versions in the map. */
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly StoreWrite[];
  readonly rows: readonly ShardRow[];
}

export function changeOf(
  { map, settings, rows, origin, historyCount }: ShardEdits,
  { wallMs }: Time,
  correlationId: string,
): PreparedChange {
  const { namespace, set } = map;
  const epoch = set.value.epoch + 1;
  const edited = rows.map((row): ShardRow => ({ ...row, epoch, changedWallMs: wallMs }));
  const oldestEpoch = Math.max(set.value.oldestEpoch, epoch - historyCount + 1);
  const head: ShardSetRecord = {
    ...settings,
    epoch,
    rowsEpoch: edited.length > 0 ? epoch : set.value.rowsEpoch,
    checksum: map.checksumWith(edited),
    oldestEpoch,
  };
  const change: ShardChange = {
    ...origin,
    epoch,
    wallMs,
    rows: edited.map((row) => ({ id: row.id, before: stateOf(map.rows[row.id]), after: stateOf(row) })),
  };
  const headKey = SHARD_SETS + namespace;
  return {
    epoch,
    rows: edited,
    conditions: [
      { key: headKey, version: set.version },
      ...edited.map(({ id }) => ({ key: rowKey(namespace, id), version: map.rows[id]?.version ?? 0 })),
    ],
    writes: [
      { key: headKey, value: encodeRecord(head) },
      { key: historyKey(namespace, epoch), value: encodeRecord(change) },
      ...(oldestEpoch > set.value.oldestEpoch ? [{ key: historyKey(namespace, set.value.oldestEpoch), value: undefined }] : []),
      ...edited.map((row) => ({ key: rowKey(namespace, row.id), value: encodeRecord(recordOf(row, correlationId)) })),
    ],
  };
}

/** The row without an owner, and without a hand-over. */
export function freed(row: ShardRow, reason: string): ShardRow {
  return { ...row, owner: "", session: "", next: "", isDraining: false, isThrottled: false, reason };
}

function recordOf(row: ShardRow, correlationId: string): LeaderRecord {
  const { owner: holderId, nodeId, session, term, fence, reason, epoch, mode, isDraining, isThrottled, next, weight, hint, ticket } = row;
  const shard = {
    epoch,
    mode,
    isDraining,
    isThrottled,
    next,
    weight,
    hint,
    ticket,
    changedWallMs: row.changedWallMs,
    movedWallMs: row.movedWallMs,
  };
  return { holderId, nodeId, session, term, fence, issuedWallMs: row.movedWallMs, reason, correlationId, resign: undefined, shard };
}

function stateOf(row: ShardRow | undefined): RowState {
  if (row === undefined) return { owner: "", next: "", fence: "", status: "" };
  return { owner: row.owner, next: row.next, fence: fenceNumbers(row.fence), status: statusOf(row) };
}
