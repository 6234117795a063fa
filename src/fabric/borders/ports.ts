/** What border links need of the summaries that their node holds. `HeldSummaries` of the room summary is one. */
import type { KeyText } from "../../catalog/record/record.ts";
import type { Time } from "../../lib/machine.ts";
import type { Digest, DigestFilter, Listed } from "../../summary/held/digests.ts";
import type { HeldBeacon, HeldSeal, Taken, Via } from "../../summary/held/options.ts";
import type { Sealed, SummaryRefusal } from "../../summary/summary.ts";

export interface BorderSummaries {
  /** Moves with each change of what is held. */
  readonly revision: number;
  /**
   * Visits the keys whose version changed after a revision, oldest change first, until `visit` returns false. What only became visible or hidden is not
   * visited, and what is not verified here yet is visited once it is.
   */
  changesSince(revision: number, visit: (held: HeldSeal, revision: number) => boolean): void;
  find(key: KeyText): HeldSeal | undefined;
  /** Moves when a source is heard of that was dropped. What came of it before was refused. */
  readonly resumedCount: number;
  /** At most 256. */
  beacons(time: Time): readonly HeldBeacon[];
  /** The region that is configured for a cluster. */
  regionOf(source: string): string | undefined;
  /**
   * Over what is live: neither withdrawn, nor past its end, nor of a source that was dropped. Hidden or not. Undefined while it is being summed for the
   * first time.
   */
  digest(filter: DigestFilter): Digest | undefined;
  /** The sums of a filter are kept no longer. */
  letGo(filter: DigestFilter): void;
  /** What is held of the keys in some buckets, withdrawals too, in slices. */
  list(filter: DigestFilter, buckets: ReadonlySet<number>): Generator<void, readonly Listed[]>;
  /**
   * The hops of what is taken are counted here: 1 from the source's own cluster, else one more than the neighbour said, and at least 2. So all nodes of a
   * region see whether it hears a source directly. What has passed 8 is refused.
   */
  take(sealed: Sealed, via: Via, time: Time): Taken;
  /** `ageMs`: for how long the neighbour has had it. That counts here too, so that no relay makes a source younger. */
  takeBeacon(sealed: Sealed, via: Via, time: Time, ageMs: number): Taken;
  announce(sealed: Sealed, time: Time): SummaryRefusal | undefined;
  /** The announcements of keys that count here. The same list while they are the same. */
  announcements(): readonly Sealed[];
}
