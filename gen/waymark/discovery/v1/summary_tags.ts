// Made by scripts/gen-codec.ts from the protos: change these, then `npm run gen`.

/** Tags of the fields of `ServiceSummary`, of which the last known one has the number 24. */
export const SERVICE_SUMMARY_TAG = {
  namespace: 10,
  serviceId: 18,
  regions: 26,
  endpointCount: 32,
  healthBand: 40,
  latencyBandMs: 50,
  ttl: 58,
  generatedAt: 66,
  policyVersion: 74,
  sourceCluster: 82,
  scope: 88,
  signature: 98,
  keyId: 106,
  kind: 112,
  version: 120,
  exporter: 130,
  notAfter: 138,
  noStale: 144,
  withdrawn: 152,
  stale: 160,
  signedBytes: 170,
  policyNumber: 176,
  policyRule: 186,
  tag: 193,
} as const;
export const SERVICE_SUMMARY_LAST_FIELD = 24;

/** Tags of the fields of `HeardCluster`, of which the last known one has the number 3. */
export const HEARD_CLUSTER_TAG = {
  sourceCluster: 10,
  version: 16,
  age: 26,
} as const;
export const HEARD_CLUSTER_LAST_FIELD = 3;

/** Tags of the fields of `SummaryQueryResponse`, of which the last known one has the number 18. */
export const SUMMARY_QUERY_RESPONSE_TAG = {
  items: 10,
  ingress: 18,
  nextPageToken: 26,
  generatedAt: 34,
  servedBy: 42,
  revision: 48,
  age: 58,
  stale: 64,
  source: 72,
  policyEpoch: 82,
  via: 90,
  unreachableNodes: 98,
  hiddenBy: 146,
} as const;
export const SUMMARY_QUERY_RESPONSE_LAST_FIELD = 18;

/** Tags of the fields of `SummaryWatchResponse`, of which the last known one has the number 18. */
export const SUMMARY_WATCH_RESPONSE_TAG = {
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
  heard: 130,
  unreachableNodes: 138,
  hiddenBy: 146,
} as const;
export const SUMMARY_WATCH_RESPONSE_LAST_FIELD = 18;
