// Made by scripts/gen-codec.ts from the protos: change these, then `npm run gen`.

/** Tags of the fields of `ServiceSummary`, of which the last known one has the number 23. */
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
} as const;
export const SERVICE_SUMMARY_LAST_FIELD = 23;

/** Tags of the fields of `SummaryQueryResponse`, of which the last known one has the number 9. */
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
} as const;
export const SUMMARY_QUERY_RESPONSE_LAST_FIELD = 9;
