/** Which start of a node goes under its id: the rule of members (semantics.md, Two nodes with one id). */
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { ForeignPeers } from "../links/foreign-peers.ts";
import type { FabricNews } from "../part.ts";
import type { HeldInstance, MemberUpdate, NodeRef, ProcessInstance } from "../wire/messages.ts";

/**
 * How a start stands to the one that was accepted last. `new`: there is nothing to compare it with; `unsaid`: of a node without a disk; `stranger`: it follows another start than the one that is remembered, so it began from a copy.
 */
export type InstanceVerdict = "new" | "unsaid" | "same" | "follows" | "stranger";

/** The start of a node that was accepted last. */
export interface AcceptedInstance extends HeldInstance, NodeRef {}

interface AcceptedRow extends AcceptedInstance {
  /** When it last asked this node something in that start. */
  heardMonoMs: number;
  /** The node said so itself; else others said it of it, and its own word is worth more. */
  isProven: boolean;
}

/** A stranger that speaks of itself. */
interface UnknownInstance {
  readonly boot: string;
  sinceMonoMs: number;
  /** When it spoke last. */
  lastMonoMs: number;
  /** Since when strangers of this id have spoken without a pause of `LASTING_MS`, and how often the name was another. */
  firstMonoMs: number;
  readonly nameCount: number;
  /** When the accepted start showed last that it is there too. */
  contradictedMonoMs: number;
}

/**
 * What is known of a stranger that speaks: `first`: nothing yet; `unsure`: it may be about to name the accepted start as an earlier one of its
 * own; `lasting`: it had the time to, and did not; `two`: the accepted start is there as well.
 */
export type UnknownInstanceState = "first" | "unsure" | "lasting" | "two";

/** How a start that greets stands to the one that goes under its id. */
export type InstanceStatus =
  | {
      readonly verdict: Exclude<InstanceVerdict, "stranger"> /** The accepted one is listed at another address. */;
      readonly isElsewhere: boolean;
    }
  | { readonly verdict: "stranger"; readonly standing: UnknownInstanceState };

/** An operator is told of a second node with one id at most so often; and what shows that there are two does so for so long. */
const TELL_MS = 60_000;
/** Who is told which start is remembered of it names it at its next word, if it was one of its own. */
const LASTING_MS = 5000;
/** Names that two nodes have, of which one was started again. */
const MANY_NAMES = 3;

export class ProcessInstances {
  /** This node's cluster. */
  readonly #here: string;
  /** By node id; the one that was heard of longest ago is first, and the first to be forgotten. */
  readonly #accepted: BoundedMap<string, AcceptedRow>;
  /** By node id, while another start is accepted. The one that was met longest ago is first. */
  readonly #strangers: BoundedMap<string, UnknownInstance>;
  /** Node id to when the operator was told of a second one; the one told of longest ago is first. */
  readonly #toldMonoMs: BoundedMap<string, number>;

