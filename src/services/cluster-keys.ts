/** Implements `PeerService.Keys`, which returns the cluster keys that this node trusts. */

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ClusterKey,
  ClusterKeySchema,
  type PeerServiceKeysRequest,
  PeerServiceKeysResponseSchema,
} from "../../gen/waymark/control/v1/peer_pb.js";
import type { Time } from "../lib/machine.ts";
import type { ListedKey } from "../signing/key-registry.ts";
import { timestampOf } from "./contract.ts";
import { filterHash, type PageRequest, paged } from "./list-page.ts";

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

/** Number of digits in the position of a key in its cluster's list. */
const PLACE_DIGITS = 6;

export function keysAnswer(
  { rows, servedBy, time }: ListedKeys,
  { clusterId, limit, pageToken }: PageRequest & Pick<PeerServiceKeysRequest, "clusterId">,
) {
  const seen = new Map<string, number>();
  const placed = rows.map((row) => {
    const at = seen.get(row.cluster) ?? 0;
    seen.set(row.cluster, at + 1);
    return { row, place: `${row.cluster}\0${String(at).padStart(PLACE_DIGITS, "0")}` };
  });
  const asked = placed.filter(({ row }) => clusterId === "" || row.cluster === clusterId);
  const { page, nextPageToken } = paged(asked, ({ place }) => place, { limit, pageToken, hash: filterHash("keys", clusterId) });
  return create(PeerServiceKeysResponseSchema, {
    keys: page.map(({ row }) => wireKey(row)),
    nextPageToken,
    servedBy,
    generatedAt: timestampFromMs(time.wallMs),
  });
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
