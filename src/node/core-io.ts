/** The inputs and outputs of a node's machine, for its driver and the simulator, and of the parts of the machine. */
import type { WriteBatch } from "../catalog/batch.ts";
import type { StampedEntry } from "../catalog/entry/codec.ts";
import type { LoadView } from "../catalog/entry/view.ts";
import type { KeyText } from "../catalog/record/record.ts";
import type { ProbeOutput } from "../discovery/checks/checks.ts";
import type { SelfPreservationChange } from "../discovery/checks/state-changes.ts";
import type { CheckOutcome } from "../discovery/checks/threshold.ts";
import type { BatchNumber } from "../discovery/registrar/commit-cycle.ts";
import type { FabricInput, FabricOutput } from "../fabric/io-types.ts";
import type { PolicyHead } from "../fabric/wire/messages.ts";
import type { Time } from "../lib/machine.ts";
import type { MachinePart, MachineParts, PartHandlers } from "../lib/machine-part.ts";
import type { Caller } from "../policy/identity/caller.ts";
import type { AdoptResult } from "../policy/versions/policy-store.ts";
import type { PolicyVia } from "../policy/versions/version.ts";
import type { Draft } from "../summary/building/drafts.ts";
import type { RefusalEvent } from "../summary/held/refusals.ts";
import type { UnsaidEvent } from "../summary/held/unsaid.ts";
import type { DepartureReason, HandedOver } from "./core/departure.ts";
import type { LostGeneration } from "./core/generation-renewal.ts";
import type { KeepSnapshot } from "./core/snapshots.ts";

/** Inputs of the fabric that only the machine gives. */
type InternalInput = "facts" | "lagged" | "leaving" | "offer" | "policyRefused" | "stop";

/** What became of a version of another node: the answer of the policy store, or why the version could not be stored. */
export type AdoptOutcome = AdoptResult | { readonly notKept: string };

export interface OwnEntry {
  readonly caller: Caller;
  readonly stampAt: (time: Time) => StampedEntry;
}

export type NodeInput =
  /** `tick`, the inputs from the network, and what became of an order about policy. */
  | Exclude<FabricInput, { readonly kind: InternalInput }>
  /** The journal has the batch that `persist` ordered. */
  | { readonly kind: "persisted" }
  /** The journal refused the batch, and why. */
  | { readonly kind: "notPersisted"; readonly error: unknown }
  | { readonly kind: "generationKept"; readonly generation: number }
  | { readonly kind: "generationNotKept" }
  | { readonly kind: "rosterKept"; readonly isKept: boolean }
  /** Whether the file now holds what `keepSnapshot` ordered. */
  | { readonly kind: "snapshotKept"; readonly isKept: boolean }
  /** What became of the policy version that `adoptPolicy` ordered. */
  | { readonly kind: "policyAdopted"; readonly head: PolicyHead; readonly via: PolicyVia; readonly outcome: AdoptOutcome }
  /** Sockets are bound, and the name of this start is on disk: the node may speak to others. */
  | { readonly kind: "begin" }
  /** Callers are served from now on, and the node may become ready. To be given once. */
  | { readonly kind: "serve" }
  /** Readers see the policy in force. This answers `caughtUp`. */
  | { readonly kind: "policyShown" }
  /** The node's own entry. It is given once the addresses of the listeners are known. */
  | { readonly kind: "publish"; readonly entry: OwnEntry }
  /** Answers `probe`. */
  | { readonly kind: "probed"; readonly id: number; readonly outcome: CheckOutcome }
  /** The name look-up of a probe has ended. */
  | { readonly kind: "resolved"; readonly id: number }
  /** Answers `measureLoad`. */
  | { readonly kind: "load"; readonly load: LoadView }
  /** A stranger was turned away before the fabric heard of it. */
  | { readonly kind: "strangerRefused"; readonly why: string; readonly address: string }
  /** An address refused to exchange tables of members, or did not answer. */
  | { readonly kind: "unanswered"; readonly address: string; readonly why: string; readonly isRefused: boolean }
  /** New callers are turned away, and watches end with a cursor. */
  | { readonly kind: "drain" }
  /** The callers are gone: leave the other nodes of the cluster, or only say goodbye. `gone` follows within that time. */
  | { readonly kind: "depart"; readonly how: "leave" | "keep"; readonly withinMs: number };