  /** `accepted`: what was remembered before this node was restarted. */
  constructor(max: number, here: string, accepted: readonly AcceptedInstance[] = []) {
    this.#here = here;
    this.#accepted = new BoundedMap(max);
    this.#strangers = new BoundedMap(max);
    this.#toldMonoMs = new BoundedMap(max);
    for (const one of accepted)
      this.#accepted.set(one.nodeId, {
        ...one,
        heardMonoMs: Number.NEGATIVE_INFINITY,
        isProven: true,
      });
  }

  /** What is to be remembered over a restart; the one that was heard of longest ago first. */
  list(): readonly AcceptedInstance[] {
    const proven = [...this.#accepted.values()].filter(({ isProven }) => isProven);
    return proven.map(({ nodeId, generation, boot, address }) => ({ nodeId, generation, boot, address }));
  }

  find(nodeId: string): HeldInstance | undefined {
    return this.#accepted.get(nodeId);
  }

  /**
   * `isSelfReported`: the node itself says so, which settles what only others said of it. Which start goes under the id of another cluster's node is for
   * that cluster to say: what such a node says itself is taken for the next start, as whoever was away for several has missed those between.
   */
  verdict(
    { nodeId, generation, boot, bootBefore, clusterId }: NodeRef & ProcessInstance & { readonly clusterId: string },
    isOwnWord: boolean,
  ): InstanceVerdict {
    const last = this.#accepted.get(nodeId);
    // A new generation begins anew: membership has rules of its own for it.
    if (last === undefined || generation !== last.generation) return "new";
    if (boot === undefined) return "unsaid";
    if (boot === last.boot) return "same";
    if (bootBefore === last.boot) return "follows";
    if (!isOwnWord) return "stranger";
    if (!last.isProven) return "new";
    return clusterId === this.#here ? "stranger" : "follows";
  }

  /** From now on this is the one. What says no start does not change which one that is, unless its generation is another. */
  accept({ nodeId, generation, boot, address }: MemberUpdate): void {
    const last = this.#accepted.get(nodeId);
    const name = boot ?? (last?.generation === generation ? last.boot : undefined);
    this.#accepted.delete(nodeId);
    if (name === undefined) return;
    // Another word about the same start, as its first one after a standstill is, takes nothing from what is known of it.
    const isSame = last?.generation === generation && last.boot === name;
    if (!isSame) this.#strangers.delete(nodeId);
    const { isProven, heardMonoMs } = isSame ? last : { isProven: false, heardMonoMs: Number.NEGATIVE_INFINITY };
    this.#accepted.set(nodeId, { nodeId, generation, boot: name, address, heardMonoMs, isProven });
  }

  /** The node itself says so, or answered in this start: then a stranger that was met is a second one. */
  prove({ nodeId, generation, boot }: NodeRef & ProcessInstance, { monoMs }: Time): void {
    const last = this.#accepted.get(nodeId);
    if (last?.generation !== generation || last.boot !== boot) return;
    last.isProven = true;
    const stranger = this.#strangers.get(nodeId);
    if (stranger !== undefined) stranger.contradictedMonoMs = monoMs;
  }

  /** The node itself asked something, in that start: if it is the accepted one, it is there, whatever an earlier question to it came to. */
  heard(from: NodeRef & ProcessInstance, time: Time): void {
    const last = this.#accepted.get(from.nodeId);
    if (last?.generation !== from.generation || last.boot !== from.boot) return;
    last.heardMonoMs = time.monoMs;
    this.prove(from, time);
  }

  /** A stranger speaks of itself. It is not believed; whether there is a second node is another question. */
  meet({ nodeId, boot = "" }: NodeRef & ProcessInstance, { monoMs }: Time): UnknownInstanceState {
    const known = this.#strangers.get(nodeId);
    if (known?.boot === boot) {
      known.lastMonoMs = monoMs;
      if (monoMs - known.contradictedMonoMs < TELL_MS) return "two";
      return monoMs - known.sinceMonoMs < LASTING_MS ? "unsure" : "lasting";
    }
    const contradictedMonoMs = known?.contradictedMonoMs ?? Number.NEGATIVE_INFINITY;
    const isOngoing = known !== undefined && monoMs - known.lastMonoMs < LASTING_MS;
    const { firstMonoMs, nameCount } = isOngoing ? known : { firstMonoMs: monoMs, nameCount: 0 };
    const one = { boot, sinceMonoMs: monoMs, lastMonoMs: monoMs, firstMonoMs, nameCount: nameCount + 1, contradictedMonoMs };
    this.#strangers.set(nodeId, one);
    // Whoever takes one name after the other lasts as one that keeps its name, and has the accepted start looked for once.
    if (one.nameCount > MANY_NAMES && monoMs - firstMonoMs >= LASTING_MS) return "lasting";
    return known === undefined || monoMs - known.sinceMonoMs >= LASTING_MS ? "first" : "unsure";
  }

  /** This node stood still: who was met has so much longer to name an earlier start. */
  postpone(byMs: number): void {
    for (const stranger of this.#strangers.values()) {
      stranger.sinceMonoMs += byMs;
      stranger.lastMonoMs += byMs;
      stranger.firstMonoMs += byMs;
    }
  }

  /** Whether the start that was accepted asked something within that time. */
  isHeard(nodeId: string, withinMs: number, { monoMs }: Time): boolean {
    return monoMs - (this.#accepted.get(nodeId)?.heardMonoMs ?? Number.NEGATIVE_INFINITY) < withinMs;
  }

  /** What a node that asks is told: the start that goes under its id here, if that is another than the one that asks. */
  insteadOf({ nodeId, boot }: NodeRef & ProcessInstance): { readonly heldStart?: HeldInstance } {
    const last = this.#accepted.get(nodeId);
    if (last === undefined || boot === undefined || boot === last.boot) return {};
    return { heldStart: { boot: last.boot, address: last.address } };
  }

  /** There is a second one, beside the start that was accepted, or `listed`: for the operator, who is told now and then. */
  second(
    { nodeId, generation, address }: MemberUpdate,
    { monoMs }: Time,
    listed?: MemberUpdate,
  ): readonly ReturnType<typeof eventOutput>[] {
    const otherAddress = (this.#accepted.get(nodeId) ?? listed)?.address;
    if (otherAddress === undefined) return [];
    if (monoMs - (this.#toldMonoMs.get(nodeId) ?? Number.NEGATIVE_INFINITY) < TELL_MS) return [];
    this.#toldMonoMs.set(nodeId, monoMs);
    const detail = { nodeId, generation, address, otherAddress };
    return [eventOutput("two_nodes_with_one_id", "warn", detail, { isAudited: true })];
  }
}

/** What was said of a start, and nothing else. */
export function startOf({ boot, bootBefore }: ProcessInstance): ProcessInstance {
  return { ...(boot !== undefined && { boot }), ...(bootBefore !== undefined && { bootBefore }) };
}

// What membership begins with, and what its parts hand out.

export type MembershipOutput =
  | Extract<FabricOutput, { readonly kind: "call" | "answer" | "event" }>
  | Extract<FabricNews, { readonly kind: "memberChanged" | "memberForgotten" | "turnedAway" | "letIn" | "ownIdUsed" }>;

export interface MembershipStateParts {
  readonly foreignPeers?: ForeignPeers | undefined;
  /** What earlier starts of this node were called. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** Starts of others that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedInstance[] | undefined;
}
