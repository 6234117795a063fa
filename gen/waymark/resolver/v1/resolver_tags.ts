// Made by scripts/gen-codec.ts from the protos: change these, then `npm run gen`.

/** Tags of the fields of `ResolveResponse`, of which the last known one has the number 8. */
export const RESOLVE_RESPONSE_TAG = {
  entries: 10,
  stale: 16,
  age: 26,
  nextPageToken: 34,
  source: 40,
  servedBy: 50,
  cursor: 58,
  unreachableNodes: 66,
} as const;
export const RESOLVE_RESPONSE_LAST_FIELD = 8;