export type NodeOutput =
  /** Orders of the fabric for the sockets, the policy store and the readers of members. */
  | Exclude<FabricOutput, { readonly kind: "changed" | "superseded" | "generationLost" | "offered" | "ordered" }>
  /** A batch for the journal, one at a time. Answered by `persisted` or `notPersisted`. */
  | { readonly kind: "persist"; readonly batch: WriteBatch }
  /** Answers all who wait for a batch up to this number: it is durable and visible, or refused for this reason. */
  | { readonly kind: "settled"; readonly through: BatchNumber; readonly refusal?: { readonly error: unknown } }
  /** A new generation for the journal. Answered by `generationKept` or `generationNotKept`. */
  | { readonly kind: "keepGeneration"; readonly generation: number }
  /** For people: the generation in use is lost, and why. */
  | { readonly kind: "generationLost"; readonly why: LostGeneration; readonly generation: number }
  /** The new content of the file of the members. Answered by `rosterKept`. */
  | { readonly kind: "keepRoster"; readonly bytes: Uint8Array }
  /** This node has caught up. It becomes ready when readers see the policy in force, which `policyShown` answers. */
  | { readonly kind: "caughtUp" }
  /** The node is ready, and stays so. What goes wrong afterwards is a fault. */
  | { readonly kind: "ready" }
  /** Whether callers are to be sent here has changed. A node serves when it is ready, has no fault and does not stop. */
  | { readonly kind: "serving"; readonly isServing: boolean }
  /** Answers the writes that wait for a confirmation: other nodes accept this start, or do not for this reason. */
  | { readonly kind: "confirmed"; readonly refusal?: { readonly error: unknown } }
  /** Asks how busy the process is. Answered by `load`. */
  | { readonly kind: "measureLoad" }
  /** A check of one of this node's entries probes its target, which `probed` answers within the timeout of the probe. Or such a probe is stopped. */
  | ProbeOutput
  /** Most checks changed state at the same time, so this node keeps their states for a while (`isSelfPreserving`), or the doubt has ended. */
  | ({ readonly kind: "doubt" } & SelfPreservationChange)
  /** The own entry, or its load, could not be written. It is tried again. */
  | { readonly kind: "selfRefused"; readonly error: unknown }
  /** What other nodes told, for a warm start, and the blocks of what a node holds of summaries. Answered by `snapshotKept`, which is about the former. */
  | ({ readonly kind: "keepSnapshot"; readonly summaries: Iterable<Uint8Array> | undefined } & KeepSnapshot)
  /** A summary of a service of this cluster was exported, or withdrawn. */
  | { readonly kind: "summaryExported"; readonly draft: Draft }
  /** A summary of this cluster was left out, because no other cluster would take it. */
  | { readonly kind: "summaryUnsaid"; readonly event: UnsaidEvent }
  /** A border brought something of which the audit is to know that it was not taken. */
  | { readonly kind: "summaryRefused"; readonly event: RefusalEvent }
  /** For people: the cluster has had no exporter for long, or has one again. */
  | { readonly kind: "exporters"; readonly exporterCount: number; readonly standing: string }
  /** Readers of summaries follow the policy in force. */
  | { readonly kind: "summariesFollowed" }
  /** Readers may be woken. */
  | { readonly kind: "wake" }
  /** A record of another node ended a static entry of this one. */
  | { readonly kind: "staticEnded"; readonly key: KeyText }
  /** This node took over so many entries of a node that left. */
  | { readonly kind: "takenOver"; readonly count: number }
  | ({ readonly kind: "handedOver" } & HandedOver)
  /** The node says nothing more, and the sockets may be closed. */
  | { readonly kind: "gone"; readonly reason: DepartureReason };

type DriverOutputKind =
  | "maintained"
  | "answer"
  | "call"
  | "close"
  | "confirmed"
  | "gone"
  | "keepGeneration"
  | "open"
  | "persist"
  | "send"
  | "settled"
  | "wake";

/** What the machine tells the rest of the node. The driver carries out the other outputs itself, on sockets and journal. */
export type NodeNotice = Exclude<NodeOutput, { readonly kind: DriverOutputKind }>;

/** The news that parts of the machine have for each other. */
export type NodeNews =
  /** Inputs of the fabric that other parts give. */
  | Extract<FabricInput, { readonly kind: InternalInput }>
  /** Other nodes may have something to receive. */
  | { readonly kind: "summariesChanged" }
  /** Orders of the fabric about own records. The others leave the machine. */
  | Extract<FabricOutput, { readonly kind: "changed" | "superseded" | "generationLost" | "offered" | "ordered" }>;

/** A part of the machine. A new part is a file that implements this, and a row in `core/parts/list.ts`. */
export type NodePart = MachinePart<NodeInput | NodeNews, NodeOutput>;
export type NodePartList = MachineParts<NodeInput | NodeNews, NodeOutput>;
export type NodeHandlers = PartHandlers<NodeInput | NodeNews, NodeOutput>;
