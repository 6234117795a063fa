/**
 * Decides which process instance of a node is accepted under its id, according to the rules that members apply (semantics.md, Two nodes with one id).
 */
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { ForeignPeers } from "../links/foreign-peers.ts";
import type { FabricNews } from "../part.ts";
import type { HeldInstance, MemberUpdate, NodeRef, ProcessInstance } from "../wire/messages.ts";

/**
 * How a process instance relates to the most recently accepted one. `new`: there is no instance to compare with; `unnamed`: the node has no disk;
 * `stranger`: the instance does not follow the remembered one, so it was started from a copy of the data directory.
 */
export type InstanceVerdict = "new" | "unnamed" | "same" | "follows" | "stranger";

/** The most recently accepted process instance of a node. */
export interface AcceptedInstance extends HeldInstance, NodeRef {}

interface AcceptedRow extends AcceptedInstance {
  /** Time at which that instance last called this node. */
  calledMonoMs: number;
  /** Whether the node itself announced the instance. Otherwise, other nodes announced it, and the node's own update overrides their announcement. */
  isProven: boolean;
}

/** An unknown process instance that announces itself. */
interface UnknownInstance {
  readonly boot: string;
  sinceMonoMs: number;
  /** Time of its last announcement. */
  lastMonoMs: number;
  /**
   * The time since which unknown instances of this id have announced themselves without a gap of `LASTING_MS`, and the number of different boot names
   * among them.
   */
  firstMonoMs: number;
  readonly nameCount: number;
  /** Time at which the accepted instance last proved that it is running too. */
  contradictedMonoMs: number;
}

/**
 * The evidence about an unknown process instance. `first`: none yet; `unsure`: the instance may still name the accepted one as one of its
 * predecessors; `lasting`: it had enough time to do so and did not; `two`: the accepted instance is running as well.
 */
export type UnknownInstanceState = "first" | "unsure" | "lasting" | "two";

/** How the process instance that sent a hello relates to the accepted instance of its id. */
export type InstanceStatus =
  | {
      readonly verdict: Exclude<InstanceVerdict, "stranger"> /** Whether the accepted instance is listed at another address. */;
      readonly isElsewhere: boolean;
    }
  | { readonly verdict: "stranger"; readonly standing: UnknownInstanceState };

/** Minimum time between two events about a second node with one id. Evidence that two nodes exist is valid for this time. */
const EVENT_MS = 60_000;
/**
 * Time that a node has to name the instance that other nodes remember for it. Once the node learns which instance that is, its next update
 * names the instance if it was one of its own.
 */
const LASTING_MS = 5000;
/** Largest number of boot names that can be explained by two nodes when one of them was restarted. */
const MANY_NAMES = 3;

export class ProcessInstances {
  /** This node's cluster. */
  readonly #here: string;
  /** By node id. The instance that was accepted longest ago is first, and it is the first to be forgotten. */
  readonly #accepted: BoundedMap<string, AcceptedRow>;
  /** Keyed by node id, while another instance is accepted. The instance that was first seen longest ago is first. */
  readonly #strangers: BoundedMap<string, UnknownInstance>;
  /** Keyed by node id: the time when an event about a second node was logged. The oldest time is first. */
  readonly #loggedMonoMs: BoundedMap<string, number>;

