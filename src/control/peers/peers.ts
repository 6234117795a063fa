/**
 * The operators' records of nodes: a copy of them, and the operations that change them. A change is one compare-and-swap by the node that an operator
 * calls. No node commands another: each node follows its own record. Kubernetes (`spec.unschedulable`) and Nomad (drain strategy with a deadline) keep
 * the desired state of a node in the same way.
 */
import type { Machine, Time } from "../../lib/machine.ts";
import type { StoreCondition, StoreWrite } from "../../store/control/store.ts";
import type { CampaignInput } from "../leadership/campaigns.ts";
import { type CopiedItem, StoreCopy } from "../leadership/copy.ts";
import type { LeadershipInput, OrderId, OrderRefusal } from "../leadership/io-types.ts";
import type { Leadership } from "../leadership/machine.ts";
import { encodeRecord } from "../leadership/records.ts";
import type { ShardInput, ShardOutput } from "../shards/io-types.ts";
import type { Shards } from "../shards/shards.ts";
import {
  ACTIVE_NODE,
  type DrainTerms,
  decodePeer,
  MAX_RECORD_LABELS,
  PEER_GUARD,
  PEERS,
  type PeerRecord,
  requestKind,
  withRequest,
} from "./records.ts";

/** A change of a node that an operator wants. */
export type PeerChange =
  | { readonly kind: "cordon" | "drain"; readonly isForced: boolean; readonly deadlineMs: number; readonly readyCount: number }
  | { readonly kind: "forget" | "uncordon" }
  | { readonly kind: "label"; readonly labels: Readonly<Record<string, string>>; readonly removed: readonly string[] };

/** An operation on a node. `readyCount` is the number of other nodes of the cluster that are ready and active. */
export interface PeerOrder {
  readonly nodeId: string;
  readonly change: PeerChange;
  readonly actor: string;
  readonly reason: string;
  readonly ticket: string;
  /** The version that the record must have. Undefined: any. 0: there must be no record. */
  readonly expectedVersion: number | undefined;
  /** Empty if a repeated request is a new one. */
  readonly requestId: string;
  /** Whether only the conditions are checked. */
  readonly isDryRun: boolean;
}

export type PeerInput =
  /** Answered by `ordered`. */
  | { readonly kind: "changePeer"; readonly order: OrderId; readonly change: PeerOrder }
  /** A node is alive, so it is no longer forgotten. */
  | { readonly kind: "peerAlive"; readonly nodeId: string };

/** All inputs and outputs of the control plane of a node. */
export type ControlInput = LeadershipInput | CampaignInput | ShardInput | PeerInput;
export type ControlOutput =
  | ShardOutput
  /** The record of a node has changed, or was removed. */
  | { readonly kind: "peerChanged"; readonly nodeId: string };

export interface PeersOptions {
  /** The machine behind this one, which receives all other inputs. */
  readonly shards: Pick<Shards, "handle" | "nextDeadlineMs">;
  readonly machine: Pick<Leadership, "requests" | "storeFault">;
  /** Whether the store belongs to this process alone. */
  readonly isOwnStore: boolean;
}

const NEW_PEER: Omit<PeerRecord, "actor" | "atWallMs" | "reason" | "ticket"> = {
  ...ACTIVE_NODE,
  desiredWallMs: 0,
  desiredReason: "",
  isForgotten: false,
  requestIds: [],
};

