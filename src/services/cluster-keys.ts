/** Implements `PeerService.Keys`, which returns the cluster keys that this node trusts, and the paging for all lists in that service. */

import { create, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ClusterKey,
  ClusterKeySchema,
  type PeerServiceKeysRequest,
  PeerServiceKeysRequestSchema,
  PeerServiceKeysResponseSchema,
} from "../../gen/waymark/control/v1/peer_pb.js";
import { decodePageToken, encodePageToken, pageLimit } from "../catalog/query/query.ts";
import { invalid } from "../lib/errors.ts";
import { fnv64, hashHex } from "../lib/hash64.ts";
import type { Time } from "../lib/machine.ts";
import { MAX_WALL_MS } from "../policy/set/validation.ts";
import type { ListedKey } from "../signing/key-registry.ts";
import { requestCheckOf } from "./contract.ts";
import type { RouteParameters } from "./service.ts";

/** A key of a cluster, or an announcement of a key. */
export interface ClusterKeyRow extends ListedKey {
  /** Whether this node signs with the key. */
  readonly signs: boolean;
}

export interface ListedKeys {
  readonly rows: readonly ClusterKeyRow[];
  readonly servedBy: string;
  readonly time: Time;
}

export interface KeysRequest {
  readonly limit: number;
  readonly pageToken: string;
}

/** Query parameters of a list. */
export const PAGE = ["limit", "page_token"] as const;

/** Number of digits in the position of a key in its cluster's list. */
const PLACE_DIGITS = 6;

export function keysAnswer(
  { rows, servedBy, time }: ListedKeys,
  { clusterId, limit, pageToken }: KeysRequest & Pick<PeerServiceKeysRequest, "clusterId">,
) {
  const seen = new Map<string, number>();
  const placed = rows.map((row) => {
    const at = seen.get(row.cluster) ?? 0;
    seen.set(row.cluster, at + 1);
    return { row, place: `${row.cluster}\0${String(at).padStart(PLACE_DIGITS, "0")}` };
  });
  const asked = placed.filter(({ row }) => clusterId === "" || row.cluster === clusterId);
  const { page, nextPageToken } = paged(asked, ({ place }) => place, { limit, pageToken, hash: hashHex(fnv64(`keys\0${clusterId}`)) });
  return create(PeerServiceKeysResponseSchema, {
    keys: page.map(({ row }) => wireKey(row)),
    nextPageToken,
    servedBy,
    generatedAt: timestampFromMs(time.wallMs),
  });
}

const checkKeys = requestCheckOf(PeerServiceKeysRequestSchema);

/** Returns the answer of `Keys`, and the same answer without the time. Throws `invalid_argument`. */
export function keysJson(listed: ListedKeys, asked: RouteParameters) {
  const request = create(PeerServiceKeysRequestSchema, { clusterId: asked["cluster_id"] ?? "", ...pageOf(asked) });
  checkKeys(request);
  const answer = keysAnswer(listed, request);
  const page = toJson(PeerServiceKeysResponseSchema, answer, { alwaysEmitImplicit: true });
  delete answer.generatedAt;
  return { page, steady: toJson(PeerServiceKeysResponseSchema, answer) };
}

function wireKey({ cluster, region, keyId, publicKey, counts, announced, signs }: ClusterKeyRow): ClusterKey {
  return create(ClusterKeySchema, {
    clusterId: cluster,
    region,
    keyId,
    publicKey,
    counts,
    signs,
    ...(announced !== undefined && {
      announcedBy: announced.signedBy,
      notBefore: timestampOf(announced.notBeforeWallMs),
      notAfter: timestampOf(announced.notAfterWallMs),
    }),
  });
}

/** Limits the time to the range of a Timestamp, which ends with the year 9999. An announcement can contain any time. */
function timestampOf(wallMs: number) {
  return timestampFromMs(Math.min(wallMs, MAX_WALL_MS));
}

/** Returns the requested page of the rows, sorted by `placeOf`. `hash` identifies the filter of the list. */
export function paged<T>(
  rows: readonly T[],
  placeOf: (row: T) => string,
  { limit, pageToken, hash }: KeysRequest & { readonly hash: string },
) {
  const after = decodePageToken(pageToken, hash);
  const rest = rows
    .map((row) => ({ row, place: placeOf(row) }))
    .filter(({ place }) => place > after)
    .toSorted((a, b) => (a.place < b.place ? -1 : 1));
  const page = rest.slice(0, pageLimit(limit));
  const last = page.at(-1);
  const nextPageToken = last === undefined || page.length === rest.length ? "" : encodePageToken(last.place, hash);
  return { page: page.map(({ row }) => row), nextPageToken };
}

/** Reads the page parameters of a GET request. */
export function pageOf({ limit = "0", page_token: pageToken = "" }: RouteParameters): KeysRequest {
  if (!/^\d{1,6}$/.test(limit))
    throw invalid("limit", `must be a whole number from 0 to 999999, got ${JSON.stringify(limit.slice(0, 64))}`);
  return { limit: Number(limit), pageToken };
}
