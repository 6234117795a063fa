// Made by scripts/gen-codec.ts from the protos: change these, then `npm run gen`.

/** Tags of the fields of `DiscoveryDelta`, of which the last known one has the number 11. */
export const DISCOVERY_DELTA_TAG = {
  deltaId: 10,
  namespace: 18,
  scope: 24,
  action: 32,
  entry: 42,
  removed: 50,
  summary: 58,
  sealedRecord: 90,
  sentAt: 66,
  revision: 72,
  cause: 80,
} as const;
export const DISCOVERY_DELTA_LAST_FIELD = 11;

/** Tags of the fields of `UnreachableNodes`, of which the last known one has the number 2. */
export const UNREACHABLE_NODES_TAG = {
  nodeIds: 10,
  count: 16,
} as const;
export const UNREACHABLE_NODES_LAST_FIELD = 2;

/** Tags of the fields of `CatalogQueryResponse`, of which the last known one has the number 18. */
export const CATALOG_QUERY_RESPONSE_TAG = {
  items: 10,
  nextPageToken: 18,
  generatedAt: 26,
  revision: 32,
  cursor: 42,
  servedBy: 50,
  age: 58,
  explanation: 66,
  stale: 72,
  source: 80,
  policyEpoch: 90,
  via: 98,
  unreachableNodes: 106,
  hiddenBy: 146,
} as const;
export const CATALOG_QUERY_RESPONSE_LAST_FIELD = 18;

/** Tags of the fields of `CatalogWatchResponse`, of which the last known one has the number 18. */
export const CATALOG_WATCH_RESPONSE_TAG = {
  deltas: 10,
  revision: 16,
  cursor: 26,
  portableCursor: 34,
  snapshot: 40,
  replaces: 50,
  bookmark: 56,
  count: 64,
  digest: 73,
  servedBy: 82,
  age: 90,
  stale: 96,
  source: 104,
  policyEpoch: 114,
  via: 122,
  unreachableNodes: 138,
  hiddenBy: 146,
} as const;
export const CATALOG_WATCH_RESPONSE_LAST_FIELD = 18;

/** Tags of the fields of `KeepAliveRequest`, of which the last known one has the number 2. */
export const KEEP_ALIVE_REQUEST_TAG = {
  leaseIds: 10,
  reports: 18,
} as const;
export const KEEP_ALIVE_REQUEST_LAST_FIELD = 2;

/** Tags of the fields of `KeepAliveResponse`, of which the last known one has the number 2. */
export const KEEP_ALIVE_RESPONSE_TAG = {
  expiredLeaseIds: 10,
  ttl: 18,
} as const;
export const KEEP_ALIVE_RESPONSE_LAST_FIELD = 2;

/** Tags of the fields of `RegisterRequest`, of which the last known one has the number 5. */
export const REGISTER_REQUEST_TAG = {
  entries: 10,
  ttl: 18,
  leaseId: 26,
  idempotencyKey: 34,
  staticLease: 40,
} as const;
export const REGISTER_REQUEST_LAST_FIELD = 5;
