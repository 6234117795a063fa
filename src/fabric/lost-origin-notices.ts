/** What is told of lost origins, with every exchange of tables of members (semantics.md, Orphans). */

import { bytesOfKeys, keysOfBytes, MAX_LOST_KEYS } from "../catalog/replica/lost-keys.ts";
import { applyMarks, ownMarked } from "../catalog/replica/lost-marks.ts";
import { MAX_LOST } from "../catalog/replica/lost-origins.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { FabricOutput } from "./io-types.ts";
import { isOfOurs } from "./membership/authority.ts";
import { isListed } from "./membership/members.ts";
import type { FabricHandlers, FabricPart } from "./part.ts";
import type { CallRequest, CallResponse, LostWord, MemberUpdate } from "./wire/messages.ts";

/** Keys in one answer: those of the origin that has most. */
const MAX_ANSWER_BYTES = 4 * MAX_LOST_KEYS;

export interface LostWordsParts {
  readonly replica: Replica;
  /** This node's cluster. */
  readonly clusterId: string;
  readonly members: { find(nodeId: string): MemberUpdate | undefined };
  /** Whether somebody's word that this node wrote up to that number is to be believed, though its journal has not: seldom. */
  readonly replication: { isLost(seq: number, time: Time): boolean };
}

/** Own entries looked at in one turn. */
const LOOKED_A_TURN = 250;

export class LostWords implements FabricPart {
  readonly #parts: LostWordsParts;
  readonly #replica: Replica;
  /** Own entries above this number are still to be looked at: a mark may hide them. */
  #after: number | undefined;

  readonly handle: FabricHandlers = {
    called: ({ request, identity }, time, out) => this.heard(request, identity.certificate?.clusterId, time, out),
    replied: ({ response }, time, out) => this.heard(response, undefined, time, out),
  };

  constructor(parts: LostWordsParts) {
    this.#parts = parts;
    this.#replica = parts.replica;
    // A mark that came back with a snapshot.
    if (this.#replica.self.markedSeq > 0) this.#after = 0;
  }

  /** The same output, with what this node knows. `asked`: what it answers. */
  told<T extends Extract<FabricOutput, { kind: "call" | "answer" }>>(output: T, asked?: CallRequest): T {
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

  /** With the keys that the asker said it does not know: the rest goes with the next answer. */
  #withKeys(words: readonly LostWord[], asked: CallRequest | undefined): readonly LostWord[] {
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

  /**
   * Takes in what another node says. What a cluster has lost it knows itself: others' nodes are not heard, as they are by nobody about anything
   * of this cluster. `clusterId`: as the speaker's certificate proves it.
   */
  heard(said: CallRequest | CallResponse | undefined, clusterId: string | undefined, time: Time, out: FabricOutput[]): void {
    if (said?.kind !== "pushPull" || said.lost === undefined) return;
    const { nodeId, clusterId: named } = said.from;
    if (!isOfOurs({ clusterId: clusterId ?? named }, this.#parts.members.find(nodeId), this.#parts.clusterId)) return;
    for (const word of said.lost.slice(0, MAX_LOST)) this.#hear(word, said.from.nodeId, time, out);
    if (!applyMarks(this.#replica)) return;
    this.#after = 0;
    out.push({ kind: "changed" });
  }

  /** Some of what marks hide of this node's own is to be ended, or put again. */
  look(_time: Time, out: FabricOutput[]): void {
    if (this.#after === undefined) return;
    const { storedRecords, next } = ownMarked(this.#replica, this.#after, LOOKED_A_TURN);
    this.#after = next;
    if (storedRecords.length > 0) out.push({ kind: "superseded", keys: storedRecords.map(({ key }) => key) });
  }

  nextDeadlineMs(): number {
    return this.#after === undefined ? NEVER : 0;
  }

  #hear({ nodeId, generation, through, mark, keysThrough = 0, keys }: LostWord, peerNodeId: string, time: Time, out: FabricOutput[]): void {
    const { lost, self } = this.#replica;
    if (nodeId === self.nodeId && generation === self.generation && Math.max(through, mark) > self.through) {
      // Nobody can have forgotten what is not written yet: all that follows up to that number would be hidden everywhere.
      if (this.#parts.replication.isLost(Math.max(through, mark), time))
        out.push({ kind: "generationLost", peerNodeId, seq: Math.max(through, mark) });
      return;
    }
    const member = this.#parts.members.find(nodeId);
    const isThere = member !== undefined && isListed(member.status) && member.generation === generation;
    const isOver = member !== undefined && (member.generation > generation || member.status === "left");
    if (isOver) return;
    // Of one that is there only what stays hidden is of use; who is missing it hears it from us all.
    lost.note({ nodeId, generation, through: isThere ? mark : through, mark });
    const taken = keys === undefined ? undefined : keysOfBytes(keys, keysThrough);
    if (taken !== undefined) lost.noteKeys(`${nodeId}/${generation}`, taken);
  }
}
