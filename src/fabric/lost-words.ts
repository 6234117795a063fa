/** What is told of lost origins, with every exchange of tables of members (semantics.md, Orphans). */

import { applyMarks, ownMarked } from "../catalog/lost-marks.ts";
import { MAX_LOST } from "../catalog/lost-origins.ts";
import type { Replica } from "../catalog/replica.ts";
import { isListed } from "./members.ts";
import type { CallRequest, CallResponse, LostWord, MemberUpdate } from "./messages.ts";
import type { FabricOutput } from "./seam.ts";

export class LostWords {
  readonly #replica: Replica;
  readonly #findMember: (nodeId: string) => MemberUpdate | undefined;

  constructor(replica: Replica, findMember: (nodeId: string) => MemberUpdate | undefined) {
    this.#replica = replica;
    this.#findMember = findMember;
  }

  /** The same output, with what this node knows. */
  told<T extends Extract<FabricOutput, { kind: "call" | "answer" }>>(output: T): T {
    const { lost } = this.#replica;
    if (lost.size === 0) return output;
    if (output.kind === "call" && output.request.kind === "pushPull") return { ...output, request: { ...output.request, lost: lost.list } };
    if (output.kind === "answer" && output.response?.kind === "pushPull")
      return { ...output, response: { ...output.response, lost: lost.list } };
    return output;
  }

  /** Takes in what another node says. */
  heard(said: CallRequest | CallResponse | undefined, out: FabricOutput[]): void {
    if (said?.kind !== "pushPull" || said.lost === undefined) return;
    for (const word of said.lost.slice(0, MAX_LOST)) this.#hear(word);
    if (!applyMarks(this.#replica)) return;
    out.push({ kind: "superseded", keys: ownMarked(this.#replica).map(({ key }) => key) });
    out.push({ kind: "changed" });
  }

  #hear({ nodeId, generation, through, mark }: LostWord): void {
    const { lost } = this.#replica;
    const member = this.#findMember(nodeId);
    const isThere = member !== undefined && isListed(member.status) && member.generation === generation;
    const isOver = member !== undefined && (member.generation > generation || member.status === "left");
    if (isOver) return;
    // Of one that is there only what stays hidden is of use; who is missing it hears it from us all.
    lost.note({ nodeId, generation, through: isThere ? mark : through, mark });
  }
}
