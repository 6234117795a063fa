/** Input and output types of a node's machine. The driver, the simulator and the parts of the machine use them. */
import type { WriteBatch } from "../catalog/batch.ts";
import type { StampedEntry } from "../catalog/entry/codec.ts";
import type { LoadView } from "../catalog/entry/view.ts";
import type { KeyText } from "../catalog/record/record.ts";
import type { DesiredNode } from "../control/peers/records.ts";
import type { ProbeOutput } from "../discovery/checks/checks.ts";
import type { SelfPreservationChange } from "../discovery/checks/state-changes.ts";
import type { CheckOutcome } from "../discovery/checks/threshold.ts";
import type { BatchNumber } from "../discovery/registrar/commit-cycle.ts";
import type { FabricInput, FabricOutput } from "../fabric/io-types.ts";
import type { MemberFacts, PolicyHead } from "../fabric/wire/messages.ts";
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

/** Inputs of the fabric that only the machine creates. */
type InternalInput = "facts" | "lagged" | "leaving" | "offer" | "policyRefused" | "stop";

/** Result for a policy version from another node: either the result from the policy store or the reason why the version was not stored. */
export type AdoptOutcome = AdoptResult | { readonly notKept: string };

/** How operators want this node's entry to be. */
export interface SelfState {
  /** Whether clients choose this node last. */
  readonly isInMaintenance: boolean;
  /** Whether the entry is not published. */
  readonly isHidden: boolean;
  /** Labels that have priority over those in the settings. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface OwnEntry {
  readonly caller: Caller;
  /** The URLs in the entry. */
  readonly urls: readonly string[];
  readonly stampAt: (time: Time, state: SelfState) => StampedEntry;
}

export type NodeInput =
  /** `tick`, inputs from the network, and results of policy orders. */
  | Exclude<FabricInput, { readonly kind: InternalInput }>
  /** The journal has written the batch of `persist`. */
  | { readonly kind: "persisted" }
  /** The journal refused the batch. */
  | { readonly kind: "notPersisted"; readonly error: unknown }
  | { readonly kind: "generationKept"; readonly generation: number }
  | { readonly kind: "generationNotKept" }
  | { readonly kind: "rosterKept"; readonly isKept: boolean }
  /** Whether the snapshot of `keepSnapshot` is on disk. */
  | { readonly kind: "snapshotKept"; readonly isKept: boolean }
  /** Answers `adoptPolicy` with the result for the policy version. */
  | { readonly kind: "policyAdopted"; readonly head: PolicyHead; readonly via: PolicyVia; readonly outcome: AdoptOutcome }
  /** The sockets are bound and the id of this process instance is on disk, so the node may contact other nodes. */
  | { readonly kind: "begin" }
  /** The node serves callers from now on, and may become ready. Must be sent exactly once. */
  | { readonly kind: "serve" }
  /** Readers now see the policy in force. Answers `caughtUp`. */
  | { readonly kind: "policyShown" }
  /** The node's own entry. Sent when the listener addresses are known. */
  | { readonly kind: "publish"; readonly entry: OwnEntry }
  /** The id of the control store that this node shares with others. Empty until the node has read it. */
  | { readonly kind: "controlStore"; readonly id: string }
  /** The listener of the fabric uses these certificates from now on. */
  | { readonly kind: "security"; readonly security: MemberFacts["security"] }
  /** Operators want a member that is dead or has left to be forgotten. */
  | { readonly kind: "forget"; readonly nodeId: string }
  /** How operators want this node to be. */
  | ({ readonly kind: "desired" } & DesiredNode)
  /** Answers `standDown`: how many scopes this node and its programs lead, and how many owners of shards are attached. */
  | { readonly kind: "leadersLeft"; readonly leaderCount: number; readonly ownerCount: number }
  /** Answers `probe`. */
  | { readonly kind: "probed"; readonly id: number; readonly outcome: CheckOutcome }
  /** The name lookup of a probe has ended. */
  | { readonly kind: "resolved"; readonly id: number }
  /** Answers `measureLoad`. */
  | { readonly kind: "load"; readonly load: LoadView }
  /** An unknown peer was rejected before its call reached the fabric. */
  | { readonly kind: "strangerRefused"; readonly why: string; readonly address: string }
  /** The node at an address refused to exchange member tables, or did not respond. */
  | { readonly kind: "unanswered"; readonly address: string; readonly why: string; readonly isRefused: boolean }
  /** The node starts to drain: it refuses new callers, and ends watches with a cursor. */
  | { readonly kind: "drain" }
  /** All callers have disconnected: leave the cluster, or only announce a restart. `gone` follows within this time. */
  | { readonly kind: "depart"; readonly how: "leave" | "keep"; readonly withinMs: number };

