/**
 * The machine of a node. It joins the rooms of the node and has no rules of its own. It takes inputs and a time, gives them to its parts (`core/parts/list.ts`), and
 * appends orders for its driver. Product and simulator drive the same machine.
 */
import type { BatchNumber } from "../discovery/registrar/commit-cycle.ts";
import type { CollectsBy } from "../discovery/registrar/registrar.ts";
import type { Fabric } from "../fabric/fabric.ts";
import type { FabricOutput, LinkId } from "../fabric/io-types.ts";
import type { LinkFrame, PeerIdentity } from "../fabric/wire/messages.ts";
import { assert } from "../lib/errors.ts";
import type { Machine, Time } from "../lib/machine.ts";
import type { LostGeneration } from "./core/generation-renewal.ts";
import { type JoinOptions, NodeParts, type NodeRooms } from "./core/parts/list.ts";
import type { NodeReadiness } from "./core/parts/readiness.ts";
import { isPolicyTaken } from "./core/remote-policy.ts";
import { PauseDetector, type WriteEligibility } from "./core/write-eligibility.ts";
import type { NodeInput, NodeOutput, NodePart } from "./core-io.ts";

export class NodeMachine implements Machine<NodeInput, NodeOutput> {
  readonly #parts: NodeParts;
  readonly #standstill = new PauseDetector();
  /** What other nodes said before this node may speak. */
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

  /** When this node last heard from a member itself, in ms of its wall clock. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#joined?.heard.heardWallMs(nodeId);
  }

  /** Undefined for a node that stands alone. */
  get fabric(): Fabric | undefined {
    return this.#joined?.fabric;
  }

  /** Joins the fabric to this machine. To be called at most once, before callers are served. A node that stands alone never joins. */
  join(joining: JoinOptions): void {
    assert(this.#joined === undefined && this.#parts.readiness.state === "starting", "a node joins once");
    this.#parts.join(joining);
  }

  get #joined(): NodeParts["joined"] {
    return this.#parts.joined;
  }

  /**
   * How old what callers are told may be; 0 for a node that stands alone. A node that was never ready tells the age of what it started with, also
   * when it has caught up and waits for something else: until it is ready it may hide everything, because it awaits the policy of others.
   */
  ageMs(time: Time): number {
    if (this.#joined === undefined) return 0;
    const { fabric } = this.#joined;
    return this.readiness.isReady ? fabric.readiness.read(time).ageMs : fabric.readiness.startAgeMs(time);
  }

  /** Which tombstones may be collected. There are none before this node knows whether other nodes exist, because those may lack the tombstones. */
  collectsBy(time: Time): CollectsBy {
    if (this.#joined !== undefined) return this.#joined.fabric.mayCollect(time) ? "age" : "count";
    return this.#parts.readiness.state === "starting" ? "nothing" : "age";
  }

  /** Whether a write has to wait for `confirmed`: this process stood still, and other nodes may have accepted another start meanwhile. */
  mustConfirm(time: Time): boolean {
    return this.#parts.mustConfirm(time);
  }

  /** How many strangers the listener turned away before the fabric heard of them. */
  get refusedCount(): number {
    return this.#parts.refusals.refusedCount;
  }

  /** For people: a newer policy that other nodes have and this node does not take, and why. Empty when there is none. */
  get policyNotTaken(): string {
    return this.#joined === undefined ? "" : this.#parts.travelling.notTaken(this.#joined.fabric);
  }

  /** Whether a policy that is applied here comes into force in a cluster, as far as linked nodes tell. */
  isPolicyTaken(clusterId: string): boolean {
    return this.#joined === undefined || isPolicyTaken(this.#joined.fabric, clusterId);
  }

  /** Which callers are strangers: see `FabricMachine`. Without a fabric all of them are. */
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
   * The event loop runs: to be called every `LOOK_MS`, and before anything is judged after a standstill. Returns whether the process stood still:
   * then others could not be heard, and may have taken another start.
   */
  look(time: Time, out: NodeOutput[]): boolean {
    const lagMs = this.#standstill.looked(time);
    if (lagMs === undefined) return false;
    const { list } = this.#parts;
    list.postpone(lagMs, time);
    list.deliver({ kind: "lagged", lagMs }, time, out);
    list.look(time, out);
    return true;
  }

  /** HOT: once a frame sent. */
  pull(link: LinkId, time: Time, out: NodeOutput[]): LinkFrame | undefined {
    const outputs: FabricOutput[] = [];
    const frame = this.#joined?.fabric.pull(link, time, outputs);
    for (const output of outputs) this.#parts.list.deliver(output, time, out);
    return frame;
  }

  /** HOT: once a write. The number of the batch that has what is staged by now. That batch is on its way to the disk, or follows the one that is. */
  durable(out: NodeOutput[]): BatchNumber {
    const { writes } = this.#parts;
    const batch = writes.commits.durable();
    writes.persist(out);
    return batch;
  }

  /** The replica changed: updates the DNS names, and wakes the readers that the change concerns. */
  show(out: NodeOutput[]): void {
    this.#parts.writes.show(out);
  }

  nextDeadlineMs(): number {
    return this.#parts.list.nextDeadlineMs();
  }

  /** Other nodes know more of the generation in use than this node does. It takes a new one, unless it is doing so already. */
  loseGeneration(why: LostGeneration, time: Time, out: NodeOutput[]): void {
    this.#parts.list.deliver({ kind: "generationLost", ...why }, time, out);
  }
}

/** Whether the input comes from another node. */
function isFromOthers({ kind }: NodeInput): boolean {
  return kind === "asked" || kind === "answered" || kind === "opened" || kind === "received" || kind === "closed";
}

/** The fabric of a node that has joined others. Fails for a node that stands alone. */
export function fabricOf({ machine: { fabric } }: { readonly machine: Pick<NodeMachine, "fabric"> }): Fabric {
  assert(fabric !== undefined, "the fabric is open");
  return fabric;
}
