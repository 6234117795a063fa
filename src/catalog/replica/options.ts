/** What a replica is made with. */

import type { OriginPlace } from "./origins.ts";
import type { TombstonesOptions } from "./tombstones.ts";

export interface ReplicaOptions extends TombstonesOptions {
  readonly generation: number;
  /** Highest seq this origin ever handed out; a seq is never used twice. */
  readonly lastSeq: number;
  readonly floor: number;
  /** Where this node is at home; needed as soon as there are links. */
  readonly place?: OriginPlace;
  /** Touches of which it is known what was seen before them. */
  readonly pastTouches?: number;
}
