/** Why a key is gone, for the REMOVE that tells a reader so. A reader may keep for a while what only expired. */
import { BODY } from "../record/record.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import { endsBeforeHlc, isNarrowing, isShown } from "../replica/view.ts";

/** The numbers of DiscoveryDelta.Cause. */
export const CAUSE = { NONE: 0, UNREGISTERED: 1, EXPIRED: 2, ORIGIN_AWAY: 3, NO_MATCH: 4 } as const;
export type ChangeCause = (typeof CAUSE)[keyof typeof CAUSE];

/** `stored`: the record whose touch made the key go. */
export function causeOf(stored: StoredRecord): ChangeCause {
  const ended = endedHlc(stored);
  if (stored.body === BODY.ENTRY) {
    if (ended > stored.hlc) return CAUSE.UNREGISTERED;
    return isShown(stored) ? CAUSE.NO_MATCH : CAUSE.ORIGIN_AWAY;
  }
  // Of several ends the newest counts: the key may have come back in between.
  const { body, hlc, unregisteredHlc } = stored.peers?.find((peer) => peer.body !== BODY.ENTRY) ?? stored;
  if (body === BODY.UNREGISTERED || ended > hlc) return CAUSE.UNREGISTERED;
  if (isNarrowing({ body, hlc, unregisteredHlc })) return CAUSE.NO_MATCH;
  // The end of an entry that was unregistered elsewhere is stamped just above that (`stampWith`).
  return unregisteredHlc !== undefined && hlc === unregisteredHlc + 1 ? CAUSE.UNREGISTERED : CAUSE.EXPIRED;
}

/** Records of the key with an older stamp are unregistered. */
function endedHlc({ peers }: StoredRecord): number {
  let ended = 0;
  for (const peer of peers ?? []) if (!isNarrowing(peer)) ended = Math.max(ended, endsBeforeHlc(peer));
  return ended;
}
