/** What a call of membership's own was for. */
import type { CallId } from "./fabric.ts";
import type { Member } from "./members.ts";
import type { Round } from "./probe.ts";

export type Purpose =
  | { readonly kind: "direct" | "indirect"; readonly round: Round; readonly helper: Member }
  | { readonly kind: "gossip"; readonly nodeId: string }
  /** Does the newcomer in quarantine answer at its address? */
  | { readonly kind: "check"; readonly nodeId: string }
  | { readonly kind: "relay"; readonly asked: CallId; readonly nodeId: string }
  /** `isUsual`: with a listed member, in its turn; else with a seed or somebody lost. */
  | { readonly kind: "pushPull"; readonly address: string; readonly isJoin: boolean; readonly isUsual: boolean };
