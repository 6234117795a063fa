/**
 * Distribution of the policy (semantics.md, Policy). Each node announces its newest head on every link. A node that is behind requests
 * the version, checks it, and then announces it on its own links. A node that does not accept a version must decline it, because its peer withholds
 * records until the node has the version or declines it. `policy/versions/version.ts` decides which of two versions is newer.
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

/** Constants that are not settings. */
export const POLICY_EXCHANGE_FIXED = {
  /** Maximum size of an encoded version. */
  maxBytes: POLICY_BOUNDS.maxVersionBytes,
  /**
   * Number of a version's bytes in one frame, which is at most 256 KiB including its envelope. The part is small so that it arrives within
   * `timeoutMs` even on a slow link.
   */
  partBytes: 32 * 1024,
  /** Timeout for a peer that does not send the next part, and for a shell that does not respond. */
  timeoutMs: 10_000,
  /** Number of invalid transfers after which nothing more is requested on a link. */
  maxStrikes: 3,
} as const;

export type PolicyExchangeOptions = OptionsOf<typeof POLICY_EXCHANGE_FIXED>;

/** A frame on one link may affect all other links. */
const NEWS: readonly ChannelNews[] = [{ kind: "forAll" }];
/** Maximum number of remembered heads that could not be put in force on this node. */
const MAX_UNUSABLE = 64;
/** Maximum number of conflicting versions reported per link, so that a peer that forges heads cannot fill the audit log. */
const MAX_CONFLICTS = 8;

/** A version that is newer than this node's version and that this node does not accept. */
export interface RefusedVersion {
  readonly head: PolicyHead;
  readonly peer: PolicyPeer;
  readonly why: string;
}

interface PolicyFetch {
  readonly link: LinkId;
  head: PolicyHead;
  isAsked: boolean;
  /**
   * Whether the version was requested on this link before, so that parts of the earlier transfer may still arrive.
   */
  readonly isAgain: boolean;
  /** Undefined until the first part arrives. */
  bytes: Uint8Array | undefined;
  filled: number;
  deadlineMonoMs: number;
}

export interface PolicyExchangeParts {
  /** How this node treats a policy that nodes of a cluster offer. */
  readonly sourceOf?: (clusterId: string) => PolicyOfferSource;
  /** Called when every link may have something to send. */
  readonly wake?: () => void;
}

/** The policy exchange, as a channel of the links. */
export class PolicyExchange implements LinkChannel<PolicyFrame> {
  readonly kinds = ["policyHead", "policyWanted", "policySettled", "policyPart"] as const;
  readonly speaks = "in turn";
  readonly #options: PolicyExchangeOptions;
  readonly #parts: Required<PolicyExchangeParts>;
  #head: PolicyHead = NO_PLACE;
  readonly #links = new Map<LinkId, PolicyLink>();
  #fetch: PolicyFetch | undefined;
  /** The last fetch that timed out, of which parts may still arrive. */
  #late: PolicyFetch | undefined;
  /** The version that was passed to the shell, which has not responded yet. */
  #adopting: { readonly head: PolicyHead; deadlineMonoMs: number } | undefined;
  /** Names of heads that could not be put in force on this node. */
  readonly #unusable = new BoundedMap<string, true>(MAX_UNUSABLE);
  #reportedNotTaken: PolicyHead = NO_PLACE;
  /** Number of refused heads and transfers since the start, because they were malformed or did not match their head. */
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

  /** The newest version on this node. Number 0 means that there is none. */
  get head(): PolicyHead {
    return this.#head;
  }

  /** Returns whether the link's peer has announced its head and has no newer version that this node could fetch. */
  isSettledWith(link: LinkId): boolean {
    const state = this.#links.get(link);
    if (state?.announced === undefined) return false;
    // Without the peer's policy, this node would show entries that the policy hides.
    if (state.peer.source === "open") return state.announced.number === 0;
    return !this.#isOffer(state) && this.#adopting === undefined;
  }

