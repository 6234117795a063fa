/** The options of a replica. */

import type { OriginPlace } from "./origins.ts";
import type { TombstonesOptions } from "./tombstones.ts";

export interface ReplicaOptions extends TombstonesOptions {
  readonly generation: number;
  /** The highest seq that this origin ever gave out. Each seq is used once. */
  readonly lastSeq: number;
  readonly floor: number;
  /** The cluster and region of this node. Required as soon as there are links. */
  readonly place?: OriginPlace;
  /** Number of touches for which the earlier view is remembered. */
  readonly pastTouches?: number;
}
