/** The cause of a REMOVE: why a key was removed. A reader may keep an entry for a while if the entry only expired. */
import { BODY } from "../record/record.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import { endsBeforeHlc, isNarrowing, isShown } from "../replica/view.ts";

/** The causes, with the numbers of the enum DiscoveryDelta.Cause. */
export const CAUSE = { NONE: 0, UNREGISTERED: 1, EXPIRED: 2, ORIGIN_AWAY: 3, NO_MATCH: 4 } as const;
export type ChangeCause = (typeof CAUSE)[keyof typeof CAUSE];

/** Returns the cause of a key's removal. `stored` is the record that was touched when the key was removed. */
export function causeOf(stored: StoredRecord): ChangeCause {
  const ended = endedHlc(stored);
  if (stored.body === BODY.ENTRY) {
    if (ended > stored.hlc) return CAUSE.UNREGISTERED;
    return isShown(stored) ? CAUSE.NO_MATCH : CAUSE.ORIGIN_AWAY;
  }
  // If there are several tombstones, the newest one determines the cause, because the key may have been put again in between.
  const { body, hlc, unregisteredHlc } = stored.peers?.find((peer) => peer.body !== BODY.ENTRY) ?? stored;
  if (body === BODY.UNREGISTERED || ended > hlc) return CAUSE.UNREGISTERED;
  if (isNarrowing({ body, hlc, unregisteredHlc })) return CAUSE.NO_MATCH;
  // If an entry was unregistered elsewhere, its end is stamped just above that unregister (`stampWith`).
  return unregisteredHlc !== undefined && hlc === unregisteredHlc + 1 ? CAUSE.UNREGISTERED : CAUSE.EXPIRED;
}

/** Returns the stamp below which the key's records are unregistered. */
function endedHlc({ peers }: StoredRecord): number {
  let ended = 0;
  for (const peer of peers ?? []) if (!isNarrowing(peer)) ended = Math.max(ended, endsBeforeHlc(peer));
  return ended;
}
