/** How this node stands with others: whether they take what it says of itself, and whether its start is the one that goes under its id. */
import { NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput } from "../io-types.ts";
import type { HeldInstance, MemberUpdate } from "../wire/messages.ts";
import { isListed } from "./members.ts";
import { UPDATE_REFUSALS } from "./update-rules.ts";

/** Another start goes under this node's id. */
export interface IdentityConflict {
  /** Who says so; this node's own id when the other one answered itself. */
  readonly nodeIds: readonly string[];
  /** Where the other one is; empty when nobody knows. */
  readonly otherAddress: string;
}

interface DisputeReport {
  readonly held: HeldInstance;
  /** Where it was told, to ask there again. */
  readonly address: string;
  readonly sinceMonoMs: number;
  askMonoMs: number;
}

/** An accepted node is believed for so long by itself where others still hold an earlier start of its own: they may not have heard yet. */
const PATIENCE_MS = 5000;
/** Who holds another start is asked again after this: it may be looking for the earlier one. */
const FIRST_ASK_MS = 100;
const ASK_MS = 1000;
/** An own conflict is told to the operator at most so often; and a second node that asked is one for so long. */
const CONFLICT_EVENT_MS = 60_000;
/** A node that stood still asks at least so many members whether it is still the one, if there are, and is confirmed by at most so many. */
const MIN_CONFIRMERS = 3;
const MAX_CONFIRMERS = 20;

/** More than half of the others; of very many as are hardly ever all of the smaller half, drawn by chance. */
function mostOf(listedCount: number): number {
  return Math.min(MAX_CONFIRMERS, Math.floor(listedCount / 2) + 1);
}

/** Since when this node has to be confirmed, because others may have taken another start of its id while it stood still. */
interface PendingConfirmation {
  readonly sinceMonoMs: number;
  /** Whom it asked and who knows of no other start. */
  readonly confirmers: Set<string>;
  askMonoMs: number;
}

export class IdentityDispute {
  readonly #earlierBoots: ReadonlySet<string>;
  /** By who told. Bounded by those that this node asks. */
  readonly #told = new Map<string, DisputeReport>();
  /** Others that do not take what this node says of itself, each with why. Bounded by the members there are. */
  readonly #refusers = new Map<string, string>();
  /** Somebody accepted this start, and nobody else held another one then. */
  #isAccepted = false;
  #conflictToldMs = Number.NEGATIVE_INFINITY;
  #isConflictGone = false;
  #waking: PendingConfirmation | undefined;
  #second: { readonly address: string; readonly atMonoMs: number } | undefined;

  /** `earlierBoots`: what earlier starts of this directory were called. */
  constructor(earlierBoots: readonly string[]) {
    this.#earlierBoots = new Set(earlierBoots);
  }

  /** Whether an earlier start of this directory was called that. */
  isEarlier(boot: string): boolean {
    return this.#earlierBoots.has(boot);
  }

