/**
 * How the policy travels (semantics.md, Policy): every link tells its newest head, who is behind asks for the version, checks it
 * and tells its own links in turn. Who does not take it says so, since it is given no records before. Which of two versions wins is
 * `policy/versions/version.ts`'s to say.
 */

import { BoundedMap } from "../lib/bounded-map.ts";
import { POLICY_BOUNDS } from "../lib/bounds.ts";
import { NEVER, type OptionsOf, type Time } from "../lib/machine.ts";
import { decodeFacts } from "../policy/versions/codec.ts";
import { isNewer, isSamePlace, NO_PLACE } from "../policy/versions/version.ts";
import { eventOutput, type FabricOutput, type LinkId } from "./io-types.ts";
import type { ChannelNews, ChannelSession, LinkChannel, LinkGreeting } from "./links/channel.ts";
import type { FabricHandlers } from "./part.ts";
import { ANY_PEER, differing, isHead, isWithin, MAX_NUMBER_STEP, nameOf, PolicyLink, type PolicyPeer, whyNot } from "./policy-link.ts";
import type { PolicyOfferSource } from "./policy-offer-sources.ts";
import type { PolicyFrame, PolicyHead } from "./wire/messages.ts";

/** What is not a setting. */
export const POLICY_EXCHANGE_FIXED = {
  /** An encoded version is at most this long. */
  maxBytes: POLICY_BOUNDS.maxVersionBytes,
  /** Bytes of a version in one frame, which is at most 256 KiB with its envelope. Small, so that over a slow link one comes within `patienceMs`. */
  partBytes: 32 * 1024,
  /** A peer that sends no part, and a shell that does not answer, is given up after so long. */
  patienceMs: 10_000,
  /** Transfers against the rules after which a link is not asked any more. */
  maxStrikes: 3,
} as const;

export type PolicyExchangeOptions = OptionsOf<typeof POLICY_EXCHANGE_FIXED>;

/** What comes over one link may be news for all others. */
const NEWS: readonly ChannelNews[] = [{ kind: "forAll" }];
/** Heads remembered that cannot be put in force here. */
const MAX_UNUSABLE = 64;
/** Concurrent versions told of a link: one that makes up heads must not fill the audit. */
const MAX_CONFLICTS = 8;

/** A version that is newer than ours and not taken. */
export interface RefusedVersion {
  readonly head: PolicyHead;
  readonly peer: PolicyPeer;
  readonly why: string;
}

interface PolicyFetch {
  readonly link: LinkId;
  head: PolicyHead;
  isAsked: boolean;
  /** Its link was asked before, and may send parts of that still. */
  readonly isAgain: boolean;
  /** Undefined until the first part. */
  bytes: Uint8Array | undefined;
  filled: number;
  deadlineMonoMs: number;
}

export interface PolicyExchangeParts {
  /** How this node treats a policy that nodes of a cluster offer. */
  readonly sourceOf?: (clusterId: string) => PolicyOfferSource;
  /** Every link may have something to send now. */
  readonly wake?: () => void;
}

/** The policy as a channel of the links. */
export class PolicyExchange implements LinkChannel<PolicyFrame> {
  readonly kinds = ["policyHead", "policyWanted", "policySettled", "policyPart"] as const;
  readonly speaks = "in turn";
  readonly #options: PolicyExchangeOptions;
  readonly #parts: Required<PolicyExchangeParts>;
  #head: PolicyHead = NO_PLACE;
  readonly #links = new Map<LinkId, PolicyLink>();
  #fetch: PolicyFetch | undefined;
  /** The last one that was late: the rest may still be on its way. */
  #late: PolicyFetch | undefined;
  /** Handed to the shell, which has not answered. */
  #adopting: { readonly head: PolicyHead; deadlineMonoMs: number } | undefined;
  /** Names of heads that could not be put in force here. */
  readonly #unusable = new BoundedMap<string, true>(MAX_UNUSABLE);
  #notTakenTold: PolicyHead = NO_PLACE;
  /** Transfers refused since the start: not what their head said, or against the rules. */
  refusedCount = 0;

