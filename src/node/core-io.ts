/** What goes into the machine of a node and what comes out of it: all that its driver and the simulator need to know of it. */
import type { LoadView } from "../catalog/entry/view.ts";
import type { KeyText } from "../catalog/record/record.ts";
import type { Batch } from "../discovery/registrar/batch.ts";
import type { BatchNumber } from "../discovery/registrar/commit-cycle.ts";
import type { FabricInput, FabricOutput } from "../fabric/io-types.ts";
import type { PolicyHead } from "../fabric/wire/messages.ts";
import type { PolicyVia } from "../policy/versions/version.ts";
import type { DepartureReason, HandedOver } from "./core/departure.ts";
import type { LostGeneration } from "./core/generations.ts";
import type { OwnEntry } from "./core/self-entry.ts";
import type { KeepSnapshot } from "./core/snapshots.ts";
import type { AdoptOutcome } from "./core/travelling-policy.ts";

/** What the fabric is told by the machine alone. */
type Internal = "facts" | "lagged" | "leaving" | "offer" | "policyRefused" | "stop";

export type NodeInput =
  /** Something is due; also the network's inputs, and what becomes of the policy. */
  | Exclude<FabricInput, { readonly kind: Internal }>
  /** The journal has the batch that `persist` ordered. */
  | { readonly kind: "persisted" }
  /** It does not, and why. */
  | { readonly kind: "notPersisted"; readonly error: unknown }
  | { readonly kind: "generationKept"; readonly generation: number }
  | { readonly kind: "generationNotKept" }
  | { readonly kind: "rosterKept"; readonly isKept: boolean }
  /** Whether the file says what `keepSnapshot` ordered. */
  | { readonly kind: "snapshotKept"; readonly isKept: boolean }
  /** What became of the version of another node that `adoptPolicy` ordered. */
  | { readonly kind: "policyAdopted"; readonly head: PolicyHead; readonly via: PolicyVia; readonly outcome: AdoptOutcome }
  /** Sockets are bound and this start has its name on disk: the node may speak to others. */
  | { readonly kind: "begin" }
  /** Callers are served from now on: the node may become ready. To be told once. */
  | { readonly kind: "serve" }
  /** Whoever reads is shown the policy in force, which `caughtUp` waited for. */
  | { readonly kind: "policyShown" }
  /** The node's own entry, once it is known where callers reach it. */
  | { readonly kind: "publish"; readonly entry: OwnEntry }
  /** What `measureLoad` asked for. */
  | { readonly kind: "load"; readonly load: LoadView }
  /** Somebody was turned away before the fabric heard of it. */
  | { readonly kind: "strangerRefused"; readonly why: string; readonly address: string }
  /** An address that was asked to exchange tables of members said no, or did not answer. */
  | { readonly kind: "unanswered"; readonly address: string; readonly why: string; readonly isRefused: boolean }
  /** New callers are turned away: watches end with a place to resume from. */
  | { readonly kind: "drain" }
  /** The callers are gone: leave others of the cluster, or only say goodbye. `gone` follows within that time. */
  | { readonly kind: "depart"; readonly how: "leave" | "keep"; readonly withinMs: number };

export type NodeOutput =
  /** To the sockets, and to whom policy and members concern. */
  | Exclude<FabricOutput, { readonly kind: "changed" | "superseded" | "generationLost" | "offered" }>
  /** For the journal; one at a time. Answered by `persisted` or `notPersisted`. */
  | { readonly kind: "persist"; readonly batch: Batch }
  /** Those who wait for a batch up to this number have their answer: it is durable and visible, or refused for this reason. */
  | { readonly kind: "settled"; readonly through: BatchNumber; readonly refusal?: { readonly error: unknown } }
  /** For the journal. Answered by `generationKept` or `generationNotKept`. */
  | { readonly kind: "keepGeneration"; readonly generation: number }
  /** For people: the generation in use is lost, and why. */
  | { readonly kind: "generationLost"; readonly why: LostGeneration; readonly generation: number }
  /** The file of the members. Answered by `rosterKept`. */
  | { readonly kind: "keepRoster"; readonly bytes: Uint8Array }
  /** What this node holds may be told as the truth, once whoever reads is shown the policy in force; then `policyShown` answers. */
  | { readonly kind: "caughtUp" }
  /** It is ready, and stays it; what goes wrong afterwards is a fault. */
  | { readonly kind: "ready" }
  /** Whether callers are to be sent here changed: it is ready, nothing is wrong with it, and it does not stop. */
  | { readonly kind: "serving"; readonly isServing: boolean }
  /** Those who asked whether this start is still the one have their answer: it is, or it is not for this reason. */
  | { readonly kind: "confirmed"; readonly refusal?: { readonly error: unknown } }
  /** How busy the process is; answered by `load`. */
  | { readonly kind: "measureLoad" }
  /** The own entry, or its load, could not be written: it is tried again. */
  | { readonly kind: "selfRefused"; readonly error: unknown }
  /** What others told, for a warm start. Answered by `snapshotKept`. */
  | ({ readonly kind: "keepSnapshot" } & KeepSnapshot)
  /** Readers may be woken. */
  | { readonly kind: "wake" }
  /** What another node says of the key ended a static entry of this one. */
  | { readonly kind: "staticEnded"; readonly key: KeyText }
  /** So many entries of a node that left are this one's now. */
  | { readonly kind: "takenOver"; readonly count: number }
  | ({ readonly kind: "handedOver" } & HandedOver)
  /** Nothing more is said: the sockets may be closed. */
  | { readonly kind: "gone"; readonly reason: DepartureReason };

type Order = "answer" | "call" | "close" | "confirmed" | "gone" | "keepGeneration" | "open" | "persist" | "send" | "settled" | "wake";

/** What the machine tells the rest of the node. The driver carries out the other outputs itself, on sockets and journal. */
export type Told = Exclude<NodeOutput, { readonly kind: Order }>;
