/** What a call of membership's own was for. */

import type { CallId } from "../io-types.ts";
import type { Member } from "./members.ts";
import type { Round } from "./probe-round.ts";

export type CallPurpose =
  | { readonly kind: "direct" | "indirect"; readonly round: Round; readonly helper: Member }
  | { readonly kind: "gossip"; readonly nodeId: string }
  /** Does a newcomer that waits in a conflict answer at its address? */
  | { readonly kind: "check"; readonly nodeId: string }
  | { readonly kind: "relay"; readonly asked: CallId; readonly nodeId: string }
  | { readonly kind: "pushPull"; readonly address: string; readonly isJoin: boolean; readonly step: TableStep };

/**
 * `whole`: the table goes to a seed or to somebody lost. `digest`: a listed member, in its turn, is asked whether it holds the
 * same. `rest`: it does not, and gets what it did not say.
 */
export type TableStep = "whole" | "digest" | "rest";

/** Whom a probe was for; undefined of other calls. */
export function askedNode(purpose: CallPurpose): string | undefined {
  switch (purpose.kind) {
    case "direct":
      return purpose.round.target.update.nodeId;
    case "gossip":
    case "check":
    case "relay":
      return purpose.nodeId;
    case "indirect":
    case "pushPull":
      return undefined;
  }
}