  readonly handle: FabricHandlers = {
    policy: ({ head }) => {
      this.headChanged(head);
      this.#parts.wake();
    },
    policyRead: ({ number, bytes }) => {
      this.read(number, bytes);
      this.#parts.wake();
    },
    policyRefused: ({ head, detail }, _, out) => {
      this.refused(head, detail, out);
      this.#parts.wake();
    },
  };

  constructor(options: PolicyExchangeOptions, parts: PolicyExchangeParts = {}) {
    this.#options = options;
    this.#parts = { sourceOf: () => "accepted", wake: () => {}, ...parts };
  }

  /** The newest version kept here; number 0: none. */
  get head(): PolicyHead {
    return this.#head;
  }

  /** Whether the link's peer has told its head, and nothing newer than ours is still to be had from it. */
  isSettledWith(link: LinkId): boolean {
    const state = this.#links.get(link);
    if (state?.heard === undefined) return false;
    // Without the policy that the peer has, this node would show what that hides.
    if (state.peer.source === "open") return state.heard.number === 0;
    return !this.#isOffer(state) && this.#adopting === undefined;
  }

  /**
   * Whether the peer has neither our newest version nor refused it. Until then it is held: it gets no records, because they may show what the policy
   * hides.
   */
  isBehind(link: LinkId): boolean {
    const state = this.#links.get(link);
    if (state === undefined || this.#head.number === 0) return false;
    if (state.settled !== undefined && isSamePlace(state.settled, this.#head)) return false;
    return state.latest === undefined || isNewer(this.#head, state.latest);
  }

  open(link: LinkId, { hello: { nodeId, clusterId } }: LinkGreeting): ChannelSession<PolicyFrame> {
    this.opened(link, { nodeId, clusterId, source: this.#parts.sourceOf(clusterId) });
    const isCaughtUp = () => this.isSettledWith(link);
    return {
      next: (time) => this.next(link, time),
      receive: (frame, time, out) => {
        this.receive(link, frame, time, out);
        return NEWS;
      },
      hasWork: () => this.hasWork(link),
      // Nothing is due on one link alone: the exchange looks at its clock for all of them.
      tick: () => {},
      nextDeadlineMs: () => NEVER,
      // Without the policy that the peer has, this node would show what the cluster hides.
      get isCaughtUp() {
        return isCaughtUp();
      },
    };
  }

  opened(link: LinkId, peer: PolicyPeer = ANY_PEER): void {
    this.#links.set(link, new PolicyLink(peer));
  }

  closed(link: LinkId): void {
    this.#links.delete(link);
    if (this.#fetch?.link === link) this.#fetch = undefined;
    this.#choose();
  }

  receive(link: LinkId, frame: PolicyFrame, time: Time, out: FabricOutput[]): void {
    const state = this.#links.get(link);
    if (state === undefined) return;
    switch (frame.kind) {
      case "policyHead":
        this.#hear(link, state, frame.head, out);
        break;
      case "policyWanted":
        this.#wanted(state, frame.number, out);
        break;
      case "policySettled":
        state.settled = frame.head;
        break;
      case "policyPart":
        this.#part(link, frame, time, out);
        break;
    }
    this.#choose();
  }

  /** The next frame for a link, or undefined. */
  next(link: LinkId, time: Time): PolicyFrame | undefined {
    const state = this.#links.get(link);
    if (state === undefined) return undefined;
    if (state.told === undefined || !isSamePlace(state.told, this.#head)) {
      state.told = this.#head;
      return { kind: "policyHead", head: this.#head };
    }
    const fetch = this.#fetch;
    if (fetch?.link === link && !fetch.isAsked) {
      fetch.isAsked = true;
      fetch.deadlineMonoMs = time.monoMs + this.#options.patienceMs;
      return { kind: "policyWanted", number: fetch.head.number };
    }
    if (this.#isSettling(state)) {
      state.toldSettled = state.latest;
      return { kind: "policySettled", head: state.latest };
    }
    return this.#nextPart(state);
  }

  hasWork(link: LinkId): boolean {
    const state = this.#links.get(link);
    if (state === undefined) return false;
    const isNews = state.told === undefined || !isSamePlace(state.told, this.#head);
    return isNews || state.sending !== undefined || this.#isSettling(state) || (this.#fetch?.link === link && !this.#fetch.isAsked);
  }

  /** The newest version kept here is another now: applied here, or adopted. */
  headChanged(head: PolicyHead): void {
    if (this.#adopting !== undefined && !isNewer(this.#adopting.head, head)) this.#adopting = undefined;
    this.#head = head;
    if (this.#fetch !== undefined && !isNewer(this.#fetch.head, head)) this.#fetch = undefined;
    this.#choose();
  }

  /** The shell could not put an offered version in force: it is not asked for again. */
  refused(head: PolicyHead, detail: string, out: FabricOutput[]): void {
    if (this.#adopting !== undefined && isSamePlace(this.#adopting.head, head)) this.#adopting = undefined;
    this.#unusable.set(nameOf(head), true);
    out.push(eventOutput("policy_unusable", "warn", { number: head.number, nodeId: head.nodeId, checksum: head.checksum, detail }));
    this.#choose();
  }

  /** The bytes that `readPolicy` asked for; undefined when they are not there any more. */
  read(number: number, bytes: Uint8Array | undefined): void {
    const head = this.#head;
    for (const state of this.#links.values()) {
      if (state.wanted !== number) continue;
      state.wanted = 0;
      const isWhole = bytes !== undefined && number === head.number && bytes.length <= this.#options.maxBytes;
      // What is no longer kept, or no longer the newest: the head says what is to be had instead.
      if (isWhole) state.sending = { head, bytes, offset: 0 };
      else state.told = undefined;
    }
  }

  look(time: Time, out: FabricOutput[]): void {
    const { monoMs } = time;
    if (monoMs < this.nextDeadlineMs()) return;
    if (this.#adopting !== undefined && monoMs >= this.#adopting.deadlineMonoMs) {
      const { number, nodeId } = this.#adopting.head;
      // Its store may be away for a while: it is fetched again.
      out.push(eventOutput("policy_not_adopted", "warn", { number, nodeId, detail: "it was not put in force in time" }));
      this.#adopting = undefined;
    }
    const fetch = this.#fetch;
    if (fetch?.isAsked === true && monoMs >= fetch.deadlineMonoMs) {
      this.#putOff(fetch, out);
    }
    this.#choose();
    this.#parts.wake();
  }

  /** This node stood still: what it waits for may be here, unread. */
  postpone(byMs: number): void {
    if (this.#fetch !== undefined) this.#fetch.deadlineMonoMs += byMs;
    if (this.#adopting !== undefined) this.#adopting.deadlineMonoMs += byMs;
  }

  nextDeadlineMs(): number {
    const fetch = this.#fetch?.isAsked === true ? this.#fetch.deadlineMonoMs : NEVER;
    return Math.min(fetch, this.#adopting?.deadlineMonoMs ?? NEVER);
  }

  #hear(link: LinkId, state: PolicyLink, head: PolicyHead, out: FabricOutput[]): void {
    const isTaken = isWithin(head, this.#head.number);
    state.tooFar = isHead(head) && !isTaken ? head : undefined;
    if (isHead(head)) state.latest = head;
    if (!isTaken) {
      this.refusedCount += 1;
      state.strikes += 1;
      const detail = state.tooFar === undefined ? "it is no policy head" : "its number is too far above ours";
      if (state.strikes <= this.#options.maxStrikes) out.push(eventOutput("policy_refused", "warn", { link, number: head.number, detail }));
      return;
    }
    const { number, checksum } = this.#head;
    const isKnown = state.heard !== undefined && isSamePlace(state.heard, head);
    // The peer hears of ours in turn and keeps its own in its history: see `PolicyEngine.take`.
    const isConflict =
      head.number === number && head.checksum !== checksum && isNewer(this.#head, head) && !isKnown && state.peer.source === "accepted";
    if (isConflict && state.conflictCount++ < MAX_CONFLICTS) {
      const detail = { number, nodeId: head.nodeId, checksum: head.checksum, kept: checksum };
      out.push(eventOutput("policy_conflict", "warn", detail, { isAudited: true }));
    }
    const fetch = this.#fetch;
    state.heard = head;
    this.#tellNotTaken(state, out);
    // It says what it has instead of what it was asked for.
    if (fetch?.link !== link || fetch.bytes !== undefined || isSamePlace(fetch.head, head)) return;
    this.#fetch = undefined;
    state.missedCount += 1;
  }

  #wanted(state: PolicyLink, number: number, out: FabricOutput[]): void {
    // One transfer at a time a link: a second wish while one is served starts it anew.
    state.sending = undefined;
    if (number !== this.#head.number || number === 0) {
      state.told = undefined;
      return;
    }
    const isBeingRead = [...this.#links.values()].some(({ wanted }) => wanted === number);
    state.wanted = number;
    if (!isBeingRead) out.push({ kind: "readPolicy", number });
  }

  #nextPart(state: PolicyLink): PolicyFrame | undefined {
    const { sending } = state;
    if (sending === undefined) return undefined;
    const { head, bytes, offset } = sending;
    const part = bytes.subarray(offset, offset + this.#options.partBytes);
    sending.offset = offset + part.length;
    if (sending.offset >= bytes.length) state.sending = undefined;
    return { kind: "policyPart", head, part, offset, sizeBytes: bytes.length };
  }

  #part(link: LinkId, { head, part, offset, sizeBytes }: PolicyFrame & { kind: "policyPart" }, time: Time, out: FabricOutput[]): void {
    const fetch = this.#fetch;
    // Late, of a transfer that was given up: nobody's fault.
    if (fetch?.link !== link || !fetch.isAsked || fetch.head.number !== head.number) return;
    if (fetch.isAgain && this.#isOfBefore(fetch, offset)) return;
    if (offset === 0 && fetch.bytes === undefined && isWithin(head, this.#head.number) && isNewer(head, this.#head)) fetch.head = head;
    const isNext = isSamePlace(fetch.head, head) && offset === fetch.filled && part.length > 0;
    const isFit = sizeBytes <= this.#options.maxBytes && offset + part.length <= sizeBytes;
    if (!isNext || !isFit || (fetch.bytes !== undefined && fetch.bytes.length !== sizeBytes)) {
      this.#strike(fetch, "its parts do not fit together", out);
      return;
    }
    fetch.bytes ??= new Uint8Array(sizeBytes);
    fetch.bytes.set(part, offset);
    fetch.filled += part.length;
    fetch.deadlineMonoMs = time.monoMs + this.#options.patienceMs;
    if (fetch.filled === sizeBytes) this.#complete(fetch, fetch.bytes, time, out);
  }

  /** Parts of what the link was asked for before come first; where those that were asked for now begin, all begins anew. */
  #isOfBefore(fetch: PolicyFetch, offset: number): boolean {
    if (offset > 0) return offset !== fetch.filled;
    fetch.bytes = undefined;
    fetch.filled = 0;
    return false;
  }

  #complete(fetch: PolicyFetch, bytes: Uint8Array, time: Time, out: FabricOutput[]): void {
    const { head } = fetch;
    const facts = decodeFacts(bytes);
    const fault = facts.ok ? differing(head, facts.version) : facts.fault;
    if (fault !== "") {
      this.#strike(fetch, fault, out);
      return;
    }
    this.#fetch = undefined;
    this.#adopting = { head, deadlineMonoMs: time.monoMs + this.#options.patienceMs };
    const state = this.#links.get(fetch.link);
    if (state !== undefined) state.missedCount = 0;
    const { nodeId = "", clusterId = "" } = state?.peer ?? {};
    out.push({ kind: "adoptPolicy", head, bytes, via: { nodeId, clusterId } });
  }

  /** It may have stood still, or its link be slow: others are asked before it, and then it again. */
  #putOff(fetch: PolicyFetch, out: FabricOutput[]): void {
    const { link, head } = fetch;
    this.#fetch = undefined;
    this.#late = fetch;
    const state = this.#links.get(link);
    if (state === undefined) return;
    state.missedCount += 1;
    const detail = { link, number: head.number, nodeId: head.nodeId, detail: "it was asked for and did not come in time" };
    out.push(eventOutput("policy_late", "warn", detail));
  }

  /** A transfer that is no good: others are tried first, and this link again only with another head. */
  #strike(fetch: PolicyFetch, detail: string, out: FabricOutput[]): void {
    this.#fetch = undefined;
    this.refusedCount += 1;
    const state = this.#links.get(fetch.link);
    if (state !== undefined) {
      state.strikes += 1;
      state.heard = NO_PLACE;
    }
    out.push(eventOutput("policy_refused", "warn", { link: fetch.link, number: fetch.head.number, nodeId: fetch.head.nodeId, detail }));
  }

  /**
   * The newest that any link offers is fetched, one at a time for the whole node; first from those that failed least, so that one that tells of what it
   * never gives does not keep out what others have.
   */
  #choose(): void {
    if (this.#fetch !== undefined || this.#adopting !== undefined) return;
    let best: { readonly link: LinkId; readonly head: PolicyHead; readonly missedCount: number } | undefined;
    for (const [link, state] of this.#links) {
      if (!this.#isOffer(state)) continue;
      const { heard: head, missedCount } = state;
      const isAsGood = best === undefined || (missedCount === best.missedCount && isNewer(head, best.head));
      if (isAsGood || missedCount < (best?.missedCount ?? 0)) best = { link, head, missedCount };
    }
    if (best === undefined) return;
    const { link, head, missedCount } = best;
    const late = this.#late?.link === link && isSamePlace(this.#late.head, head) ? this.#late : undefined;
    this.#late = undefined;
    const { bytes, filled } = late ?? { bytes: undefined, filled: 0 };
    this.#fetch = { link, head, isAsked: false, isAgain: missedCount > 0, bytes, filled, deadlineMonoMs: 0 };
  }

  /** Whether the peer waits to hear that its newest version is not taken here. What failed on its way is not told: it may hide what the peer has. */
  #isSettling(state: PolicyLink): state is PolicyLink & { latest: PolicyHead } {
    const { latest, toldSettled, peer } = state;
    if (latest === undefined || !isNewer(latest, this.#head) || this.#isOffer(state)) return false;
    if (toldSettled !== undefined && isSamePlace(toldSettled, latest)) return false;
    return whyNot(peer) !== "" || state.tooFar !== undefined || this.#unusable.has(nameOf(latest));
  }

  #isOffer(state: PolicyLink): state is PolicyLink & { heard: PolicyHead } {
    const { heard, strikes } = state;
    if (heard === undefined || strikes >= this.#options.maxStrikes) return false;
    return isNewer(heard, this.#head) && !this.#unusable.has(nameOf(heard)) && whyNot(state.peer) === "";
  }

  /** The newest version that a peer has and that is not taken from it, and why. */
  get notTaken(): RefusedVersion | undefined {
    let newest: RefusedVersion | undefined;
    for (const { peer, heard, tooFar } of this.#links.values()) {
      const head = tooFar ?? heard;
      if (head === undefined || !isNewer(head, newest?.head ?? this.#head)) continue;
      const why = tooFar === undefined ? whyNot(peer) : `its number is more than ${MAX_NUMBER_STEP} above that of the newest here`;
      if (why !== "") newest = { head, peer, why };
    }
    return newest;
  }

  /** Once a head, since peers tell each other the same one; and a few times a link. */
  #tellNotTaken(state: PolicyLink, out: FabricOutput[]): void {
    const { notTaken } = this;
    if (notTaken === undefined || isSamePlace(notTaken.head, this.#notTakenTold) || state.notTakenCount++ >= MAX_CONFLICTS) return;
    const { head, peer, why } = notTaken;
    this.#notTakenTold = head;
    const detail = { number: head.number, nodeId: head.nodeId, peerNodeId: peer.nodeId, clusterId: peer.clusterId, detail: why };
    out.push(eventOutput("policy_not_taken", "warn", detail));
  }
}
