/** Which start of a node goes under its id: the rule of members (semantics.md, Two nodes with one id). */
import type { Time } from "../lib/machine.ts";
import type { HeldStart, MemberUpdate, NodeRef, Start } from "./messages.ts";
import { eventOutput } from "./seam.ts";

/**
 * How a start stands to the one that was accepted last. `new`: there is nothing to compare it with; `unsaid`: an older node's word, or one
 * that an older node passed on; `stranger`: it follows another start than the one that is remembered, so it began from a copy.
 */
export type StartVerdict = "new" | "unsaid" | "same" | "follows" | "stranger";

/** The start of a node that was accepted last. */
export interface AcceptedStart extends HeldStart, NodeRef {}

interface Accepted extends AcceptedStart {
  /** When it last asked this node something in that start. */
  heardMonoMs: number;
  /** The node said so itself; else others said it of it, and its own word is worth more. */
  isProven: boolean;
}

/** An operator is told of a second node with one id at most so often. */
const TELL_MS = 60_000;

export class Boots {
  readonly #max: number;
  /** This node's cluster. */
  readonly #here: string;
  /** By node id; the one that was heard of longest ago is first, and the first to be forgotten. */
  readonly #accepted = new Map<string, Accepted>();
  /** Node id to when the operator was told of a second one; the one told of longest ago is first. */
  readonly #toldMonoMs = new Map<string, number>();

  /** `accepted`: what was remembered before this node was restarted. */
  constructor(max: number, here: string, accepted: readonly AcceptedStart[] = []) {
    this.#max = max;
    this.#here = here;
    for (const one of accepted.slice(-max))
      this.#accepted.set(one.nodeId, {
        ...one,
        heardMonoMs: Number.NEGATIVE_INFINITY,
        isProven: true,
      });
  }

  /** What is to be remembered over a restart; the one that was heard of longest ago first. */
  list(): readonly AcceptedStart[] {
    const proven = [...this.#accepted.values()].filter(({ isProven }) => isProven);
    return proven.map(({ nodeId, generation, boot, address }) => ({ nodeId, generation, boot, address }));
  }

  find(nodeId: string): HeldStart | undefined {
    return this.#accepted.get(nodeId);
  }

  /**
   * `isOwnWord`: the node itself says so, which settles what only others said of it. Which start goes under the id of another cluster's node is for
   * that cluster to say: what such a node says itself is taken for the next start, as whoever was away for several has missed those between.
   */
  verdict(
    { nodeId, generation, boot, bootBefore, clusterId }: NodeRef & Start & { readonly clusterId: string },
    isOwnWord: boolean,
  ): StartVerdict {
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
    const { isProven, heardMonoMs } = isSame ? last : { isProven: false, heardMonoMs: Number.NEGATIVE_INFINITY };
    this.#accepted.set(nodeId, { nodeId, generation, boot: name, address, heardMonoMs, isProven });
    const [oldest] = this.#accepted.keys();
    if (this.#accepted.size > this.#max && oldest !== undefined) this.#accepted.delete(oldest);
  }

  /** The node itself says so, or answered in this start. */
  prove({ nodeId, generation, boot }: NodeRef & Start): void {
    const last = this.#accepted.get(nodeId);
    if (last?.generation === generation && last.boot === boot) last.isProven = true;
  }

  /** The node itself asked something, in that start: if it is the accepted one, it is there, whatever an earlier question to it came to. */
  heard(from: NodeRef & Start, { monoMs }: Time): void {
    const last = this.#accepted.get(from.nodeId);
    if (last?.generation !== from.generation || last.boot !== from.boot) return;
    last.heardMonoMs = monoMs;
    last.isProven = true;
  }

  /** Whether the start that was accepted asked something within that time. */
  isHeard(nodeId: string, withinMs: number, { monoMs }: Time): boolean {
    return monoMs - (this.#accepted.get(nodeId)?.heardMonoMs ?? Number.NEGATIVE_INFINITY) < withinMs;
  }

  /** What a node that asks is told: the start that goes under its id here, if that is another than the one that asks. */
  insteadOf({ nodeId, boot }: NodeRef & Start): { readonly heldStart?: HeldStart } {
    const last = this.#accepted.get(nodeId);
    if (last === undefined || boot === undefined || boot === last.boot) return {};
    return { heldStart: { boot: last.boot, address: last.address } };
  }

  /** There is a second one, beside the start that was accepted, or `listed`: for the operator, who is told now and then. */
  second(
    { nodeId, generation, address }: MemberUpdate,
    { monoMs }: Time,
    listed?: MemberUpdate,
  ): ReturnType<typeof eventOutput> | undefined {
    const otherAddress = (this.#accepted.get(nodeId) ?? listed)?.address;
    if (otherAddress === undefined) return undefined;
    if (monoMs - (this.#toldMonoMs.get(nodeId) ?? Number.NEGATIVE_INFINITY) < TELL_MS) return undefined;
    this.#toldMonoMs.delete(nodeId);
    this.#toldMonoMs.set(nodeId, monoMs);
    const [oldest] = this.#toldMonoMs.keys();
    if (this.#toldMonoMs.size > this.#max && oldest !== undefined) this.#toldMonoMs.delete(oldest);
    const detail = { nodeId, generation, address, otherAddress };
    return eventOutput("two_nodes_with_one_id", "warn", detail, { isAudited: true });
  }
}

/** What was said of a start, and nothing else. */
export function startOf({ boot, bootBefore }: Start): Start {
  return { ...(boot !== undefined && { boot }), ...(bootBefore !== undefined && { bootBefore }) };
}
