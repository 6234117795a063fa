/**
 * Membership as a part of the fabric. It passes membership changes to the other parts, and its push-pull calls also carry the lost origins that this
 * node knows.
 */

import { bytesOfKeys, keysOfBytes, MAX_LOST_KEYS } from "../catalog/replica/lost-keys.ts";
import { applyMarks, ownMarked } from "../catalog/replica/lost-marks.ts";
import { MAX_LOST } from "../catalog/replica/lost-origins.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { BorderCount } from "./borders/border.ts";
import type { Borders } from "./borders/borders.ts";
import type { FabricOutput } from "./io-types.ts";
import type { Links } from "./links/links.ts";
import { isOwnLaterGeneration } from "./links/peer-auth.ts";
import { isListed } from "./membership/members.ts";
import type { Membership, MembershipInput } from "./membership/membership.ts";
import type { MembershipOutput } from "./membership/process-instances.ts";
import type { FabricParts } from "./options.ts";
import type { FabricHandlers, FabricPart, FabricPartList } from "./part.ts";
import type { FabricCallRequest, FabricCallResponse, LostWord, MemberFacts, MemberUpdate } from "./wire/messages.ts";

export interface MembershipPartParts {
  readonly list: FabricPartList;
  readonly membership: Membership;
  readonly lost: Pick<LostWords, "attach">;
  readonly borders: Pick<Borders, "counts">;
  readonly links: Pick<Links, "isStopping">;
}

export class MembershipPart implements FabricPart {
  readonly #rooms: MembershipPartParts;
  readonly #parts: Pick<FabricParts, "replica" | "seeds" | "self">;