  /** Another node answered; `held` is the start that goes under our id there, when it is not this one. Whether it is to be asked at once. */
  hear(
    from: { readonly nodeId: string; readonly boot?: string; readonly address: string },
    held: HeldInstance | undefined,
    time: Time,
  ): boolean {
    const { nodeId, address } = from;
    const before = this.#told.get(nodeId);
    if (held === undefined) {
      this.#told.delete(nodeId);
      // A node that does not say what its own start is called knows nothing of starts.
      if (from.boot !== undefined && this.#told.size === 0) this.#isAccepted = true;
      return false;
    }
    const sinceMonoMs = before?.sinceMonoMs ?? time.monoMs;
    const askMonoMs = Math.max(before?.askMonoMs ?? 0, time.monoMs + (before === undefined ? FIRST_ASK_MS : 0));
    this.#told.set(nodeId, { held, address, sinceMonoMs, askMonoMs });
    return before?.held.boot !== held.boot;
  }

  /** It is a member no more, or answers no more: what it said counts no more. */
  forget(nodeId: string): void {
    this.#told.delete(nodeId);
    this.#refusers.delete(nodeId);
  }

  /** The other one under our own id was asked there, and did not answer. */
  unanswered(nodeId: string, address: string): void {
    if (this.#told.get(nodeId)?.address === address) this.#told.delete(nodeId);
  }

  /** Those that hold another start and are to be asked now: where, and which start they hold. */
  takeDue({ monoMs }: Time): readonly { readonly address: string; readonly held: HeldInstance }[] {
    const due: DisputeReport[] = [];
    for (const told of this.#told.values()) {
      if (told.askMonoMs > monoMs) continue;
      told.askMonoMs = monoMs + (monoMs - told.sinceMonoMs < ASK_MS ? FIRST_ASK_MS : ASK_MS);
      due.push(told);
    }
    return due;
  }

  nextDeadlineMs(): number {
    let next = NEVER;
    for (const { askMonoMs } of this.#told.values()) next = Math.min(next, askMonoMs);
    return next;
  }

  /** Why this node is not to answer for its id; `counts` says whose word counts. */
  dispute(counts: (nodeId: string) => boolean, { monoMs }: Time): IdentityConflict | undefined {
    if (this.#told.size === 0) return undefined;
    const said = [...this.#told].filter(([nodeId, { held, sinceMonoMs }]) => {
      const isPatient = this.#isAccepted && this.isEarlier(held.boot) && monoMs - sinceMonoMs < PATIENCE_MS;
      return counts(nodeId) && !isPatient;
    });
    const otherAddress = said.find(([, { held }]) => held.address !== "")?.[1].held.address ?? "";
    return said.length === 0 ? undefined : { nodeIds: said.map(([nodeId]) => nodeId), otherAddress };
  }

  /** The process stood still for so long that others may have found it silent, and taken another start. */
  onWake({ monoMs }: Time): void {
    this.#waking = { sinceMonoMs: monoMs, confirmers: new Set(), askMonoMs: monoMs };
  }

  /** Another answered what it was asked then, and holds no other start. */
  confirmed(nodeId: string, sentMonoMs: number): void {
    if (this.#waking !== undefined && sentMonoMs >= this.#waking.sinceMonoMs) this.#waking.confirmers.add(nodeId);
  }

  /**
   * Whether what is written may not be acknowledged yet. It may when more than half of the `listedCount` others have answered, and three, or all
   * of fewer; after `roundMs` more than half are enough; and at the end of patience it may whoever answered, as at every node that is cut off.
   */
  isUnconfirmed(listedCount: number, roundMs: number, { monoMs }: Time): boolean {
    if (this.#waking === undefined) return false;
    const { sinceMonoMs, confirmers } = this.#waking;
    const waitedMs = monoMs - sinceMonoMs;
    const least = waitedMs >= roundMs ? 0 : Math.min(MIN_CONFIRMERS, listedCount);
    return listedCount > 0 && waitedMs < PATIENCE_MS && confirmers.size < Math.max(least, mostOf(listedCount));
  }

  /** How many of the others to ask at a time: some of them may be gone. */
  static askedOf(listedCount: number): number {
    return mostOf(listedCount) + MIN_CONFIRMERS;
  }

  /** When others are to be asked whether this start is still the one; `asked` says when next. */
  get confirmMonoMs(): number {
    return this.#waking?.askMonoMs ?? NEVER;
  }

  asked(nextMonoMs: number): void {
    if (this.#waking !== undefined) this.#waking.askMonoMs = nextMonoMs;
  }

  /** It needs no confirmation any more. */
  settle(): void {
    this.#waking = undefined;
  }

  /** A second node asked under our id. */
  second(address: string, { monoMs }: Time): void {
    this.#second = { address, atMonoMs: monoMs };
  }

  /** Where a second node asked from under our id lately; undefined: there is none. */
  secondAddress({ monoMs }: Time): string | undefined {
    const second = this.#second;
    return second === undefined || monoMs - second.atMonoMs >= CONFLICT_EVENT_MS ? undefined : second.address;
  }

  /** Somebody else uses our id: for the operator, who is told now and then. */
  conflict(
    { nodeId, generation, address, status }: MemberUpdate,
    own: { readonly address: string; readonly toldBy: string },
    { monoMs }: Time,
  ): ReturnType<typeof eventOutput> | undefined {
    // That the other one is gone is worth a word of its own: then its life is to be followed by ours.
    const isGone = !isListed(status);
    if (monoMs - this.#conflictToldMs < CONFLICT_EVENT_MS && (!isGone || this.#isConflictGone)) return undefined;
    this.#conflictToldMs = monoMs;
    this.#isConflictGone = isGone;
    const detail = { nodeId, generation, address, status, ownAddress: own.address, toldBy: own.toldBy };
    return eventOutput("own_id_used_by_another", "error", detail, { isAudited: true });
  }

  /** What another said of our own update when it answered; empty: it takes it. Told to the operator when it changes. */
  refusedBy(nodeId: string, why: string): ReturnType<typeof eventOutput> | undefined {
    const before = this.#refusers.get(nodeId) ?? "";
    if (why === "") this.#refusers.delete(nodeId);
    else this.#refusers.set(nodeId, why);
    if (why === before) return undefined;
    return why === "" ? eventOutput("own_update_taken", "info", { nodeId }) : eventOutput("own_update_refused", "error", { nodeId, why });
  }

  /**
   * Why our own update was refused, as far as it concerns anybody. That it does not follow the `held` start is none where that was one of our
   * own: it is named at once, and until it is taken there is a dispute.
   */
  lastingRefusal({ ownUpdateRefused = "", heldStart }: { readonly ownUpdateRefused?: string; readonly heldStart?: HeldInstance }): string {
    const isBehind = ownUpdateRefused === UPDATE_REFUSALS.start && heldStart !== undefined && this.isEarlier(heldStart.boot);
    return isBehind ? "" : ownUpdateRefused;
  }

  /** Listed members that do not take what this node says of itself, each with why. */
  refusers(counts: (nodeId: string) => boolean): readonly { readonly nodeId: string; readonly why: string }[] {
    if (this.#refusers.size === 0) return [];
    return [...this.#refusers].map(([nodeId, why]) => ({ nodeId, why })).filter(({ nodeId }) => counts(nodeId));
  }
}