  /**
   * Returns whether the peer neither has this node's newest version nor declined it. Until then, the peer gets no records, because they may include
   * entries that the policy hides.
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
      // There are no deadlines for a single link: `look` checks the deadlines of all links.
      tick: () => {},
      nextDeadlineMs: () => NEVER,
      // Without the peer's policy, this node would show entries that the cluster hides.
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
        this.#receiveHead(link, state, frame.head, out);
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

  /** Returns the next frame for a link, or undefined when there is none now. */
  next(link: LinkId, time: Time): PolicyFrame | undefined {
    const state = this.#links.get(link);
    if (state === undefined) return undefined;
    if (state.sent === undefined || !isSamePlace(state.sent, this.#head)) {
      state.sent = this.#head;
      return { kind: "policyHead", head: this.#head };
    }
    const fetch = this.#fetch;
    if (fetch?.link === link && !fetch.isAsked) {
      fetch.isAsked = true;
      fetch.deadlineMonoMs = time.monoMs + this.#options.timeoutMs;
      return { kind: "policyWanted", number: fetch.head.number };
    }
    if (this.#isSettling(state)) {
      state.sentSettled = state.latest;
      return { kind: "policySettled", head: state.latest };
    }
    return this.#nextPart(state);
  }

  hasWork(link: LinkId): boolean {
    const state = this.#links.get(link);
    if (state === undefined) return false;
    const isNews = state.sent === undefined || !isSamePlace(state.sent, this.#head);
    return isNews || state.sending !== undefined || this.#isSettling(state) || (this.#fetch?.link === link && !this.#fetch.isAsked);
  }

  /** Handles a new newest version on this node: a policy was applied here, or adopted from a peer. */
  headChanged(head: PolicyHead): void {
    if (this.#adopting !== undefined && !isNewer(this.#adopting.head, head)) this.#adopting = undefined;
    this.#head = head;
    if (this.#fetch !== undefined && !isNewer(this.#fetch.head, head)) this.#fetch = undefined;
    this.#choose();
  }

  /** Handles a version that the shell could not put in force. The version is not requested again. */
  refused(head: PolicyHead, detail: string, out: FabricOutput[]): void {
    if (this.#adopting !== undefined && isSamePlace(this.#adopting.head, head)) this.#adopting = undefined;
    this.#unusable.set(nameOf(head), true);
    out.push(eventOutput("policy_unusable", "warn", { number: head.number, nodeId: head.nodeId, checksum: head.checksum, detail }));
    this.#choose();
  }

  /** Handles the bytes that `readPolicy` requested. Undefined when this node no longer has that version. */
  read(number: number, bytes: Uint8Array | undefined): void {
    const head = this.#head;
    for (const state of this.#links.values()) {
      if (state.wanted !== number) continue;
      state.wanted = 0;
      const isWhole = bytes !== undefined && number === head.number && bytes.length <= this.#options.maxBytes;
      // If the version is gone or is no longer the newest, announce the current head again.
      if (isWhole) state.sending = { head, bytes, offset: 0 };
      else state.sent = undefined;
    }
  }

  look(time: Time, out: FabricOutput[]): void {
    const { monoMs } = time;
    if (monoMs < this.nextDeadlineMs()) return;
    if (this.#adopting !== undefined && monoMs >= this.#adopting.deadlineMonoMs) {
      const { number, nodeId } = this.#adopting.head;
      // The policy store may be unavailable for a while, so the version is fetched again.
      out.push(eventOutput("policy_not_adopted", "warn", { number, nodeId, detail: "the policy version was not applied in time" }));
      this.#adopting = undefined;
    }
    const fetch = this.#fetch;
    if (fetch?.isAsked === true && monoMs >= fetch.deadlineMonoMs) {
      this.#putOff(fetch, out);
    }
    this.#choose();
    this.#parts.wake();
  }

  /** Extends the deadlines by the length of a pause of this process, because responses may have arrived without having been read yet. */
  postpone(byMs: number): void {
    if (this.#fetch !== undefined) this.#fetch.deadlineMonoMs += byMs;
    if (this.#adopting !== undefined) this.#adopting.deadlineMonoMs += byMs;
  }

  nextDeadlineMs(): number {
    const fetch = this.#fetch?.isAsked === true ? this.#fetch.deadlineMonoMs : NEVER;
    return Math.min(fetch, this.#adopting?.deadlineMonoMs ?? NEVER);
  }

  #receiveHead(link: LinkId, state: PolicyLink, head: PolicyHead, out: FabricOutput[]): void {
    const isTaken = isWithin(head, this.#head.number);
    state.tooFar = isHead(head) && !isTaken ? head : undefined;
    if (isHead(head)) state.latest = head;
    if (!isTaken) {
      this.refusedCount += 1;
      state.strikes += 1;
      const detail =
        state.tooFar === undefined ? "malformed policy head" : `the version number exceeds this node's by more than ${MAX_NUMBER_STEP}`;
      if (state.strikes <= this.#options.maxStrikes) out.push(eventOutput("policy_refused", "warn", { link, number: head.number, detail }));
      return;
    }
    const { number, checksum } = this.#head;
    const isKnown = state.announced !== undefined && isSamePlace(state.announced, head);
    // The peer receives this node's head too, and keeps its own version in its history (see `PolicyEngine.take`).
    const isConflict =
      head.number === number && head.checksum !== checksum && isNewer(this.#head, head) && !isKnown && state.peer.source === "accepted";
    if (isConflict && state.conflictCount++ < MAX_CONFLICTS) {
      const detail = { number, nodeId: head.nodeId, checksum: head.checksum, kept: checksum };
      out.push(eventOutput("policy_conflict", "warn", detail, { isAudited: true }));
    }
    const fetch = this.#fetch;
    state.announced = head;
    this.#reportNotTaken(state, out);
    // The peer announced another head in place of the requested version.
    if (fetch?.link !== link || fetch.bytes !== undefined || isSamePlace(fetch.head, head)) return;
    this.#fetch = undefined;
    state.missedCount += 1;
  }

  #wanted(state: PolicyLink, number: number, out: FabricOutput[]): void {
    // Allow only one transfer per link, because a second request during a transfer restarts it.
    state.sending = undefined;
    if (number !== this.#head.number || number === 0) {
      state.sent = undefined;
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
    // This is a late part of an abandoned transfer, which is not an error.
    if (fetch?.link !== link || !fetch.isAsked || fetch.head.number !== head.number) return;
    if (fetch.isAgain && this.#isOfBefore(fetch, offset)) return;
    if (offset === 0 && fetch.bytes === undefined && isWithin(head, this.#head.number) && isNewer(head, this.#head)) fetch.head = head;
    const isNext = isSamePlace(fetch.head, head) && offset === fetch.filled && part.length > 0;
    const isFit = sizeBytes <= this.#options.maxBytes && offset + part.length <= sizeBytes;
    if (!isNext || !isFit || (fetch.bytes !== undefined && fetch.bytes.length !== sizeBytes)) {
      this.#strike(fetch, "the parts of the policy version are inconsistent", out);
      return;
    }
    fetch.bytes ??= new Uint8Array(sizeBytes);
    fetch.bytes.set(part, offset);
    fetch.filled += part.length;
    fetch.deadlineMonoMs = time.monoMs + this.#options.timeoutMs;
    if (fetch.filled === sizeBytes) this.#complete(fetch, fetch.bytes, time, out);
  }

  /** Skips the remaining parts of the earlier request, which arrive first. When the first part of the current request arrives, the transfer restarts. */
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
    this.#adopting = { head, deadlineMonoMs: time.monoMs + this.#options.timeoutMs };
    const state = this.#links.get(fetch.link);
    if (state !== undefined) state.missedCount = 0;
    const { nodeId = "", clusterId = "" } = state?.peer ?? {};
    out.push({ kind: "adoptPolicy", head, bytes, via: { nodeId, clusterId } });
  }

  /** Abandons a fetch that timed out. The peer may be paused or its link may be slow, so other peers are tried first, and then this peer again. */
  #putOff(fetch: PolicyFetch, out: FabricOutput[]): void {
    const { link, head } = fetch;
    this.#fetch = undefined;
    this.#late = fetch;
    const state = this.#links.get(link);
    if (state === undefined) return;
    state.missedCount += 1;
    const detail = { link, number: head.number, nodeId: head.nodeId, detail: "the requested policy version did not arrive in time" };
    out.push(eventOutput("policy_late", "warn", detail));
  }

  /** Rejects an invalid transfer. Other peers are tried first, and this link is used again only after the peer announces another head. */
  #strike(fetch: PolicyFetch, detail: string, out: FabricOutput[]): void {
    this.#fetch = undefined;
    this.refusedCount += 1;
    const state = this.#links.get(fetch.link);
    if (state !== undefined) {
      state.strikes += 1;
      state.announced = NO_PLACE;
    }
    out.push(eventOutput("policy_refused", "warn", { link: fetch.link, number: fetch.head.number, nodeId: fetch.head.nodeId, detail }));
  }

  /**
   * Starts to fetch the newest version that any link offers. There is only one fetch at a time on the whole node. Peers with the fewest failures come
   * first, so a peer that never sends its announced version does not block others.
   */
  #choose(): void {
    if (this.#fetch !== undefined || this.#adopting !== undefined) return;
    let best: { readonly link: LinkId; readonly head: PolicyHead; readonly missedCount: number } | undefined;
    for (const [link, state] of this.#links) {
      if (!this.#isOffer(state)) continue;
      const { announced: head, missedCount } = state;
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

  /**
   * Returns whether this node must decline the peer's newest version. A version whose transfer failed is not declined, because this node could then
   * show entries that the version hides.
   */
  #isSettling(state: PolicyLink): state is PolicyLink & { latest: PolicyHead } {
    const { latest, sentSettled, peer } = state;
    if (latest === undefined || !isNewer(latest, this.#head) || this.#isOffer(state)) return false;
    if (sentSettled !== undefined && isSamePlace(sentSettled, latest)) return false;
    return whyNot(peer) !== "" || state.tooFar !== undefined || this.#unusable.has(nameOf(latest));
  }

  #isOffer(state: PolicyLink): state is PolicyLink & { announced: PolicyHead } {
    const { announced, strikes } = state;
    if (announced === undefined || strikes >= this.#options.maxStrikes) return false;
    return isNewer(announced, this.#head) && !this.#unusable.has(nameOf(announced)) && whyNot(state.peer) === "";
  }

  /** The newest version from any peer that this node does not accept, and the reason. */
  get notTaken(): RefusedVersion | undefined {
    let newest: RefusedVersion | undefined;
    for (const { peer, announced, tooFar } of this.#links.values()) {
      const head = tooFar ?? announced;
      if (head === undefined || !isNewer(head, newest?.head ?? this.#head)) continue;
      const why = tooFar === undefined ? whyNot(peer) : `the version number exceeds this node's by more than ${MAX_NUMBER_STEP}`;
      if (why !== "") newest = { head, peer, why };
    }
    return newest;
  }

  /** Reports each head only once, because several peers announce the same one, and reports only a few heads per link. */
  #reportNotTaken(state: PolicyLink, out: FabricOutput[]): void {
    const { notTaken } = this;
    if (notTaken === undefined || isSamePlace(notTaken.head, this.#reportedNotTaken) || state.notTakenCount++ >= MAX_CONFLICTS) return;
    const { head, peer, why } = notTaken;
    this.#reportedNotTaken = head;
    const detail = { number: head.number, nodeId: head.nodeId, peerNodeId: peer.nodeId, clusterId: peer.clusterId, detail: why };
    out.push(eventOutput("policy_not_taken", "warn", detail));
  }
}