  readonly handle: FabricHandlers = {
    called: (called, time, out) => {
      if (called.request.kind !== "maintain") this.give({ ...called, kind: "asked" }, time, out);
    },
    replied: (replied, time, out) => {
      if (replied.call > 0) this.give({ ...replied, kind: "answered" }, time, out);
    },
    lagged: (input, time, out) => this.give(input, time, out),
    facts: ({ facts }, time, out) => this.give({ kind: "facts", facts: withBorders(facts, this.#rooms.borders.counts) }, time, out),
    forget: (input, time, out) => this.give(input, time, out),
    borderCounts: ({ counts }, time, out) => this.#changeCounts(counts, time, out),
    up: ({ hello }, time, out) => {
      this.give({ kind: "linkUp", member: hello }, time, out);
      out.push({ kind: "linkChanged", nodeId: hello.nodeId });
    },
    down: ({ hello: { nodeId }, goodbye }, time, out) => {
      if (goodbye === undefined) this.give({ kind: "linkBroken", nodeId }, time, out);
      out.push({ kind: "linkChanged", nodeId });
    },
    memberChanged: ({ update }, _, out) => void out.push({ kind: "memberChanged", update }),
    memberForgotten: (forgotten, _, out) => void out.push(forgotten),
    ownIdUsed: ({ told: own, toldBy }, _, out) => {
      const { self, replica } = this.#parts;
      if (isOwnLaterGeneration(own, { address: self.address, generation: replica.self.generation }))
        out.push({ kind: "generationLost", peerNodeId: toldBy, seq: 0, above: own.generation });
    },
  };

  constructor(rooms: MembershipPartParts, parts: Pick<FabricParts, "replica" | "seeds" | "self">) {
    this.#rooms = rooms;
    this.#parts = parts;
  }

  begin(time: Time, out: FabricOutput[]): void {
    const { seeds } = this.#parts;
    if (seeds.length > 0) this.give({ kind: "join", addresses: seeds }, time, out);
  }

  look(time: Time, out: FabricOutput[]): void {
    if (time.monoMs >= this.nextDeadlineMs()) this.give({ kind: "tick" }, time, out);
  }

  nextDeadlineMs(): number {
    return this.#rooms.membership.nextDeadlineMs();
  }

  give(input: MembershipInput, time: Time, out: FabricOutput[]): void {
    const { membership, lost, list } = this.#rooms;
    const outputs: MembershipOutput[] = [];
    const own = membership.find(this.#parts.self.nodeId);
    membership.handle(input, time, outputs);
    if (membership.find(this.#parts.self.nodeId) !== own) out.push({ kind: "selfChanged" });
    const request = input.kind === "asked" ? input.request : undefined;
    for (const output of outputs) {
      if (output.kind === "call" || output.kind === "answer") out.push(lost.attach(output, request));
      else list.deliver(output, time, out);
    }
    if (outputs.some(({ kind }) => kind === "memberChanged")) list.deliver({ kind: "members" }, time, out);
  }

  #changeCounts(counts: readonly BorderCount[], time: Time, out: FabricOutput[]): void {
    const own = this.#rooms.membership.find(this.#parts.self.nodeId);
    if (own === undefined || this.#rooms.links.isStopping) return;
    const { status: _status, incarnation: _incarnation, accuser: _accuser, ...facts } = own;
    this.give({ kind: "facts", facts: withBorders(facts, counts) }, time, out);
  }
}

/** Adds the border counts to this node's facts. A node without borders omits them. */
export function withBorders(facts: MemberFacts, borders: readonly BorderCount[]): MemberFacts {
  return borders.length === 0 ? facts : { ...facts, borders };
}

// Lost origins are sent with every push-pull exchange (semantics.md, Orphans).
/** Maximum size of the keys in one response: enough for the origin with the most keys. */
const MAX_ANSWER_BYTES = 4 * MAX_LOST_KEYS;

interface LostWordsParts {
  readonly replica: Replica;
  /** This node's cluster. */
  readonly clusterId: string;
  readonly members: { find(nodeId: string): MemberUpdate | undefined };
  /** Whether to believe a peer that reports that this node wrote records up to that number, although they are not in its journal. This is rare. */
  readonly replication: { isLost(seq: number, time: Time): boolean };
}

/** Number of own entries that are checked in one step. */
const LOOKED_A_TURN = 250;

export class LostWords implements FabricPart {
  readonly #parts: LostWordsParts;
  readonly #replica: Replica;
  /** Own entries above this number must still be checked, because they may be hidden by a watermark. Undefined when no check is running. */
  #after: number | undefined;

  readonly handle: FabricHandlers = {
    called: ({ request }, time, out) => this.receive(request, time, out),
    replied: ({ response }, time, out) => this.receive(response, time, out),
  };

  constructor(parts: LostWordsParts) {
    this.#parts = parts;
    this.#replica = parts.replica;
    // The watermark was restored from a snapshot.
    if (this.#replica.self.markedSeq > 0) this.#after = 0;
  }

  /** Adds the lost origins that this node knows to a push-pull request or response. `asked`: the request to which the response belongs. */
  attach<T extends Extract<FabricOutput, { kind: "call" | "answer" }>>(output: T, asked?: FabricCallRequest): T {
    const { lost } = this.#replica;
    if (lost.size === 0) return output;
    const words = lost.list.map((word) => this.#withNumber(word));
    if (output.kind === "call" && output.request.kind === "pushPull")
      return { ...output, request: { ...output.request, lost: words, takesLostKeys: lost.hasRoomForKeys } };
    if (output.kind === "answer" && output.response?.kind === "pushPull")
      return { ...output, response: { ...output.response, lost: this.#withKeys(words, asked) } };
    return output;
  }

  #withNumber(word: LostWord): LostWord {
    const keys = this.#replica.lost.keysOf(`${word.nodeId}/${word.generation}`);
    return keys === undefined ? word : { ...word, keysThrough: keys.through };
  }

  /** Adds the keys that the caller does not have, up to `MAX_ANSWER_BYTES`. The remaining keys are sent in a later response. */
  #withKeys(words: readonly LostWord[], asked: FabricCallRequest | undefined): readonly LostWord[] {
    if (asked?.kind !== "pushPull" || asked.takesLostKeys !== true) return words;
    const known = new Map((asked.lost ?? []).map(({ nodeId, generation, keysThrough = 0 }) => [`${nodeId}/${generation}`, keysThrough]));
    let leftBytes = MAX_ANSWER_BYTES;
    return words.map((word) => {
      const id = `${word.nodeId}/${word.generation}`;
      const keys = this.#replica.lost.keysOf(id);
      if (keys === undefined || keys.through <= (known.get(id) ?? 0) || keys.hashes.byteLength > leftBytes) return word;
      leftBytes -= keys.hashes.byteLength;
      return { ...word, keys: bytesOfKeys(keys) };
    });
  }

  /** Handles the lost origins that another node sent. Reports from other clusters are ignored, because each cluster tracks its own lost origins. */
  receive(message: FabricCallRequest | FabricCallResponse | undefined, time: Time, out: FabricOutput[]): void {
    if (message?.kind !== "pushPull" || message.lost === undefined) return;
    if (message.from.clusterId !== this.#parts.clusterId) return;
    for (const word of message.lost.slice(0, MAX_LOST)) this.#learn(word, message.from.nodeId, time, out);
    if (!applyMarks(this.#replica)) return;
    this.#after = 0;
    out.push({ kind: "changed" });
  }

  /** Reports own entries that are hidden by a watermark, so that the driver removes them or writes them again. */
  look(_time: Time, out: FabricOutput[]): void {
    if (this.#after === undefined) return;
    const { storedRecords, next } = ownMarked(this.#replica, this.#after, LOOKED_A_TURN);
    this.#after = next;
    if (storedRecords.length > 0) out.push({ kind: "superseded", keys: storedRecords.map(({ key }) => key) });
  }

  nextDeadlineMs(): number {
    return this.#after === undefined ? NEVER : 0;
  }

  #learn(
    { nodeId, generation, through, mark, keysThrough = 0, keys }: LostWord,
    peerNodeId: string,
    time: Time,
    out: FabricOutput[],
  ): void {
    const { lost, self } = this.#replica;
    if (nodeId === self.nodeId && generation === self.generation && Math.max(through, mark) > self.through) {
      // An unwritten record cannot be lost. If this report were accepted, all later records up to that number would be hidden everywhere.
      if (this.#parts.replication.isLost(Math.max(through, mark), time))
        out.push({ kind: "generationLost", peerNodeId, seq: Math.max(through, mark) });
      return;
    }
    const member = this.#parts.members.find(nodeId);
    const isThere = member !== undefined && isListed(member.status) && member.generation === generation;
    const isOver = member !== undefined && (member.generation > generation || member.status === "left");
    if (isOver) return;
    // For a node that is present, only the watermark is recorded, and records up to the watermark stay hidden. A node that lacks the origin's records
    // gets them from all others.
    lost.note({ nodeId, generation, through: isThere ? mark : through, mark });
    const taken = keys === undefined ? undefined : keysOfBytes(keys, keysThrough);
    if (taken !== undefined) lost.noteKeys(`${nodeId}/${generation}`, taken);
  }
}