  /** `accepted`: the instances that were remembered before this node was restarted. */
  constructor(max: number, here: string, accepted: readonly AcceptedInstance[] = []) {
    this.#here = here;
    this.#accepted = new BoundedMap(max);
    this.#strangers = new BoundedMap(max);
    this.#loggedMonoMs = new BoundedMap(max);
    for (const one of accepted)
      this.#accepted.set(one.nodeId, {
        ...one,
        calledMonoMs: Number.NEGATIVE_INFINITY,
        isProven: true,
      });
  }

  /** Returns the instances to remember across a restart. The instance that was accepted longest ago is first. */
  list(): readonly AcceptedInstance[] {
    const proven = [...this.#accepted.values()].filter(({ isProven }) => isProven);
    return proven.map(({ nodeId, generation, boot, address }) => ({ nodeId, generation, boot, address }));
  }

  find(nodeId: string): HeldInstance | undefined {
    return this.#accepted.get(nodeId);
  }

  /**
   * Compares a process instance with the accepted one. `isOwnUpdate`: the node itself announced it, which overrides announcements by others. For
   * nodes of another cluster, that cluster decides. Their own announcement is accepted as the next instance, because this node may have missed
   * several instances in between.
   */
  verdict(
    { nodeId, generation, boot, bootBefore, clusterId }: NodeRef & ProcessInstance & { readonly clusterId: string },
    isOwnUpdate: boolean,
  ): InstanceVerdict {
    const last = this.#accepted.get(nodeId);
    // A new generation is not compared with the previous one, because membership handles it by its own rules.
    if (last === undefined || generation !== last.generation) return "new";
    if (boot === undefined) return "unnamed";
    if (boot === last.boot) return "same";
    if (bootBefore === last.boot) return "follows";
    if (!isOwnUpdate) return "stranger";
    if (!last.isProven) return "new";
    return clusterId === this.#here ? "stranger" : "follows";
  }

  /** Accepts a process instance. An update without a boot name does not change the accepted instance, unless its generation differs. */
  accept({ nodeId, generation, boot, address }: MemberUpdate): void {
    const last = this.#accepted.get(nodeId);
    const name = boot ?? (last?.generation === generation ? last.boot : undefined);
    this.#accepted.delete(nodeId);
    if (name === undefined) return;
    // Another update about the same instance, such as the first one after a pause, preserves the known facts about it.
    const isSame = last?.generation === generation && last.boot === name;
    if (!isSame) this.#strangers.delete(nodeId);
    const { isProven, calledMonoMs } = isSame ? last : { isProven: false, calledMonoMs: Number.NEGATIVE_INFINITY };
    this.#accepted.set(nodeId, { nodeId, generation, boot: name, address, calledMonoMs, isProven });
  }

  /** Notes that this instance announced itself or answered a call. If an unknown instance was also seen, there are two nodes. */
  prove({ nodeId, generation, boot }: NodeRef & ProcessInstance, { monoMs }: Time): void {
    const last = this.#accepted.get(nodeId);
    if (last?.generation !== generation || last.boot !== boot) return;
    last.isProven = true;
    const stranger = this.#strangers.get(nodeId);
    if (stranger !== undefined) stranger.contradictedMonoMs = monoMs;
  }

  /** Notes a call from a node. If the caller is the accepted instance, that instance is alive, even if an earlier probe of it failed. */
  called(from: NodeRef & ProcessInstance, time: Time): void {
    const last = this.#accepted.get(from.nodeId);
    if (last?.generation !== from.generation || last.boot !== from.boot) return;
    last.calledMonoMs = time.monoMs;
    this.prove(from, time);
  }

  /** Records an unknown instance that announces itself. The instance is not accepted. Returns the evidence of a second node. */
  meet({ nodeId, boot = "" }: NodeRef & ProcessInstance, { monoMs }: Time): UnknownInstanceState {
    const known = this.#strangers.get(nodeId);
    if (known?.boot === boot) {
      known.lastMonoMs = monoMs;
      if (monoMs - known.contradictedMonoMs < EVENT_MS) return "two";
      return monoMs - known.sinceMonoMs < LASTING_MS ? "unsure" : "lasting";
    }
    const contradictedMonoMs = known?.contradictedMonoMs ?? Number.NEGATIVE_INFINITY;
    const isOngoing = known !== undefined && monoMs - known.lastMonoMs < LASTING_MS;
    const { firstMonoMs, nameCount } = isOngoing ? known : { firstMonoMs: monoMs, nameCount: 0 };
    const one = { boot, sinceMonoMs: monoMs, lastMonoMs: monoMs, firstMonoMs, nameCount: nameCount + 1, contradictedMonoMs };
    this.#strangers.set(nodeId, one);
    // A node that changes its boot name repeatedly is treated as `lasting`, like one that keeps its name. The accepted instance is probed only once
    // because of it.
    if (one.nameCount > MANY_NAMES && monoMs - firstMonoMs >= LASTING_MS) return "lasting";
    return known === undefined || monoMs - known.sinceMonoMs >= LASTING_MS ? "first" : "unsure";
  }

  /** Extends the time that unknown instances have to name an earlier instance by the length of a pause of this process. */
  postpone(byMs: number): void {
    for (const stranger of this.#strangers.values()) {
      stranger.sinceMonoMs += byMs;
      stranger.lastMonoMs += byMs;
      stranger.firstMonoMs += byMs;
    }
  }

  /** Returns whether the accepted instance called this node within that time. */
  hasCalled(nodeId: string, withinMs: number, { monoMs }: Time): boolean {
    return monoMs - (this.#accepted.get(nodeId)?.calledMonoMs ?? Number.NEGATIVE_INFINITY) < withinMs;
  }

  /** For use in a response, returns the accepted instance of the caller's id if the caller is a different one. */
  insteadOf({ nodeId, boot }: NodeRef & ProcessInstance): { readonly heldStart?: HeldInstance } {
    const last = this.#accepted.get(nodeId);
    if (last === undefined || boot === undefined || boot === last.boot) return {};
    return { heldStart: { boot: last.boot, address: last.address } };
  }

  /**
   * Creates events about a second node that runs in addition to the accepted instance or to `listed`. Creates at most one event per `EVENT_MS` and
   * node id.
   */
  second(
    { nodeId, generation, address }: MemberUpdate,
    { monoMs }: Time,
    listed?: MemberUpdate,
  ): readonly ReturnType<typeof eventOutput>[] {
    const otherAddress = (this.#accepted.get(nodeId) ?? listed)?.address;
    if (otherAddress === undefined) return [];
    if (monoMs - (this.#loggedMonoMs.get(nodeId) ?? Number.NEGATIVE_INFINITY) < EVENT_MS) return [];
    this.#loggedMonoMs.set(nodeId, monoMs);
    const detail = { nodeId, generation, address, otherAddress };
    return [eventOutput("two_nodes_with_one_id", "warn", detail, { isAudited: true })];
  }
}

/** Returns only the fields of a message that describe the process instance. */
export function startOf({ boot, bootBefore }: ProcessInstance): ProcessInstance {
  return { ...(boot !== undefined && { boot }), ...(bootBefore !== undefined && { bootBefore }) };
}

// The initial data of membership, and the outputs of its components.

export type MembershipOutput =
  | Extract<FabricOutput, { readonly kind: "call" | "answer" | "event" }>
  | Extract<FabricNews, { readonly kind: "memberChanged" | "memberForgotten" | "turnedAway" | "letIn" | "ownIdUsed" }>;

export interface MembershipStateParts {
  readonly foreignPeers?: ForeignPeers | undefined;
  /** The boot names of earlier process instances of this node. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** The process instances of other nodes that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedInstance[] | undefined;
}
