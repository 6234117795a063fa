// Made by scripts/gen-codec.ts from the protos: change these, then `npm run gen`.

/** Tags of the fields of `MaintenanceOrder`, of which the last known one has the number 5. */
export const MAINTENANCE_ORDER_TAG = {
  hlc: 8,
  on: 16,
  reason: 26,
  untilMs: 32,
  giver: 42,
} as const;
export const MAINTENANCE_ORDER_LAST_FIELD = 5;

/** Tags of the fields of `Record`, of which the last known one has the number 14. */
export const RECORD_TAG = {
  seq: 8,
  hlc: 16,
  reach: 24,
  filterSeq: 32,
  firstSeq: 40,
  principal: 50,
  entry: 58,
  tombstone: 66,
  unregisteredHlc: 72,
  order: 106,
  ownerOrder: 114,
} as const;
export const RECORD_LAST_FIELD = 14;

/** Tags of the fields of `Tombstone`, of which the last known one has the number 2. */
export const TOMBSTONE_TAG = {
  key: 10,
  cause: 16,
} as const;
export const TOMBSTONE_LAST_FIELD = 2;