export class Peers implements Machine<ControlInput, ControlOutput> {
  readonly #options: PeersOptions;
  readonly #copy = new StoreCopy<PeerRecord>(decodePeer);
  /** The nodes whose records have changed since the last input. */
  readonly #changed = new Set<string>();
  #isStarted = false;

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  handle(input: ControlInput, time: Time, out: ControlOutput[]): void {
    if (!this.#isStarted) out.push({ kind: "watch", prefix: PEERS });
    this.#isStarted = true;
    if (input.kind === "changePeer") this.#change(input.order, input.change, time, out);
    else if (input.kind === "peerAlive") this.#returned(input.nodeId, out);
    else {
      const passed: ShardOutput[] = [];
      this.#options.shards.handle(input, time, passed);
      out.push(...passed);
      if (input.kind === "changed" && input.prefix === PEERS && input.changes !== undefined)
        for (const { key } of this.#copy.take(input.changes, time.monoMs)?.changes ?? []) this.#note(key);
    }
    for (const nodeId of this.#changed) out.push({ kind: "peerChanged", nodeId });
    this.#changed.clear();
  }

  nextDeadlineMs(): number {
    return this.#options.shards.nextDeadlineMs();
  }

  /** The record of a node with its version. Its value is undefined if it cannot be read. Undefined if there is no record. */
  record(nodeId: string): CopiedItem<PeerRecord> | undefined {
    return this.#copy.items.get(PEERS + nodeId);
  }

  /** Why this node accepts no operations. Empty if it does. */
  get fault(): string {
    if (this.#copy.revision === undefined) return "the control store has not answered yet";
    return this.#options.isOwnStore ? "" : this.#options.machine.storeFault;
  }

  #note(key: string): void {
    if (key !== PEER_GUARD) this.#changed.add(key.slice(PEERS.length));
  }

  /** Ends the forgetting of a node that is alive. Each node that sees it tries, and the version lets one of them succeed. */
  #returned(nodeId: string, out: ControlOutput[]): void {
    const item = this.record(nodeId);
    if (item?.value?.isForgotten !== true) return;
    const key = PEERS + nodeId;
    this.#options.machine.requests.transact([{ key, version: item.version }], [{ key, value: undefined }], out, () => {});
  }

  #change(order: OrderId, wanted: PeerOrder, time: Time, out: ControlOutput[]): void {
    const { nodeId, requestId, isDryRun } = wanted;
    const item = this.record(nodeId);
    const refusal = this.#refusal(wanted, item);
    const isRepeated = requestKind(item?.value?.requestIds, requestId) === wanted.change.kind;
    if (refusal !== undefined || isRepeated || isDryRun) {
      out.push({ kind: "ordered", order, refusal: isRepeated ? undefined : refusal });
      return;
    }
    const key = PEERS + nodeId;
    const after = changed(item?.value, wanted, time);
    const isSame = item?.value?.desired === after.desired;
    const value = isSame ? after : { ...after, desiredWallMs: time.wallMs, desiredReason: wanted.reason };
    const conditions: StoreCondition[] = [{ key, version: item?.version ?? 0 }];
    const writes: StoreWrite[] = [{ key, value: encodeRecord(value) }];
    if (isOut(wanted.change)) {
      conditions.push({ key: PEER_GUARD, version: this.#copy.items.get(PEER_GUARD)?.version ?? 0 });
      writes.push({ key: PEER_GUARD, value: encodeRecord({ nodeId, actor: wanted.actor, atWallMs: time.wallMs }) });
    }
    this.#options.machine.requests.transact(conditions, writes, out, (result, { monoMs }, later) => {
      if (result?.isCommitted === true)
        // The operation is answered with the new record. The watch may have reported it, or a later change, already.
        writes.forEach((write, i) => {
          const version = result.versions[i] ?? 0;
          if ((this.#copy.items.get(write.key)?.version ?? 0) >= version) return;
          this.#copy.items.set(write.key, { version, value: write.key === key ? value : undefined, sinceMs: monoMs });
          this.#note(write.key);
        });
      later.push({ kind: "ordered", order, refusal: result?.isCommitted === true ? undefined : failure(result === undefined) });
    });
  }

  #refusal({ nodeId, change, expectedVersion }: PeerOrder, item: CopiedItem<PeerRecord> | undefined): OrderRefusal | undefined {
    const { fault } = this;
    if (fault !== "") return { reason: "store_unavailable", message: fault };
    const version = item?.version ?? 0;
    if (expectedVersion !== undefined && expectedVersion !== version)
      return { reason: "version_conflict", message: `etag: the record of ${nodeId} has the etag "${version}"; read it again` };
    if (item !== undefined && item.value === undefined)
      return {
        reason: "version_conflict",
        message: `the record ${PEERS}${nodeId} in the control store cannot be read; remove it from the store`,
      };
    if (isOut(change) && change.readyCount === 0 && !change.isForced)
      return {
        reason: "last_ready_node",
        message: `no other node of the cluster is ready and active, so ${nodeId} must stay; an administrator can force the operation`,
      };
    if (change.kind === "label" && Object.keys(labelled(item?.value, change)).length > MAX_RECORD_LABELS)
      return { reason: "quota_exceeded", message: `labels: ${nodeId} would have more than ${MAX_RECORD_LABELS} labels of operators` };
    return undefined;
  }
}

/** Whether the change removes a node from service. */
function isOut(change: PeerChange): change is Extract<PeerChange, { readonly isForced: boolean }> {
  return change.kind === "cordon" || change.kind === "drain";
}

function changed(before: PeerRecord | undefined, { change, actor, reason, ticket, requestId }: PeerOrder, { wallMs }: Time): PeerRecord {
  const base = before ?? NEW_PEER;
  const operation = { actor, reason, ticket, atWallMs: wallMs, requestIds: withRequest(base.requestIds, change.kind, requestId) };
  switch (change.kind) {
    case "cordon":
      return { ...base, ...operation, desired: "cordoned", drain: undefined };
    case "drain": {
      const drain: DrainTerms = {
        sinceWallMs: base.drain?.sinceWallMs ?? wallMs,
        deadlineWallMs: wallMs + change.deadlineMs,
        isForced: change.isForced,
      };
      return { ...base, ...operation, desired: "drained", drain };
    }
    case "uncordon":
      return { ...base, ...operation, desired: "active", drain: undefined };
    case "forget":
      return { ...NEW_PEER, ...operation, isForgotten: true };
    case "label":
      return { ...base, ...operation, labels: labelled(before, change) };
  }
}

function labelled(before: PeerRecord | undefined, { labels, removed }: Extract<PeerChange, { readonly kind: "label" }>) {
  const kept = Object.entries(before?.labels ?? {}).filter(([key]) => !removed.includes(key));
  return { ...Object.fromEntries(kept), ...labels };
}

function failure(isUnknown: boolean): OrderRefusal {
  if (isUnknown)
    return {
      reason: "store_unavailable",
      message: "the control store did not answer; the operation may have happened, so read the node again",
    };
  return { reason: "version_conflict", message: "another operation on a node was made at the same time; retry" };
}
