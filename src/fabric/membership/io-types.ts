/** What membership begins with, and what its parts hand out. */

import type { FabricOutput } from "../io-types.ts";
import type { Foreigners } from "../links/foreigners.ts";
import type { FabricNews } from "../part.ts";
import type { AcceptedStart } from "./node-starts.ts";

export type MembershipOutput =
  | Extract<FabricOutput, { readonly kind: "call" | "answer" | "event" }>
  | Extract<FabricNews, { readonly kind: "memberChanged" | "memberForgotten" | "turnedAway" | "letIn" | "ownIdUsed" }>;

export interface MembershipStateParts {
  readonly foreigners?: Foreigners | undefined;
  /** What earlier starts of this node were called. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** Starts of others that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedStart[] | undefined;
}
