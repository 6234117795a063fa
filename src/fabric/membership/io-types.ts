/** What membership begins with, and what its parts hand out. */

import type { FabricOutput } from "../io-types.ts";
import type { Foreigners } from "../links/foreigners.ts";
import type { MemberStatus, MemberUpdate } from "../wire/messages.ts";
import type { AcceptedStart } from "./node-starts.ts";

export type MembershipOutput =
  | Extract<FabricOutput, { readonly kind: "call" | "answer" | "event" | "memberForgotten" }>
  | { readonly kind: "memberChanged"; readonly update: MemberUpdate; readonly before: MemberStatus | undefined }
  /** Somebody was asked to exchange tables, is there, and does not talk to this node. */
  | { readonly kind: "turnedAway"; readonly address: string; readonly why: string }
  /** Whoever is at that address exchanged tables with this node. */
  | { readonly kind: "letIn"; readonly address: string }
  /** Others know this node's id in a later life, or somewhere else; said as seldom as it is told to the operator. */
  | { readonly kind: "ownIdUsed"; readonly told: MemberUpdate; readonly toldBy: string };

export interface MembershipStateParts {
  readonly foreigners?: Foreigners | undefined;
  /** What earlier starts of this node were called. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** Starts of others that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedStart[] | undefined;
}
