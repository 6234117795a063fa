/**
 * The machine of a node. The machine combines the parts of the node, but does not contain any rules itself. The machine receives inputs and the time,
 * passes them to its parts (`core/parts/list.ts`), and collects orders for its driver. The product and the simulator run the same machine.
 */
import type { BatchNumber } from "../discovery/registrar/commit-cycle.ts";
import type { CollectsBy } from "../discovery/registrar/registrar.ts";
import type { Fabric } from "../fabric/fabric.ts";
import type { FabricOutput, LinkId } from "../fabric/io-types.ts";
import type { LinkFrame, PeerIdentity } from "../fabric/wire/messages.ts";
import { assert } from "../lib/errors.ts";
import type { Machine, Time } from "../lib/machine.ts";
import type { NodeDrain } from "./core/drain.ts";
import type { LostGeneration } from "./core/generation-renewal.ts";
import { type JoinOptions, NodeParts, type NodeRooms } from "./core/parts/list.ts";
import type { NodeReadiness } from "./core/parts/readiness.ts";
import { isPolicyTaken } from "./core/remote-policy.ts";
import { PauseDetector, type WriteEligibility } from "./core/write-eligibility.ts";
import type { NodeInput, NodeOutput, NodePart } from "./core-io.ts";

export class NodeMachine implements Machine<NodeInput, NodeOutput> {
  readonly #parts: NodeParts;
  readonly #pauses = new PauseDetector();
  /** Inputs from other nodes that arrived before `begin`. */
  readonly #early: NodeInput[] = [];

  constructor(rooms: NodeRooms, time: Time) {
    this.#parts = new NodeParts(rooms, time);
  }

  get writeEligibility(): WriteEligibility {
    return this.#parts.writeEligibility;
  }

  get readiness(): Omit<NodeReadiness, keyof NodePart> {
    return this.#parts.readiness;
  }

  /** Returns the time, in this node's wall-clock ms, at which this node last received a message directly from the member. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#joined?.activity.heardWallMs(nodeId);
  }

  /** Whether this node is cordoned, and how far its drain is. */
  get drain(): Pick<NodeDrain, "facts" | "isCordoned" | "progress"> {
    return this.#parts.drain;
  }

  /** Undefined on a standalone node. */
  get fabric(): Fabric | undefined {
    return this.#joined?.fabric;
  }

  /** Adds the fabric to this machine. Must be called at most once, and before callers are served. Never called on a standalone node. */
  join(joining: JoinOptions): void {
    assert(
      this.#joined === undefined && this.#parts.readiness.state === "starting",
      "the node has already joined or is no longer starting",
    );
    this.#parts.join(joining);
  }

  get #joined(): NodeParts["joined"] {
    return this.#parts.joined;
  }

  /**
   * Returns the maximum age of the data that callers receive; 0 on a standalone node. A node that was never ready reports the age of the data that it
   * started with, even if it has caught up since and only waits for another condition. Before it is ready, it may hide all entries while it waits for
   * the policy of its peers.
   */
  ageMs(time: Time): number {
    if (this.#joined === undefined) return 0;
    const { fabric } = this.#joined;
    return this.readiness.isReady ? fabric.readiness.read(time).ageMs : fabric.readiness.startAgeMs(time);
  }

  /**
   * Returns which tombstones may be collected. None may be collected until this node knows whether other nodes exist, because those nodes may lack
   * the tombstones.
   */
  collectsBy(time: Time): CollectsBy {
    if (this.#joined !== undefined) return this.#joined.fabric.mayCollect(time) ? "age" : "count";
    return this.#parts.readiness.state === "starting" ? "nothing" : "age";
  }

  /** Whether a write must wait for `confirmed`: this process was paused, and other nodes may have accepted another process instance since. */
  mustConfirm(time: Time): boolean {
    return this.#parts.mustConfirm(time);
  }

  /** Number of unknown peers that the listener rejected before their calls reached the fabric. */
  get refusedCount(): number {
    return this.#parts.refusals.refusedCount;
  }

  /** For operators: a newer policy that other nodes have but this node does not apply, with the reason. Empty if there is no such policy. */
  get policyNotTaken(): string {
    return this.#joined === undefined ? "" : this.#parts.remotePolicy.notTaken(this.#joined.fabric);
  }

  /** Whether a policy that is applied on this node comes into force in the cluster, as reported by the linked nodes. */
  isPolicyTaken(clusterId: string): boolean {
    return this.#joined === undefined || isPolicyTaken(this.#joined.fabric, clusterId);
  }

  /** Decides which callers are unknown peers: see `FabricMachine`. Without a fabric, all callers are unknown. */
  get calls(): { isStranger(identity: PeerIdentity): boolean } {
    return { isStranger: (identity) => this.#joined?.fabric.calls.isStranger(identity) !== false };
  }

  handle(input: NodeInput, time: Time, out: NodeOutput[]): void {
    const { list } = this.#parts;
    if (!list.isBegun && isFromOthers(input)) {
      this.#early.push(input);
      return;
    }
    if (input.kind === "begin") {
      list.begin(time, out);
      for (const early of this.#early.splice(0)) this.handle(early, time, out);
    } else if (input.kind === "drain") list.drain(time, out);
    list.handle(input, time, out);
  }

  /**
   * Must be called every `CLOCK_CHECK_MS` while the event loop runs, and before any decision after a pause. Returns whether the process was paused.
   * During a pause the process could not receive messages, and other nodes may have accepted another process instance.
   */
  look(time: Time, out: NodeOutput[]): boolean {
    const lagMs = this.#pauses.looked(time);
    if (lagMs === undefined) return false;
    const { list } = this.#parts;
    list.postpone(lagMs, time);
    list.deliver({ kind: "lagged", lagMs }, time, out);
    list.look(time, out);
    return true;
  }

  /** HOT: runs per sent frame. */
  pull(link: LinkId, time: Time, out: NodeOutput[]): LinkFrame | undefined {
    const outputs: FabricOutput[] = [];
    const frame = this.#joined?.fabric.pull(link, time, outputs);
    for (const output of outputs) this.#parts.list.deliver(output, time, out);
    return frame;
  }

  /**
   * HOT: runs per write. Returns the number of the batch that contains everything staged so far. The result is either the batch that is being written
   * or the next one.
   */
  durable(out: NodeOutput[]): BatchNumber {
    const { writes } = this.#parts;
    const batch = writes.commits.durable();
    writes.persist(out);
    return batch;
  }

  /** After a change of the replica, updates the DNS names and wakes the readers that the change affects. */
  show(out: NodeOutput[]): void {
    this.#parts.writes.show(out);
  }

  nextDeadlineMs(): number {
    return this.#parts.list.nextDeadlineMs();
  }

  /**
   * Starts a new generation, because other nodes know a later state of the current generation than this node does. Does nothing while a renewal is in
   * progress.
   */
  loseGeneration(why: LostGeneration, time: Time, out: NodeOutput[]): void {
    this.#parts.list.deliver({ kind: "generationLost", ...why }, time, out);
  }
}

/** Whether the input comes from another node. */
function isFromOthers({ kind }: NodeInput): boolean {
  return kind === "asked" || kind === "answered" || kind === "opened" || kind === "received" || kind === "closed";
}

/** Returns the fabric of a node that has joined other nodes. Fails on a standalone node. */
export function fabricOf({ machine: { fabric } }: { readonly machine: Pick<NodeMachine, "fabric"> }): Fabric {
  assert(fabric !== undefined, "the fabric is not open");
  return fabric;
}