export type NodeOutput =
  /** Orders from the fabric for the sockets, the policy store and the readers of members. */
  | Exclude<FabricOutput, { readonly kind: "changed" | "superseded" | "generationLost" | "offered" | "ordered" }>
  /** A batch for the journal. Only one batch is in flight at a time. Answered by `persisted` or `notPersisted`. */
  | { readonly kind: "persist"; readonly batch: WriteBatch }
  /** Answers all writes in batches up to this number: either they are durable and visible, or they are refused for this reason. */
  | { readonly kind: "settled"; readonly through: BatchNumber; readonly refusal?: { readonly error: unknown } }
  /** A new generation for the journal. Answered by `generationKept` or `generationNotKept`. */
  | { readonly kind: "keepGeneration"; readonly generation: number }
  /** For operators: the current generation is lost, for the given reason. */
  | { readonly kind: "generationLost"; readonly why: LostGeneration; readonly generation: number }
  /** The new content of the members file. Answered by `rosterKept`. */
  | { readonly kind: "keepRoster"; readonly bytes: Uint8Array }
  /** This node has caught up. The node becomes ready when readers see the policy in force, which `policyShown` reports. */
  | { readonly kind: "caughtUp" }
  /** The node is ready. The node never leaves this state; later problems are reported as faults. */
  | { readonly kind: "ready" }
  /** The node started or stopped serving: callers should use it while it is ready, has no fault and is not stopping. */
  | { readonly kind: "serving"; readonly isServing: boolean }
  /** Answers the writes that wait for a confirmation: other nodes either accept this process instance or reject it for this reason. */
  | { readonly kind: "confirmed"; readonly refusal?: { readonly error: unknown } }
  /** The leaders of this node must resign, and its owners of shards must leave, or they may return. Answered by `leadersLeft` whenever they change. */
  | { readonly kind: "standDown"; readonly isDown: boolean }
  /** Requests the load of the process. Answered by `load`. */
  | { readonly kind: "measureLoad" }
  /** Starts a probe for a check of a local entry, or stops such a probe. `probed` reports the result within the timeout of the probe. */
  | ProbeOutput
  /**
   * Self-preservation began (`isSelfPreserving`) or ended. Self-preservation begins when most checks change state at the same time, and freezes their
   * states for a while.
   */
  | ({ readonly kind: "doubt" } & SelfPreservationChange)
  /** The NODE entry of this node or its load was not written. The node will retry. */
  | { readonly kind: "selfRefused"; readonly error: unknown }
  /**
   * Replicated data for a warm start, and the blocks with the stored summaries. Answered by `snapshotKept`, which refers only to the replicated data.
   */
  | ({ readonly kind: "keepSnapshot"; readonly summaries: Iterable<Uint8Array> | undefined } & KeepSnapshot)
  /** A summary of a service in this cluster was exported or withdrawn. */
  | { readonly kind: "summaryExported"; readonly draft: Draft }
  /** A summary of this cluster was not exported, because no other cluster would accept it. */
  | { readonly kind: "summaryUnsaid"; readonly event: UnsaidEvent }
  /** A summary from another region was rejected. The rejection is recorded in the audit log. */
  | { readonly kind: "summaryRefused"; readonly event: RefusalEvent }
  /** For operators: the cluster has had no exporter for a long time, or has an exporter again. */
  | { readonly kind: "exporters"; readonly exporterCount: number; readonly standing: string }
  /** Readers of summaries now use the policy that is in force. */
  | { readonly kind: "summariesFollowed" }
  /** Readers may have new data. */
  | { readonly kind: "wake" }
  /** A record from another node ended a static entry of this node. */
  | { readonly kind: "staticEnded"; readonly key: KeyText }
  /** Number of entries that this node took over from a node that left. */
  | { readonly kind: "takenOver"; readonly count: number }
  | ({ readonly kind: "handedOver" } & HandedOver)
  /** The node has stopped sending, and the sockets may be closed. */
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

/** Output of the machine for the rest of the node. The driver handles all other outputs itself, using the sockets and the journal. */
export type NodeNotice = Exclude<NodeOutput, { readonly kind: DriverOutputKind }>;

/** Messages between parts of the machine. */
export type NodeNews =
  /** Inputs of the fabric that come from other parts. */
  | Extract<FabricInput, { readonly kind: InternalInput }>
  /** There may be new summaries for other nodes. */
  | { readonly kind: "summariesChanged" }
  /** Outputs of the fabric that concern own records. All other outputs of the fabric leave the machine. */
  | Extract<FabricOutput, { readonly kind: "changed" | "superseded" | "generationLost" | "offered" | "ordered" }>;

/** A part of the machine. To add a part, implement this interface in a new file and add a row in `core/parts/list.ts`. */
export type NodePart = MachinePart<NodeInput | NodeNews, NodeOutput>;
export type NodePartList = MachineParts<NodeInput | NodeNews, NodeOutput>;
export type NodeHandlers = PartHandlers<NodeInput | NodeNews, NodeOutput>;
